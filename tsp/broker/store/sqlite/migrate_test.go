package sqlite

import (
	"database/sql"
	"io/fs"
	"path/filepath"
	"testing"
	"time"

	"github.com/pressly/goose/v3"

	"sixin4/tsp/broker/store"
)

// TestMigrateUsers: users of the first version are there afterwards, without an e-mail
// and as no operators. E-mails of the second are not confirmed, its links are as they were.
// Of sessions of the third nobody knows where they ended here, nor that they take merged TCP.
func TestMigrateUsers(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tspd.db")
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		t.Fatal(err)
	}
	p, err := goose.NewProvider(goose.DialectSQLite3, db, files)
	if err == nil {
		_, err = p.UpTo(t.Context(), 1)
	}
	if err == nil {
		_, err = db.Exec(`INSERT INTO users (id, name, salt, iterations, stored_key, server_key, legacy, prefix_len, max_tunnels, disabled, created)
			VALUES ('u', 'ann', x'00', 4096, x'01', x'02', 0, 48, 1, 0, 1)`)
	}
	if err == nil {
		_, err = p.UpTo(t.Context(), 2)
	}
	if err == nil {
		_, err = db.Exec(`INSERT INTO users (id, name, salt, iterations, stored_key, server_key, legacy, prefix_len, max_tunnels, disabled, created, email)
			VALUES ('b', 'bob', x'00', 4096, x'01', x'02', 0, 0, 1, 0, 1, 'x@example.net')`)
	}
	if err == nil {
		_, err = db.Exec(`INSERT INTO signups (id, name, email, token, approved, prefix_len, max_tunnels, created, expires) VALUES
			('s', 'sue', 's@example.net', x'0000000000000000000000000000000000000000000000000000000000000001', 1, 64, 1, $1, $1 + 86400000000),
			('t', 'tom', 't@example.net', x'0000000000000000000000000000000000000000000000000000000000000002', 1, 64, 1, $1, $1 + 30*86400000000)`,
			time.Now().UnixMicro())
	}
	if err == nil {
		_, err = p.UpTo(t.Context(), 3)
	}
	if err == nil {
		_, err = db.Exec(`INSERT INTO blocks VALUES ('2001:db8::2', x'20010db8000000000000000000000002', x'20010db8000000000000000000000002');
			INSERT INTO leases VALUES ('l', 'u', '2001:db8::2', '2001:db8::1', NULL, 'v6udpv4', '192.0.2.1:4711', 'n', 1, 'up', 1, 1, 1, 0)`)
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	s, err := Open(t.Context(), Config{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	u, err := s.UserByName(t.Context(), "ann")
	if err != nil || u.PrefixLen != 48 || u.Email != "" || u.Operator {
		t.Errorf("%+v, %v", u, err)
	}
	if u, err := s.UserByName(t.Context(), "bob"); err != nil || u.Email != "x@example.net" || u.Confirmed {
		t.Errorf("%+v, %v: an e-mail that nobody has confirmed", u, err)
	}
	if l, err := s.Lease(t.Context(), "l"); err != nil || l.Outer.Port() != 4711 || l.Local.IsValid() || l.Merged {
		t.Errorf("%+v, %v", l, err)
	}
	for token, mailed := range map[byte]bool{1: true, 2: false} {
		v, err := s.SignupByToken(t.Context(), append(make([]byte, 31), token))
		if err != nil || v.Mailed != mailed || v.Opened {
			t.Errorf("sign-up %d: %+v, %v, want mailed %v", token, v, err, mailed)
		}
	}
	if _, err := s.UpdateUser(t.Context(), "u", func(u *store.User) error { u.Operator = true; return nil }); err != nil {
		t.Error(err)
	}
}
