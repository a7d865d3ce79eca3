package main

import (
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"

	"sixin4/cmd/internal/exit"
)

// TestServeDryRun shows what would be done, and does none of it.
func TestServeDryRun(t *testing.T) {
	d, topo := newDesk(t), namespace(t)
	args := []string{"--prefix", "2001:db8:1000::/36", "--state", d.path("tspd.db"), "--socket", d.path("s"), "--wire", "raw"}
	show := func(more ...string) (string, string) {
		t.Helper()
		var code int
		var text, stderr string
		err := topo.B.Do(func() error {
			code, text, stderr = tspd(slices.Concat([]string{"serve", "--dry-run", "--json"}, args, more)...)
			return nil
		})
		if err != nil || code != exit.OK || stderr != "" {
			t.Fatalf("%v, %d, %s", err, code, stderr)
		}
		var r struct{ Changes, Warnings []string }
		if err := json.Unmarshal([]byte(text), &r); err != nil {
			t.Fatalf("%v: %s", err, text)
		}
		text = strings.ReplaceAll(strings.Join(r.Changes, "\n"), d.dir, "DIR")
		return text, strings.Join(r.Warnings, "\n")
	}
	const want = `make the key file DIR/tspd.key
make the database DIR/tspd.db
listen at 192.0.2.2:3653, TCP and UDP
make the TUN interface tspd0 with 1 queue
turn IPv6 on for it where it is off, and its automatic link-local address off
set its MTU to 1480
set it up
FORWARD
open a raw socket for protocol 41 on 192.0.2.2
give it the address fe80::c000:202/64
give it the address 2001:db8:1000::1/128
let 4096 packets wait for it
route 2001:db8:1000::/36 into it, by way of fe80::1
make the control socket DIR/s
serve metrics at 127.0.0.1:9641`
	const set = "set net.ipv6.conf.all.forwarding to 1, and back to 0 at the end"
	if got, warnings := show("--configure-host", "--metrics", "127.0.0.1"); got != strings.Replace(want, "FORWARD", set, 1) || warnings != "" {
		t.Errorf("got\n%s\n%s", got, warnings)
	}
	got, warnings := show("--metrics", "127.0.0.1")
	if got != strings.Replace(want, "FORWARD\n", "", 1) || !strings.Contains(warnings, "this host does not forward IPv6") {
		t.Errorf("without --configure-host:\n%s\n%s", got, warnings)
	}
	if files, err := os.ReadDir(d.dir); err != nil || len(files) != 0 {
		t.Errorf("made: %v, %v", files, err)
	}

	b := serveIn(t, topo.B, append(args, "--configure-host", "--iterations", "4096")...)
	if err := b.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	b.code()
	const undo = "undo what an earlier run left: set net.ipv6.conf.all.forwarding to 0"
	if got, _ := show(); !strings.Contains(got, undo) || !strings.Contains(got, "use the database DIR/tspd.db") {
		t.Errorf("after a kill:\n%s", got)
	}
	if now := forwarding(t, topo.B, "all"); now != "1" {
		t.Errorf("forwarding %s: a dry run has changed it", now)
	}
}
