package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"reflect"
	"strings"
	"testing"

	"sixin4/cmd/internal/exit"
	"sixin4/tsp/broker/store"
	"sixin4/tsp/sasl"
)

const (
	password = "correct-horse-battery"
	another  = "another-horse-battery"
)

// hasPassword checks what is stored of a password.
func hasPassword(t *testing.T, u store.User, password, realm string) {
	t.Helper()
	want, err := sasl.NewScramKeys(u.Name, password, u.Scram.Salt, u.Scram.Iterations)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(u.Scram, want) {
		t.Errorf("%s has not the password %q", u.Name, password)
	}
	switch {
	case !u.Legacy && u.Digest != nil:
		t.Errorf("%s has a digest without legacy login", u.Name)
	case u.Legacy && (u.Digest == nil || *u.Digest != sasl.NewDigest(u.Name, realm, password)):
		t.Errorf("%s has not the digest of %q", u.Name, password)
	}
}

// TestUsers goes through the life of users while a broker has the database open.
func TestUsers(t *testing.T) {
	d := newDesk(t)
	broker := d.open()
	d.write("one", password+"\n")
	d.write("two", another+"\r\nsecond line\n")

	d.says("user add alice --password-file DIR/one --prefix-length 48 --iterations 4096", "added alice: prefix /48, 1 tunnel\n")
	d.says("user add bob --password-file DIR/two --max-tunnels 3 --legacy-login --realm example.net --iterations 5000",
		"added bob: no prefix, 3 tunnels, legacy login\n"+
			"legacy login: a hash that is as good as the password is in the database, encrypted with DIR/tspd.key\n")
	alice, bob := d.user(broker, "alice"), d.user(broker, "bob")
	hasPassword(t, alice, password, "")
	hasPassword(t, bob, another, "example.net")
	if alice.PrefixLen != 48 || alice.MaxTunnels != 1 || alice.Scram.Iterations != 4096 || bob.MaxTunnels != 3 || !bob.Legacy {
		t.Errorf("stored are %+v and %+v", alice, bob)
	}

	d.says("user set alice --prefix-length 56 --max-tunnels 2", "changed alice: prefix /56, 2 tunnels\n")
	d.says("user disable alice", "disabled alice: prefix /56, 2 tunnels, disabled\n")
	if u := d.user(broker, "alice"); !u.Disabled || u.PrefixLen != 56 || u.MaxTunnels != 2 {
		t.Errorf("stored is %+v", u)
	}
	d.says("user enable alice", "enabled alice: prefix /56, 2 tunnels\n")
	d.says("user password alice --password-file DIR/two --iterations 4096", "changed the password of alice\n")
	hasPassword(t, d.user(broker, "alice"), another, "")
	d.says("user password bob --password-file DIR/one --iterations 4096",
		"changed the password of bob\nlegacy login: a hash that is as good as the password is in the database, encrypted with DIR/tspd.key\n")
	hasPassword(t, d.user(broker, "bob"), password, "sixin4")
	d.says("user set bob --legacy-login=false", "changed bob: no prefix, 3 tunnels\n")
	hasPassword(t, d.user(broker, "bob"), password, "")
	d.says("user remove bob", "removed bob\n")
	if _, err := broker.UserByName(t.Context(), "bob"); err == nil {
		t.Error("bob is still there")
	}
}

func TestUserList(t *testing.T) {
	d := newDesk(t)
	t.Setenv("SIXIN4_PASSWORD", password)
	for _, u := range []string{"bob --legacy-login", "alice --prefix-length 48"} {
		d.run("user add " + u + " --iterations 4096")
	}
	t.Setenv("SIXIN4_PASSWORD", "")
	broker := d.open()
	d.begin(broker, d.user(broker, "alice"), "192.0.2.1:3653")

	list := d.run("user list")
	lines := strings.Split(list, "\n")
	if len(lines) != 4 || !strings.HasPrefix(lines[0], "NAME ") || !strings.HasPrefix(lines[1], "alice ") ||
		!strings.HasSuffix(lines[2], " no prefix, 1 tunnel, legacy login") {
		t.Errorf("list:\n%s", list)
	}
	show := d.run("user show alice")
	for _, want := range []string{
		"alice: prefix /48, 1 tunnel\n", "SCRAM-SHA-256, 4096 iterations\n",
		"  tunnel   2001:db8:1000::2, prefix 2001:db8:1001::/48, up from 192.0.2.1, seen ",
	} {
		if !strings.Contains(show, want) {
			t.Errorf("show has no %q:\n%s", want, show)
		}
	}
	if show := d.run("user show bob"); !strings.Contains(show, "SCRAM-SHA-256, DIGEST-MD5, PLAIN, 4096 iterations\n") {
		t.Errorf("show:\n%s", show)
	}

	var all struct{ Users []map[string]any }
	if err := json.Unmarshal([]byte(d.run("user list --json")), &all); err != nil || len(all.Users) != 2 {
		t.Fatalf("%v, %v", all, err)
	}
	if u := all.Users[1]; u["name"] != "bob" || u["legacy_login"] != true || u["prefix_length"] != 0. || u["disabled"] != false {
		t.Errorf("bob is %v", u)
	}
	var one struct {
		ID      string
		Tunnels []map[string]any
	}
	if err := json.Unmarshal([]byte(d.run("user show alice --json")), &one); err != nil || len(one.Tunnels) != 1 {
		t.Fatalf("%v, %v", one, err)
	}
	if one.ID != d.user(broker, "alice").ID || one.Tunnels[0]["prefix"] != "2001:db8:1001::/48" || one.Tunnels[0]["user"] != "alice" {
		t.Errorf("alice is %v", one)
	}
}

// TestNothingSecret: neither the password nor the hash that is as good is in any file
// as it is.
func TestNothingSecret(t *testing.T) {
	d := newDesk(t)
	t.Setenv("SIXIN4_PASSWORD", password)
	d.run("user add alice --legacy-login --iterations 4096")
	t.Setenv("SIXIN4_PASSWORD", "")
	digest := sasl.NewDigest("alice", "sixin4", password)
	files, err := os.ReadDir(d.dir)
	if err != nil || len(files) < 2 {
		t.Fatalf("%v, %v", files, err)
	}
	for _, f := range files {
		data, err := os.ReadFile(d.path(f.Name()))
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(data, []byte(password)) || bytes.Contains(data, digest[:]) {
			t.Errorf("%s has the secret", f.Name())
		}
		if info, err := f.Info(); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", f.Name(), info.Mode(), err)
		}
	}
	for _, args := range []string{"user list --json", "user show alice --json", "user show alice"} {
		if out := d.run(args); strings.Contains(out, password) {
			t.Errorf("%s prints the password", args)
		}
	}
}

func TestUserErrors(t *testing.T) {
	d := newDesk(t)
	for name, text := range map[string]string{
		"good": password + "\n", "empty": "", "none": "\n", "short": "sesame7\n", "name": "Christopher\n",
		"long": strings.Repeat("x", 129), "control": "tab\there and there\n", "latin1": "caf\xe9-caf\xe9-caf\xe9\n", "bidi": "abcdefgh\u06271\n",
	} {
		d.write(name, text)
	}
	d.run("user add alice --password-file DIR/good --iterations 4096")
	d.run("user add legacy --password-file DIR/good --legacy-login --iterations 4096 --key-file DIR/other.key")
	long := strings.Repeat("x", 254)
	const file = "--password-file DIR/"
	for _, tt := range []struct {
		args string
		code int
		want string
	}{
		{"user add alice " + file + "good", exit.Failure, `user "alice" exists already (tspd user set and tspd user password change it)`},
		{"user add " + long + " " + file + "good", exit.Usage, `user "` + long + `": 254 bytes long; at most 253`},
		{"user add a:b " + file + "good", exit.Usage, `user "a:b": has a colon in it, which ends a name where a password follows it`},
		{"user add a\x01b " + file + "good", exit.Usage, `user "a\x01b": has a control character in it`},
		{"user add caf\xe9 " + file + "good", exit.Usage, `user "caf\xe9": not UTF-8`},
		{"user add ﬁve " + file + "good", exit.Usage, `user "ﬁve": clients send it as five; give it in that spelling`},
		{"user add a\u0627b " + file + "good", exit.Usage, "user \"a\u0627b\": has a character that clients cannot send"},
		{"user add bob", exit.Usage, "no password: give --password-file FILE, or set SIXIN4_PASSWORD"},
		{"user add bob " + file + "missing", exit.Usage, "--password-file DIR/missing: no such file or directory"},
		{"user add bob " + file + "empty", exit.Usage, "--password-file DIR/empty: the file is empty; its first line is the password"},
		{"user add bob " + file + "none", exit.Usage, "--password-file DIR/none: the password is empty"},
		{"user add bob " + file + "short", exit.Usage, "--password-file DIR/short: the password has 7 characters; at least 8"},
		{"user add bob " + file + "long", exit.Usage, "--password-file DIR/long: the password has 129 bytes; at most 128"},
		{"user add bob " + file + "control", exit.Usage, "--password-file DIR/control: the password has a control character in it"},
		{"user add bob " + file + "latin1", exit.Usage, "--password-file DIR/latin1: the password is not UTF-8"},
		{"user add christopher " + file + "name", exit.Usage, "--password-file DIR/name: the password is the name of the user"},
		{"user add bob " + file + "good --prefix-length 47", exit.Usage, "--prefix-length 47: out of range; 48 to 64, or 0 for no prefix"},
		{"user add bob " + file + "good --prefix-length 65", exit.Usage, "--prefix-length 65: out of range; 48 to 64, or 0 for no prefix"},
		{"user add bob " + file + "good --prefix-length /48", exit.Usage, "--prefix-length /48: not a number; 48 to 64, or 0 for no prefix"},
		{"user add bob " + file + "good --max-tunnels 0", exit.Usage, "--max-tunnels 0: out of range; 1 to 1000"},
		{"user add bob " + file + "good --legacy-login=maybe", exit.Usage, "--legacy-login maybe: neither true nor false"},
		{"user add bob " + file + "good --iterations 1", exit.Usage, "--iterations 1: out of range; 4096 to 1000000; 100000 is usual, more is harder to guess and slower to log in with"},
		{"user add bob " + file + "good --realm a_b", exit.Usage, "--realm a_b: letters, digits, dots and hyphens only: there are clients that read no more"},
		{"user add bob " + file + "good --key-file DIR/tspd.db", exit.Usage, "--key-file DIR/tspd.db: the database itself; a file of its own belongs here"},
		{"user add bob " + file + "good --legacy-login --key-file DIR/no/tspd.key", exit.Failure, "make key file: open DIR/no/.key-"},
		{"user add bob " + file + "good --legacy-login", exit.Config, "database DIR/tspd.db: open store: the database was encrypted with another key: decrypt: wrong or missing key; " +
			"the key file DIR/tspd.key is lost: put the right one there, or have tspd key replace make a new one, which says whose passwords must be set anew"},
		{"user show alcie", exit.Failure, `no user "alcie"; the nearest is alice`},
		{"user remove somebody-else", exit.Failure, `no user "somebody-else" (tspd user list shows them)`},
		{"user set alice", exit.Usage, "set: what? --prefix-length, --max-tunnels, --operator or --legacy-login=false"},
		{"user set alice --legacy-login", exit.Usage, "--legacy-login: needs the password: tspd user password NAME --legacy-login --password-file FILE"},
		{"user password legacy " + file + "good --key-file DIR/lost.key", exit.Config, `user "legacy" has legacy login, but there is no key file DIR/lost.key: wrong or missing key (--key-file says where it is, --legacy-login=false goes without)`},
		{"user list --key-file DIR/short", exit.Config, "key file DIR/short: key: wrong or missing key: 8 bytes instead of 32"},
	} {
		t.Run(tt.args, func(t *testing.T) {
			d.t = t
			if strings.HasSuffix(tt.want, ".key-") { // a random name follows
				code, _, stderr := tspd(d.line(tt.args)...)
				if !strings.HasPrefix(strings.ReplaceAll(stderr, d.dir, "DIR"), "tspd: "+tt.want) || code != tt.code {
					t.Errorf("%d, %s", code, stderr)
				}
				return
			}
			d.fails(tt.args, tt.code, tt.want)
		})
	}
	if _, err := os.Stat(d.path("tspd.key")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a key that is not the database's was left behind: %v", err)
	}
}

func TestPasswordInTheEnvironment(t *testing.T) {
	d := newDesk(t)
	d.write("one", password+"\n")
	t.Setenv("SIXIN4_PASSWORD", "short")
	d.fails("user add alice", exit.Usage, "SIXIN4_PASSWORD: the password has 5 characters; at least 8")
	t.Setenv("SIXIN4_PASSWORD", another)
	d.fails("user add alice --password-file DIR/one", exit.Usage, "--password-file DIR/one: and SIXIN4_PASSWORD is set too; give the password in one way")
	d.says("user add alice --iterations 4096", "added alice: no prefix, 1 tunnel\n")
	hasPassword(t, d.user(d.open(), "alice"), another, "")
}

// TestOpenPasswordFile: the user is added, and it is said that the file is open.
func TestOpenPasswordFile(t *testing.T) {
	d := newDesk(t)
	path := d.write("one", password+"\n")
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	code, stdout, stderr := tspd(d.line("user add alice --password-file DIR/one --iterations 4096")...)
	want := "tspd: " + path + ": holds a password, and everybody on this host can read or change it; chmod o-rw " + path + "\n"
	if code != exit.OK || stderr != want || stdout != "added alice: no prefix, 1 tunnel\n" {
		t.Errorf("%d, %q, %q", code, stdout, stderr)
	}
}

// TestConfigFile: the commands find the database where the broker's file says.
func TestConfigFile(t *testing.T) {
	d := newDesk(t)
	file := d.write("tspd.toml", "prefix = \"2001:db8:2000::/36\"\nstate = \""+d.path("in/tspd.db")+"\"\nkey-file = \""+d.path("its.key")+
		"\"\nrealm = \"example.net\"\niterations = 4100\nanonymous = true\n")
	t.Setenv("SIXIN4_PASSWORD", password)
	code, stdout, stderr := tspd("user", "add", "alice", "--legacy-login", "--config", file)
	if code != exit.OK || !strings.HasSuffix(stdout, "encrypted with "+d.path("its.key")+"\n") {
		t.Fatalf("%d, %q, %s", code, stdout, stderr)
	}
	if code, stdout, stderr = tspd("user", "show", "alice", "--config", file); !strings.Contains(stdout, "4100 iterations") {
		t.Errorf("%d, %q, %s", code, stdout, stderr)
	}
	if code, stdout, stderr = tspd("pool", "show", "--config", file); !strings.HasPrefix(stdout, "pool 2001:db8:2000::/36\n") {
		t.Errorf("%d, %q, %s", code, stdout, stderr)
	}
	d.write("tspd.toml", "iterations = 10\n")
	code, _, stderr = tspd("user", "list", "--config", file)
	if want := file + ":1: iterations = \"10\": out of range; "; code != exit.Config || !strings.Contains(stderr, want) {
		t.Errorf("%d, %q", code, stderr)
	}
}
