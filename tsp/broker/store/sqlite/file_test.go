package sqlite

import (
	"bytes"
	"database/sql"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"sixin4/tsp/broker/store"
	"sixin4/tsp/broker/store/storetest"
	"sixin4/tsp/sasl"
)

func open(t testing.TB, path string, cfg store.Config) store.Store {
	t.Helper()
	s, err := Open(t.Context(), Config{Config: cfg, Path: path})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// TestFiles: nobody else may read them, and the digest is not to be read at all.
func TestFiles(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tspd.db")
	k, err := store.NewKey(make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	s := open(t, path, store.Config{Key: k})
	digest := sasl.NewDigest("ann", "realm", "secret")
	if _, err := s.AddUser(t.Context(), store.User{Name: "ann", Legacy: true, Digest: &digest}); err != nil {
		t.Fatal(err)
	}
	files, _ := filepath.Glob(path + "*")
	if len(files) != 3 { // with -wal and -shm
		t.Errorf("files %v", files)
	}
	for _, name := range files {
		info, err := os.Stat(name)
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", name, info, err)
		}
		content, err := os.ReadFile(name)
		if err != nil || bytes.Contains(content, digest[:]) || bytes.Contains(content, []byte("secret")) {
			t.Errorf("%s has the digest, %v", name, err)
		}
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if files, _ := filepath.Glob(path + "*"); len(files) != 1 {
		t.Errorf("after closing: %v", files)
	}
}

func TestOpenFails(t *testing.T) {
	dir := t.TempDir()
	garbage := filepath.Join(dir, "garbage")
	if err := os.WriteFile(garbage, []byte(strings.Repeat("not a database ", 1000)), 0o600); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name, path string
		pool       string
		want       string
	}{
		{"no directory", filepath.Join(dir, "no", "tspd.db"), "2001:db8::/36", "no such file"},
		{"a directory", dir, "2001:db8::/36", "is a directory"},
		{"garbage", garbage, "2001:db8::/36", "not a database"},
		{"bad pool", filepath.Join(dir, "tspd.db"), "2001::/8", "/20 to /64"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Open(t.Context(), Config{Path: tt.path, Config: store.Config{Pool: netip.MustParsePrefix(tt.pool)}})
			if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), tt.path) {
				t.Errorf("error %v, want %q", err, tt.want)
			}
		})
	}
}

// tamper runs a statement behind the store's back.
func tamper(t *testing.T, path, statement string) error {
	t.Helper()
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	_, err = db.ExecContext(t.Context(), statement)
	return err
}

func TestNewerVersion(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tspd.db")
	open(t, path, store.Config{}).Close()
	if err := tamper(t, path, `INSERT INTO goose_db_version (version_id, is_applied) VALUES (99, 1)`); err != nil {
		t.Fatal(err)
	}
	_, err := Open(t.Context(), Config{Path: path})
	if !errors.Is(err, store.ErrNewer) || !strings.Contains(err.Error(), "99") {
		t.Errorf("error %v", err)
	}
}

// TestDatabaseRefuses: the promises are kept by the database, whatever the program does.
func TestDatabaseRefuses(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tspd.db")
	s := open(t, path, store.Config{Pool: storetest.Pool})
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
	block := func(first, last string) string {
		return `INSERT INTO blocks VALUES ('x', x'` + first + `', x'` + last + `')`
	}
	const zero, ones = "0000000000000000", "ffffffffffffffff"
	tests := []struct {
		name, statement, want string // want "" means that it is accepted
	}{
		{"the same", block("20010db810010000"+zero, "20010db81001ffff"+ones), "overlaps"},
		{"inside, at the beginning", block("20010db810010000"+zero, "20010db810010000"+ones), "overlaps"},
		{"inside, at the end", block("20010db81001ffff"+zero, "20010db81001ffff"+ones), "overlaps"},
		{"around", block("20010db810000000"+zero, "20010db81001ffff"+ones), "overlaps"},
		{"around both", block("20010db810000000"+zero, "20010db81fffffff"+ones), "overlaps"},
		{"end inside", block("20010db810008000"+zero, "20010db810010000"+zero), "overlaps"},
		{"backwards", block("30000db810008000"+zero, "20010db810010000"+zero), "CHECK"},
		{"moved", `UPDATE blocks SET first = last`, "never change"},
		{"lease elsewhere", `UPDATE leases SET client6 = '2001:db8::9'`, "FOREIGN KEY"},
		{"two of one prefix", `INSERT INTO leases SELECT 'y', user_id, client6, server6, prefix, type, outer4, node,
			epoch, state, created, changed, last_seen, expires, local4, merged FROM leases`, "UNIQUE"},
		{"state", `UPDATE leases SET state = 'x'`, "CHECK"},
		{"user of a lease", `DELETE FROM users`, "FOREIGN KEY"},
		{"blocks of a lease", `DELETE FROM blocks`, "FOREIGN KEY"},
		{"history", `UPDATE history SET at = 0`, "never changes"},
		{"before", block("20010db810000001"+zero, "20010db81000ffff"+ones), ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := tamper(t, path+"?_pragma=foreign_keys(1)", tt.statement)
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("error %v, want %q", err, tt.want)
			}
		})
	}
}

// TestOpenAtOnce: many start on a new file.
func TestOpenAtOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tspd.db")
	var wg sync.WaitGroup
	for range 6 {
		wg.Go(func() {
			s, err := Open(t.Context(), Config{Path: path, Config: store.Config{Pool: storetest.Pool}})
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
