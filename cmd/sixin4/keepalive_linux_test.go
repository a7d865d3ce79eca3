package main

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"sixin4/cmd/internal/control"
	"sixin4/tun/nstest"
)

// tells is a program that writes what it is told into the file.
func tells(word, file string) string {
	return `sh -c 'echo "` + word + ` $TSP_OPERATION $TSP_TUNNEL_INTERFACE $TSP_CLIENT_ADDRESS_IPV4 $TSP_SERVER_ADDRESS_IPV4 $TSP_CLIENT_ADDRESS_IPV6 $TSP_SERVER_ADDRESS_IPV6 $TSP_HOST_TYPE" >>"` + file + `"'`
}

const told = " six0 192.0.2.1 192.0.2.2 2001:0db8:0000:0000:0000:0000:0000:0001 2001:0db8:0000:0000:0000:0000:0000:0002 host\n"

// TestKeepalive: the far end is not there yet, comes, goes, and comes again, and each time
// the status, the metrics and the programs say so.
func TestKeepalive(t *testing.T) {
	t.Parallel()
	topo := pair(t)
	file := filepath.Join(t.TempDir(), "told")
	w := &two{topo: topo, socketA: socketIn(t, "six0"), socketB: socketIn(t, "six1")}
	w.a = tunnelIn(t, topo.A, "six0", w.socketA, insideA, "192.0.2.2", "--keepalive", insideB+",1", "--metrics", metricsAt,
		"--on-up", tells("up", file), "--on-down", tells("down", file))
	want := ""
	is := func(state, far, reason, line string) {
		t.Helper()
		s := askUntil(t, w.socketA, func(s control.Tunnel) bool { return s.State == state && s.FarEnd != nil && s.FarEnd.State == far })
		if s.Reason != reason || s.FarEnd.Address != insideB || s.FarEnd.Sent == 0 || s.FarEnd.Since.IsZero() {
			t.Errorf("reason %q, far end %+v; want %q", s.Reason, s.FarEnd, reason)
		}
		want += line
		nstest.Eventually(t, patience, "the program has written", func() bool {
			text, err := os.ReadFile(file)
			return err == nil && string(text) == want
		})
		up := map[string]string{"up": "1", "down": "0"}[far]
		has(t, scrape(t, topo.A), `sixin4_tunnel_far_end_up{tunnel="six0"} `+up+"\n")
	}
	is("down", "down", "the far end 2001:db8::2 does not answer echo requests", "down TSP_TUNNEL_TEARDOWN"+told)
	w.farEnd(t, "192.0.2.1")
	is("up", "up", "", "up TSP_TUNNEL_CREATION"+told)
	w.b.signal(syscall.SIGKILL)
	w.b.code()
	is("down", "down", "the far end 2001:db8::2 does not answer echo requests", "down TSP_TUNNEL_TEARDOWN"+told)
	w.farEnd(t, "192.0.2.1")
	is("up", "up", "", "up TSP_TUNNEL_CREATION"+told)
	w.a.stop()
	text, err := os.ReadFile(file)
	must(t, err)
	if want += "down TSP_TUNNEL_TEARDOWN" + told; string(text) != want {
		t.Errorf("at the end the programs have been told\n%swant\n%s", text, want)
	}
}

// TestPrograms: without a keepalive the tunnel is up when its far end has a route; and a
// program that fails, or has no end, is no reason for anything.
func TestPrograms(t *testing.T) {
	topo := pair(t)
	file := filepath.Join(t.TempDir(), "told")
	p := start(t, topo.A, "main", "up", "--name", "six0", "--socket", socketIn(t, "six0"), "--remote", "192.0.2.2",
		"--on-up", `sh -c 'echo up >>"`+file+`"; exit 3'`, "--on-down", `sh -c 'echo down >>"`+file+`"'`)
	p.ready()
	p.await(p.stderr, "a program that was told of a change failed")
	must(t, topo.A.SetDown(topo.LinkA))
	p.await(p.stderr, "peer cannot be reached")
	must(t, topo.A.SetUp(topo.LinkA))
	p.await(p.stderr, "peer can be reached again")
	p.await(p.stderr, "a program that was told of a change failed")
	p.stop()
	if text, err := os.ReadFile(file); err != nil || string(text) != "up\ndown\nup\ndown\n" {
		t.Errorf("the programs were told %q, %v", text, err)
	}
}

// TestProgramAtTheEnd: the tunnel is there until the program has ended that hears of its
// end, and one that was about to say the opposite is stopped.
func TestProgramAtTheEnd(t *testing.T) {
	topo := pair(t)
	before := dump(t, topo.A)
	file := filepath.Join(t.TempDir(), "told")
	p := start(t, topo.A, "main", "up", "--name", "six0", "--socket", socketIn(t, "six0"), "--remote", "192.0.2.2",
		"--on-up", `sh -c 'echo begun >&2; exec sleep 1000'`, "--on-down", `sh -c 'test -d /proc/sys/net/ipv6/conf/six0 && echo there >"`+file+`"'`)
	p.ready()
	p.await(p.stderr, "begun")
	p.stop()
	if text, err := os.ReadFile(file); err != nil || string(text) != "there\n" {
		t.Errorf("the interface was not there when the program ran: %q, %v", text, err)
	}
	sameAs(t, topo.A, before)
}
