package ifcfg

import (
	"net"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"

	"sixin4/tun/nstest"
)

// TestBypassed makes and takes away what would see packets between two links.
func TestBypassed(t *testing.T) {
	ns := nstest.Open(t)
	if err := nstest.Link(ns, "a0", ns, "b0"); err != nil {
		t.Fatal(err)
	}
	chain := nstest.Chain{Family: "netdev", Hook: "egress", Link: "b0"}
	discipline := func(t *testing.T, kind string, parent uint32) netlink.Qdisc {
		return &netlink.GenericQdisc{
			QdiscAttrs: netlink.QdiscAttrs{LinkIndex: indexIn(t, ns, "a0"), Handle: netlink.MakeHandle(0xffff, 0), Parent: parent},
			QdiscType:  kind,
		}
	}
	inside := func(do func(netlink.Qdisc) error, q netlink.Qdisc) func() error {
		return func() error { return ns.Do(func() error { return do(q) }) }
	}
	clsact, pfifo := discipline(t, "clsact", netlink.HANDLE_CLSACT), discipline(t, "pfifo", netlink.HANDLE_ROOT)
	for _, tt := range []struct {
		name     string
		add, del func() error
		want     string
	}{
		{"chain at egress", func() error { return ns.AddChain(chain) }, func() error { return ns.DelChain(chain) }, "nstest-egress"},
		{"clsact", inside(netlink.QdiscAdd, clsact), inside(netlink.QdiscDel, clsact), "clsact"},
		{"pfifo", inside(netlink.QdiscReplace, pfifo), inside(netlink.QdiscDel, pfifo), "pfifo"},
	} {
		look := func(when, want string) {
			t.Helper()
			err := ns.Do(func() error {
				seen, err := Bypassed(indexOf(t, "a0"), indexOf(t, "b0"))
				if all := strings.Join(seen, ", "); (all != "") != (want != "") || !strings.Contains(all, want) {
					t.Errorf("%s %s: %q, want %q", tt.name, when, all, want)
				}
				return err
			})
			if err != nil {
				t.Errorf("%s %s: %v", tt.name, when, err)
			}
		}
		look("before", "")
		if err := tt.add(); err != nil {
			t.Fatalf("%s: %v", tt.name, err)
		}
		look("there", tt.want)
		if err := tt.del(); err != nil {
			t.Fatalf("%s: %v", tt.name, err)
		}
		look("gone", "")
	}
}

func indexOf(t *testing.T, link string) int {
	t.Helper()
	i, err := net.InterfaceByName(link)
	if err != nil {
		t.Fatal(err)
	}
	return i.Index
}

func indexIn(t *testing.T, ns *nstest.NS, link string) (index int) {
	t.Helper()
	if err := ns.Do(func() error { index = indexOf(t, link); return nil }); err != nil {
		t.Fatal(err)
	}
	return index
}
