package postgres

import (
	"context"
	"database/sql"
	"errors"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"sixin4/tsp/broker/store"
	"sixin4/tsp/broker/store/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestPostgres(t *testing.T) {
	database := storetest.Postgres(t)
	t.Run("store", func(t *testing.T) {
		storetest.Run(t, func(t testing.TB) storetest.Opener {
			dsn := database(t)
			return func(ctx context.Context, cfg store.Config) (store.Store, error) {
				return Open(ctx, Config{Config: cfg, DSN: dsn})
			}
		})
	})
	t.Run("newer version", func(t *testing.T) { testNewer(t, database(t)) })
	t.Run("migrate", func(t *testing.T) { testMigrate(t, database(t)) })
	t.Run("database refuses", func(t *testing.T) { testRefuses(t, database(t)) })
	t.Run("open at once", func(t *testing.T) { testOpenAtOnce(t, database(t)) })
	t.Run("no server", testNoServer)
}

func open(t testing.TB, dsn string) store.Store {
	t.Helper()
	s, err := Open(t.Context(), Config{DSN: dsn, Config: store.Config{Pool: storetest.Pool}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// tamper runs a statement behind the store's back.
func tamper(t *testing.T, dsn, statement string) error {
	t.Helper()
	db, err := sql.Open("pgx", dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	_, err = db.ExecContext(t.Context(), statement)
	return err
}

func testNewer(t *testing.T, dsn string) {
	open(t, dsn).Close()
	if err := tamper(t, dsn, `INSERT INTO goose_db_version (version_id, is_applied) VALUES (99, true)`); err != nil {
		t.Fatal(err)
	}
	_, err := Open(t.Context(), Config{DSN: dsn})
	if !errors.Is(err, store.ErrNewer) || !strings.Contains(err.Error(), "99") {
		t.Errorf("error %v", err)
	}
}

// testMigrate: a lease of before it was on record where it ended here.
func testMigrate(t *testing.T, dsn string) {
	s := open(t, dsn)
	l, err := s.Reserve(t.Context(), store.Want{Expires: time.Now().Add(time.Hour)})
	if err == nil {
		_, err = s.Activate(t.Context(), store.Activation{
			ID: l.ID, Epoch: l.Epoch, Outer: netip.MustParseAddrPort("192.0.2.1:4711"),
			Local: netip.MustParseAddrPort("198.51.100.2:443"), Merged: true, Expires: time.Now().Add(time.Hour),
		})
	}
	s.Close()
	for _, statement := range []string{
		`ALTER TABLE leases DROP COLUMN local4, DROP COLUMN merged`,
		`DELETE FROM goose_db_version WHERE version_id >= 4`,
	} {
		if err == nil {
			err = tamper(t, dsn, statement)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	if l, err := open(t, dsn).Lease(t.Context(), l.ID); err != nil || l.Outer.Port() != 4711 || l.Local.IsValid() || l.Merged {
		t.Errorf("%+v, %v", l, err)
	}
}

// testRefuses: the promises are kept by the database, whatever the program does.
func testRefuses(t *testing.T, dsn string) {
	s := open(t, dsn)
	u, err := s.AddUser(t.Context(), store.User{Name: "ann"})
	if err != nil {
		t.Fatal(err)
	}
	l, err := s.Reserve(t.Context(), store.Want{UserID: u.ID, PrefixLen: 48}) // 2001:db8:1001::/48
	if err == nil {
		_, err = s.Activate(t.Context(), store.Activation{ID: l.ID, Epoch: l.Epoch})
	}
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name, statement, want string // want "" means that it is accepted
	}{
		{"the same", `INSERT INTO blocks VALUES ('2001:db8:1001:0::/48')`, "blocks_disjoint"},
		{"inside", `INSERT INTO blocks VALUES ('2001:db8:1001:ffff::/64')`, "blocks_disjoint"},
		{"an address inside", `INSERT INTO blocks VALUES ('2001:db8:1001::7')`, "blocks_disjoint"},
		{"around", `INSERT INTO blocks VALUES ('2001:db8:1000::/36')`, "blocks_disjoint"},
		{"no block", `INSERT INTO blocks VALUES ('x')`, "inet"},
		{"moved", `UPDATE blocks SET block = '2001:db8:2000::/48'`, "never changes"},
		{"lease elsewhere", `UPDATE leases SET client6 = '2001:db8::9'`, "foreign key"},
		{"two of one prefix", `INSERT INTO leases SELECT 'y', user_id, client6, server6, prefix, type, outer4, node,
			epoch, state, created, changed, last_seen, expires, local4, merged FROM leases`, "unique"},
		{"state", `UPDATE leases SET state = 'x'`, "check constraint"},
		{"user of a lease", `DELETE FROM users`, "foreign key"},
		{"blocks of a lease", `DELETE FROM blocks`, "foreign key"},
		{"history", `UPDATE history SET at = 0`, "never changes"},
		{"beside", `INSERT INTO blocks VALUES ('2001:db8:1002::/48')`, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := tamper(t, dsn, tt.statement)
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("error %v, want %q", err, tt.want)
			}
		})
	}
}

func testOpenAtOnce(t *testing.T, dsn string) {
	var wg sync.WaitGroup
	for range 6 {
		wg.Go(func() {
			s, err := Open(t.Context(), Config{DSN: dsn, Conns: 2, Config: store.Config{Pool: netip.MustParsePrefix("2001:db8::/36")}})
			if err != nil {
				t.Error(err)
				return
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

func testNoServer(t *testing.T) {
	for _, dsn := range []string{"host=" + t.TempDir() + " dbname=x password=secret", "postgres://x:secret@[bad/"} {
		_, err := Open(t.Context(), Config{DSN: dsn})
		if err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", dsn, err)
		}
	}
}
