package storetest

import "testing"

// Postgres starts a PostgreSQL server until the end of the test, on a socket in a
// temporary directory, and returns what makes an empty database and says its DSN. The
// test is skipped when PostgreSQL is not installed. A server does not run as root: then
// it runs as the user postgres or nobody.
func Postgres(t testing.TB) func(t testing.TB) (dsn string) {
	t.Helper()
	return startPostgres(t)
}
