package main

import (
	"bytes"
	"context"
	"encoding/json"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sixin4/cmd/internal/exit"
	"sixin4/cmd/internal/programtest"
	"sixin4/tsp"
	"sixin4/tsp/broker/store"
	"sixin4/tsp/broker/store/sqlite"
)

// tspd runs one command line in this process.
func tspd(args ...string) (code int, stdout, stderr string) {
	var out, err bytes.Buffer
	code = run(context.Background(), args, &out, &err)
	return code, out.String(), err.String()
}

// desk is a database in a directory of the test.
type desk struct {
	t   *testing.T
	dir string
}

func newDesk(t *testing.T) *desk {
	t.Setenv("SIXIN4_PASSWORD", "")
	return &desk{t, t.TempDir()}
}

func (d *desk) path(name string) string { return filepath.Join(d.dir, name) }

// write makes a file for the owner only.
func (d *desk) write(name, text string) string {
	d.t.Helper()
	if err := os.WriteFile(d.path(name), []byte(text), 0o600); err != nil {
		d.t.Fatal(err)
	}
	return d.path(name)
}

// line is a command line for this database. DIR stands for the directory.
func (d *desk) line(text string) []string {
	args := strings.Fields(strings.ReplaceAll(text, "DIR", d.dir))
	return append(args, "--state", d.path("tspd.db"))
}

// run wants a command to succeed, says what it printed, and that it had no warnings.
func (d *desk) run(text string) string {
	d.t.Helper()
	code, stdout, stderr := tspd(d.line(text)...)
	if code != exit.OK || stderr != "" {
		d.t.Fatalf("tspd %s: %d, %s", text, code, stderr)
	}
	return strings.ReplaceAll(stdout, d.dir, "DIR")
}

// says wants the output of a command.
func (d *desk) says(text, want string) {
	d.t.Helper()
	if got := d.run(text); got != want {
		d.t.Errorf("tspd %s:\n got %q\nwant %q", text, got, want)
	}
}

// fails wants a command to end with a status and a message.
func (d *desk) fails(text string, wantCode int, want string) {
	d.t.Helper()
	code, stdout, stderr := tspd(d.line(text)...)
	if got := strings.ReplaceAll(stderr, d.dir, "DIR"); code != wantCode || got != "tspd: "+want+"\n" {
		d.t.Errorf("tspd %s:\n got %d, %swant %d, tspd: %s", text, code, got, wantCode, want)
	}
	if stdout != "" {
		d.t.Errorf("tspd %s: standard output %q", text, stdout)
	}
}

// open is the broker's hand on the database; the commands work beside it.
func (d *desk) open() store.Store {
	d.t.Helper()
	key, err := store.OpenKey(d.path("tspd.key"))
	if err != nil {
		d.t.Fatal(err)
	}
	s, err := sqlite.Open(d.t.Context(), sqlite.Config{Path: d.path("tspd.db"), Config: store.Config{
		Pool: netip.MustParsePrefix("2001:db8:1000::/36"), Key: key,
	}})
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() {
		if err := s.Close(); err != nil {
			d.t.Error(err)
		}
	})
	return s
}

// user finds a user.
func (d *desk) user(s store.Store, name string) store.User {
	d.t.Helper()
	u, err := s.UserByName(d.t.Context(), name)
	if err != nil {
		d.t.Fatal(err)
	}
	return u
}

// begin gives a user, or nobody, a tunnel that is up.
func (d *desk) begin(s store.Store, u store.User, from string) store.Lease {
	d.t.Helper()
	at := netip.MustParseAddrPort(from)
	want := store.Want{UserID: u.ID, PrefixLen: u.PrefixLen, From: at, Expires: time.Now().Add(time.Hour)}
	l, err := s.Reserve(d.t.Context(), want)
	if err == nil {
		l, err = s.Activate(d.t.Context(), store.Activation{
			ID: l.ID, Epoch: l.Epoch, Node: "192.0.2.2", Type: tsp.V6V4,
			Outer: netip.AddrPortFrom(at.Addr(), 0), Expires: want.Expires,
		})
	}
	if err != nil {
		d.t.Fatal(err)
	}
	return l
}

func TestCommandLineErrors(t *testing.T) {
	d := newDesk(t)
	missing := d.path("none.toml")
	wrong := d.write("wrong.toml", "prefix = \"2001:db8:1000::/36\"\nsilense = \"5m\"\n")
	tests := []struct {
		args string
		code int
		want string
	}{
		{"", exit.Usage, "no command: serve, user, tunnel, pool, log, drain, key or version (tspd --help says more)"},
		{"server", exit.Usage, `unknown command "server"; the nearest is serve`},
		{"frobnicate", exit.Usage, `unknown command "frobnicate" (tspd --help lists them)`},
		{"user", exit.Usage, "user: what? (tspd user --help shows examples)"},
		{"user ad", exit.Usage, `unknown command "ad"; the nearest is add`},
		{"tunnel", exit.Usage, "tunnel: what? (tspd tunnel --help shows examples)"},
		{"pool", exit.Usage, "pool: what? (tspd pool --help shows examples)"},
		{"serve", exit.Usage, "no prefix: give --prefix PREFIX, the IPv6 network that is routed to this host, like 2001:db8:1000::/36"},
		{"serve --prefix 192.0.2.0/24", exit.Usage, "--prefix 192.0.2.0/24: 192.0.2.0/24 is an IPv4 prefix; the tunnel carries IPv6: the network of a broker is one of IPv6, like 2001:db8:1000::/36"},
		{"serve 192.0.2.2", exit.Usage, `serve: unexpected "192.0.2.2": every value belongs to a flag (tspd serve --help shows examples)`},
		{"serve --prefx ::/36", exit.Usage, "unknown flag --prefx; the nearest is --prefix"},
		{"serve --config " + missing, exit.Config, "open " + missing + ": no such file or directory"},
		{"serve --config " + wrong, exit.Config, wrong + `:2: unknown key "silense"; the nearest known key is "silence"`},
		{"user add", exit.Usage, "add: NAME is missing (tspd user add --help shows examples)"},
		{"user add a b", exit.Usage, `add: unexpected "b": one NAME (tspd user add --help shows examples)`},
		{"user list x", exit.Usage, `list: unexpected "x": every value belongs to a flag (tspd user list --help shows examples)`},
		{"tunnel drop", exit.Usage, "drop: ADDRESS, PREFIX, ID or USER is missing (tspd tunnel drop --help shows examples)"},
		{"log --address 192.0.2.1", exit.Usage, "--address 192.0.2.1: not an IPv6 address, like 2001:db8:1000::2"},
		{"log --since yesterday", exit.Usage, `--since yesterday: not a time; 2026-01-31, "2026-01-31 15:04", RFC 3339, or how long ago, like 36h or 7d`},
		{"log --until -5m", exit.Usage, `--until -5m: not a time; 2026-01-31, "2026-01-31 15:04", RFC 3339, or how long ago, like 36h or 7d`},
		{"log --since 1d --until 2d", exit.Usage, "--since 1d: not before --until 2d"},
		{"version 1", exit.Usage, `version: unexpected "1": every value belongs to a flag (tspd version --help shows examples)`},
	}
	for _, tt := range tests {
		t.Run(tt.args, func(t *testing.T) {
			code, stdout, stderr := tspd(strings.Fields(tt.args)...)
			if want := "tspd: " + tt.want + "\n"; code != tt.code || stderr != want || stdout != "" {
				t.Errorf("got %d, %q, %swant %d, %s", code, stdout, stderr, tt.code, want)
			}
		})
	}
}

// TestHelp: every command has a help text with examples that are about itself.
func TestHelp(t *testing.T) { programtest.Help(t, newRoot(nil, nil), tspd) }

func TestHelpConfig(t *testing.T) {
	code, stdout, _ := tspd("help", "config")
	if code != exit.OK || !strings.Contains(stdout, "\nquarantine = \"7d\"\n") {
		t.Errorf("exit status %d, %s", code, stdout)
	}
}

func TestVersion(t *testing.T) {
	version = "v1.2.3"
	t.Cleanup(func() { version = "" })
	code, stdout, _ := tspd("version", "--json")
	var v struct{ Version string }
	if err := json.Unmarshal([]byte(stdout), &v); code != exit.OK || err != nil || v.Version != "v1.2.3" {
		t.Errorf("%d, %q, %v", code, stdout, err)
	}
}

// TestNoDatabase: only user add makes one.
func TestNoDatabase(t *testing.T) {
	d := newDesk(t)
	for _, args := range []string{
		"user list", "user show alice", "user set alice --max-tunnels 2", "user disable alice", "user enable alice", "user remove alice",
		"tunnel list", "tunnel show alice", "tunnel drop alice", "key replace", "pool show --prefix 2001:db8:1000::/36", "log", "log forget --before 1d",
	} {
		d.fails(args, exit.Failure, "no database DIR/tspd.db (tspd serve and tspd user add make one; --state or --config says where it is)")
	}
	if files, err := os.ReadDir(d.dir); err != nil || len(files) > 0 {
		t.Errorf("made %v, %v", files, err)
	}
}
