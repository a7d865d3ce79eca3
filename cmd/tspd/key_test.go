package main

import (
	"os"
	"strings"
	"testing"

	"sixin4/cmd/internal/config"
	databases "sixin4/cmd/internal/database"
	"sixin4/cmd/internal/exit"
)

// legacyDigest is what is stored for DIGEST-MD5 of a user, "" for nothing.
func (d *desk) legacyDigest(name string) string {
	s := d.open()
	defer s.Close()
	u := d.user(s, name)
	if u.Digest == nil {
		return ""
	}
	return string(u.Digest[:])
}

func TestKeyReplace(t *testing.T) {
	d := newDesk(t)
	t.Setenv("SIXIN4_PASSWORD", password)
	d.run("user add alice --legacy-login --iterations 4096")
	d.run("user add bob --iterations 4096")
	before, digest := d.read("tspd.key"), d.legacyDigest("alice")
	d.says("key replace", "the new key is in DIR/tspd.key: back it up, but not beside the database\n"+
		"DIR/tspd.key.old is the one of before, for backups of the database\n")
	if d.read("tspd.key") == before || d.read("tspd.key.old") != before || digest == "" || d.legacyDigest("alice") != digest {
		t.Error("alice's hash is not what it was, under another key")
	}
	const keepOld = "DIR/tspd.key.old is the key of before the last replacement, for backups of that time: move it to where they are"
	d.fails("key replace", exit.Config, keepOld)

	for _, lost := range []func() error{
		func() error { return os.Remove(d.path("tspd.key")) },
		func() error { return os.WriteFile(d.path("tspd.key"), []byte(strings.Repeat("x", 32)), 0o600) },
	} {
		if err := os.Remove(d.path("tspd.key.old")); err != nil {
			t.Fatal(err)
		}
		if err := lost(); err != nil {
			t.Fatal(err)
		}
		d.fails("key replace", exit.Config, "the key of the database is not in DIR/tspd.key: put it there, or go on --without-old-key; "+
			"then these need their password set anew for DIGEST-MD5: alice")
		out := d.run("key replace --without-old-key")
		if strings.Contains(out, "set anew: alice") != (digest != "") || d.legacyDigest("alice") != "" {
			t.Errorf("output %s, digest %q", out, d.legacyDigest("alice"))
		}
		digest = "" // the second time nobody has one
		if _, err := os.Stat(d.path("tspd.key.old")); err != nil {
			d.write("tspd.key.old", "")
		}
	}
	if err := os.Remove(d.path("tspd.key.old")); err != nil {
		t.Fatal(err)
	}
	d.run("user password alice --legacy-login --iterations 4096")
	if d.legacyDigest("alice") == "" {
		t.Error("no hash under the new key")
	}
	d.write("tspd.key.new", "")
	d.fails("key replace", exit.Config, "DIR/tspd.key.new is of a replacement that was cut short: it is the key if the one in place is not; move it there or remove it")
	unlock, err := databases.Lock(config.Store{State: d.path("tspd.db")})
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	d.fails("key replace", exit.TryAgain, "database DIR/tspd.db: a broker runs on it already; it is for one, several share one of PostgreSQL")
}

func (d *desk) read(name string) string {
	d.t.Helper()
	b, err := os.ReadFile(d.path(name))
	if err != nil {
		d.t.Fatal(err)
	}
	return string(b)
}
