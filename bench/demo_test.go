package bench

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"sixin4/tun/nstest"
)

// fewBytes is the size of the tests' transfers: the race detector is slow.
const fewBytes = 5_000_000

// readOnly is what a container without privileges says.
func readOnly(*nstest.NS) error {
	return &os.PathError{Op: "open", Path: "/proc/sys", Err: syscall.EROFS}
}

func TestDemo(t *testing.T) {
	nstest.Need(t)
	self := program(t)
	for _, test := range []struct {
		name    string
		forward func(*nstest.NS) error // nil: the real one
		want    string
	}{
		{"routers", nil, "the IPv6 world\n\n# 1."},
		{"no routers", readOnly, "broker:\n# open /proc/sys: read-only file system"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Setenv("TMPDIR", t.TempDir())
			nothingLeft(t)
			var out strings.Builder
			d := newDemo(&out, self)
			d.bytes = fewBytes
			if test.forward != nil {
				d.forward = test.forward
			}
			if err := d.run(t.Context()); err != nil {
				t.Fatalf("%v, after:\n%s", err, out.String())
			}
			inOrder(t, out.String(), test.want,
				"home$ sixin4 up --remote 192.0.2.2", "ready: sixin4-0 192.0.2.1 -> 192.0.2.2 mtu 1480",
				"home pings broker at 2001:db8:1::2: 10 of 10", "broker sends home 5 MB",
				"broker$ tspd user add alice", "added alice: prefix /48",
				"broker$ tspd serve", "ready: tspd 192.0.2.2:3653 prefix 2001:db8:1000::/36",
				"home$ sixin4 connect --server 192.0.2.2 --user alice", "address 2001:db8:1000::2 mtu 1480 prefix 2001:db8:1001::/48",
				"home pings server at 2001:db8:f::2: 10 of 10", "home sends server 5 MB", "server sends home 5 MB",
				"server pings laptop at 2001:db8:1001::2: 10 of 10", "server sends laptop 5 MB", "laptop sends server 5 MB",
				"home$ sixin4 status", "sixin4-0: up", "user alice",
				"broker$ tspd tunnel list", "2001:db8:1001::/48  alice  up",
				"\ndone\n")
		})
	}
}

// inOrder wants each piece in the text, after the one before it.
func inOrder(t *testing.T, text string, pieces ...string) {
	t.Helper()
	rest := text
	for _, piece := range pieces {
		_, after, found := strings.Cut(rest, piece)
		if !found {
			t.Fatalf("no %q, or not in its place, in:\n%s", piece, text)
		}
		rest = after
	}
}

// writeScript makes a program.
func writeScript(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
}

// TestDemoFails: what does not work is the error, and nothing is left.
func TestDemoFails(t *testing.T) {
	nstest.Need(t)
	onlyUp := "[ $1 = up ] && exec " + program(t) + ` "$@"; echo $1 is broken >&2; exit 3`
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	for _, test := range []struct {
		name string
		ctx  context.Context
		tspd string // a shell script; "" for no program
		want string
	}{
		{"no broker's program", t.Context(), "", "no program tspd beside "},
		{"an account", t.Context(), "echo no room >&2; exit 3", "exit status 3: no room"},
		{"the broker", t.Context(), "[ $1 = user ] && exit; echo no prefix >&2; exit 3", "it said: no prefix"},
		{"the client", t.Context(), "[ $1 = user ] && exit; echo ready; exec sleep 1000", "it said: connect is broken"},
		{"cancelled", cancelled, "exit 3", context.Canceled.Error()},
	} {
		t.Run(test.name, func(t *testing.T) {
			self := filepath.Join(t.TempDir(), "sixin4")
			writeScript(t, self, onlyUp)
			if test.tspd != "" {
				writeScript(t, filepath.Join(filepath.Dir(self), brokerProgram), test.tspd)
			}
			t.Setenv("TMPDIR", t.TempDir())
			nothingLeft(t)
			d := newDemo(io.Discard, self)
			d.bytes = fewBytes
			err := d.run(test.ctx)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v, want one with %q", err, test.want)
			}
		})
	}
}

// TestDemoForwards: only what a container says is no reason to give up.
func TestDemoForwards(t *testing.T) {
	for _, test := range []struct {
		name    string
		err     error
		routers bool
		fails   bool
	}{
		{"allowed", nil, true, false},
		{"read-only", readOnly(nil), false, false},
		{"not permitted", syscall.EPERM, false, false},
		{"no IPv6", syscall.ENOENT, false, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			d := newDemo(io.Discard, "")
			d.forward = func(*nstest.NS) error { return test.err }
			err := d.route(new(demoHost))
			if d.routers != test.routers || (err != nil) != test.fails {
				t.Errorf("routers %v, error %v, want %v and %v", d.routers, err, test.routers, test.fails)
			}
		})
	}
}

func TestWordAfter(t *testing.T) {
	const line = "ready: sixin4-0 address 2001:db8::2 mtu 1480 prefix 2001:db8:1::/48"
	for word, want := range map[string]string{"address": "2001:db8::2", "prefix": "2001:db8:1::/48", "dns": "", "ready:": ""} {
		if got := wordAfter(line, word); got != want {
			t.Errorf("after %s: %q, want %q", word, got, want)
		}
	}
}
