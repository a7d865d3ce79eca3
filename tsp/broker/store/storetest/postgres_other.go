//go:build !unix

package storetest

import "testing"

func startPostgres(t testing.TB) func(testing.TB) string {
	t.Skip("system: unix")
	return nil
}
