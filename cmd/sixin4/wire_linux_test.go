package main

import (
	"errors"
	"net"
	"strings"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"

	"sixin4/cmd/internal/control"
	"sixin4/tun/ifcfg"
	"sixin4/tun/nstest"
)

// needFree skips the test when the machine itself keeps --wire auto from handing
// packets to the link in a new namespace. Nothing else may.
func needFree(t *testing.T, ns *nstest.NS) {
	t.Helper()
	var seen []string
	var failed error
	must(t, ns.Do(func() error {
		seen, failed = ifcfg.Egress()
		return nil
	}))
	answer := strings.Join(seen, ", ")
	for _, machine := range []string{"SELinux", "Smack", "selinux", "smack", "BPF"} {
		if strings.Contains(answer, machine) {
			t.Skipf("--wire auto is always raw on this machine: %s", answer)
		}
	}
	switch {
	case errors.Is(failed, syscall.EPERM):
		t.Skipf("needs the right to ask for BPF programs: %v", failed)
	case answer != "" || failed != nil:
		t.Fatalf("in a new namespace: %q, %v; want nothing", seen, failed)
	}
}

// TestWireAuto makes and takes away what looks at packets, under a running tunnel.
func TestWireAuto(t *testing.T) {
	chain := nstest.Chain{Family: "ip", Hook: "output", Drop: true}
	policy := &netlink.XfrmPolicy{
		Src: mustNet("192.0.2.1/32"), Dst: mustNet("192.0.2.2/32"),
		Dir: netlink.XFRM_DIR_OUT, Action: netlink.XFRM_POLICY_BLOCK,
	}
	for _, tt := range []struct {
		name      string
		add, del  func(*nstest.NS) error
		refusedBy string
	}{
		{"nftables", func(ns *nstest.NS) error { return ns.AddChain(chain) }, func(ns *nstest.NS) error { return ns.DelChain(chain) }, "send-eperm"},
		{"IPsec", func(ns *nstest.NS) error { return ns.Do(func() error { return netlink.XfrmPolicyAdd(policy) }) },
			func(ns *nstest.NS) error { return ns.Do(func() error { return netlink.XfrmPolicyDel(policy) }) }, "send-eperm"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			topo := pair(t)
			needFree(t, topo.A)
			best := fastest(t, topo.A)
			socket := socketIn(t, "a")
			a := start(t, topo.A, "main", "up", "-v", "--remote", "192.0.2.2", "--address", "2001:db8::1/64", "--socket", socket)
			b := start(t, topo.B, "main", "up", "--remote", "192.0.2.1", "--address", "2001:db8::2/64", "--socket", socketIn(t, "b"))
			a.ready()
			b.ready()
			uses := func(wire string) {
				t.Helper()
				askUntil(t, socket, func(s control.Tunnel) bool { return s.Wire == wire })
			}
			uses(best)
			echo(t, topo, 1000)
			must(t, tt.add(topo.A))
			uses("raw")
			must(t, topo.A.Do(sendOne))
			askUntil(t, socket, func(s control.Tunnel) bool { return s.Drops[tt.refusedBy] > 0 })
			must(t, tt.del(topo.A))
			uses(best)
			echo(t, topo, 1000)
			a.stop()
			b.stop()
		})
	}
}

// sendOne sends a datagram into the tunnel.
func sendOne() error {
	c, err := net.Dial("udp6", "[2001:db8::2]:9")
	if err != nil {
		return err
	}
	_, err = c.Write([]byte{1})
	return errors.Join(err, c.Close())
}

func mustNet(s string) *net.IPNet {
	n, err := netlink.ParseIPNet(s)
	if err != nil {
		panic(err)
	}
	return n
}
