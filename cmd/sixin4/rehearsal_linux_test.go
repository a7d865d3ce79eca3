package main

import (
	"encoding/json"
	"os"
	"strings"
	"syscall"
	"testing"

	"sixin4/cmd/internal/exit"
	"sixin4/tsp/tsptest"
)

// TestConnectDryRun has no capability, and no broker that answers.
func TestConnectDryRun(t *testing.T) {
	topo := pair(t)
	before := dump(t, topo.A)
	args := []string{"connect", "--server", "192.0.2.2", "--server", "broker.example.net", "--socket", "/nowhere/s", "--dry-run"}
	for _, tt := range []struct {
		name string
		args []string
		want string
	}{
		{"host", []string{"--wire", "raw"}, `ask the broker 192.0.2.2:3653 or broker.example.net:3653 for a tunnel, without an account
make the control socket /nowhere/s
make the TUN interface sixin4-0 with 1 queue
turn IPv6 on for it where it is off, and its automatic link-local address off
set its MTU to what the way to the broker carries, less 20
set it up
open a raw socket for protocol 41 on the address that packets to the broker leave from
give it a link-local address, and the address that the broker gives
route the broker's end of the tunnel into it
route ::/0 into it
`},
		{"router with commands", []string{"--wire", "raw", "--name", "six0", "--router", "--no-route", "--mtu", "1400", "--local", "192.0.2.1",
			"--on-up", "echo up", "--on-down", "echo down", "--metrics", "127.0.0.1:9641"}, `ask the broker 192.0.2.2:3653 or broker.example.net:3653 for a tunnel and a prefix, without an account
make the control socket /nowhere/s
serve metrics at 127.0.0.1:9641
make the TUN interface six0 with 1 queue
turn IPv6 on for it where it is off, and its automatic link-local address off
set its MTU to 1400
set it up
open a raw socket for protocol 41 on 192.0.2.1
give it a link-local address, and the address that the broker gives
route the broker's end of the tunnel into it
make an unreachable route for the prefix that the broker gives
run echo up when it is up
run echo down before it is taken down
`},
		{"once", []string{"--once"}, "ask the broker 192.0.2.2:3653 or broker.example.net:3653 for a tunnel, without an account\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := start(t, topo.A, "lose-both", append(args, tt.args...)...)
			if code := p.code(); code != exit.OK || p.stderr.text() != "" {
				t.Errorf("exit status %d, %s", code, p.stderr.text())
			}
			if got := p.stdout.text(); got != tt.want {
				t.Errorf("got\n%s, want\n%s", got, tt.want)
			}
			p = start(t, topo.A, "lose-both", append(append(args, tt.args...), "--json")...)
			p.code()
			var r struct{ Changes []string }
			if err := json.Unmarshal([]byte(p.stdout.text()), &r); err != nil || strings.Join(r.Changes, "\n")+"\n" != tt.want {
				t.Errorf("as JSON: %v, %v", r, err)
			}
		})
	}
	sameAs(t, topo.A, before)
}

// TestConnectDryRunLeftovers names what a kill left, and leaves it.
func TestConnectDryRunLeftovers(t *testing.T) {
	b := brokerAt(t, tsptest.Config{})
	b.broker.Change(func(c *tsptest.Config) { c.Answer = b.offer })
	p := b.connect("--transport", "tcp", "--router", "--on-down", "touch "+b.dir+"/down")
	p.ready()
	p.signal(syscall.SIGKILL)
	p.code()
	before := dump(t, b.topo.A)
	rehearsal := b.connect("--dry-run")
	if code := rehearsal.code(); code != exit.OK {
		t.Errorf("exit status %d, %s", code, rehearsal.stderr.text())
	}
	for _, want := range []string{
		"undo what an earlier run left: delete the unreachable route 2001:db8:1001::/48\n",
		"undo what an earlier run left: run touch " + b.dir + "/down\n",
	} {
		if !strings.Contains(rehearsal.stdout.text(), want) {
			t.Errorf("no %q in\n%s", want, rehearsal.stdout.text())
		}
	}
	if _, err := os.Stat(b.dir + "/down"); err == nil {
		t.Error("the command was run")
	}
	sameAs(t, b.topo.A, before)
}

func TestJSONNeedsDryRun(t *testing.T) {
	code, _, stderr := sixin4("connect", "--server", "192.0.2.2", "--json")
	if code != exit.Usage || !strings.Contains(stderr, "--json: only with --dry-run") {
		t.Errorf("%d, %s", code, stderr)
	}
}
