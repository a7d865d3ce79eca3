package ifcfg

import (
	"errors"
	"strconv"
	"strings"
	"testing"
	"unsafe"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"sixin4/tun/nstest"
)

// attrsOf returns what the kernel says of a link of the calling thread's namespace.
func attrsOf(t *testing.T, name string) *netlink.LinkAttrs {
	t.Helper()
	link, err := netlink.LinkByName(name)
	if err != nil {
		t.Fatal(err)
	}
	return link.Attrs()
}

// TestIngress changes what each question is about, on the link and on another,
// which nobody asks about. Both are new for each row, so nothing is undone.
func TestIngress(t *testing.T) {
	chain := func(c nstest.Chain) func(*testing.T, *nstest.Topology) {
		return func(t *testing.T, top *nstest.Topology) {
			if err := top.R.AddChain(c); err != nil {
				t.Fatal(err)
			}
		}
	}
	// change runs in the namespace of the links rb0, which is asked about, and ra0.
	change := func(fn func(t *testing.T)) func(*testing.T, *nstest.Topology) {
		return func(t *testing.T, top *nstest.Topology) { inside(t, top.R, func() { fn(t) }) }
	}
	for _, tt := range []struct {
		name   string
		change func(*testing.T, *nstest.Topology)
		want   string // the beginning
	}{
		{"nothing", func(*testing.T, *nstest.Topology) {}, ""},
		{"port of a bridge", change(func(t *testing.T) { enslave(t, "rb0") }), "bridge br0, which rb0 belongs to"},
		{"another link is port of a bridge", change(func(t *testing.T) { enslave(t, "ra0") }), ""},
		{"macvlan", change(func(t *testing.T) { addMacvlan(t, "rb0") }), "macvlan mv0, which is upon rb0"},
		{"macvlan upon another link", change(func(t *testing.T) { addMacvlan(t, "ra0") }), ""},
		{"clsact", change(func(t *testing.T) { addDiscipline(t, "clsact", netlink.HANDLE_CLSACT, "rb0") }), "queueing discipline clsact of rb0"},
		{"ingress", change(func(t *testing.T) { addDiscipline(t, "ingress", netlink.HANDLE_INGRESS, "rb0") }), "queueing discipline ingress of rb0"},
		{"clsact of another link", change(func(t *testing.T) { addDiscipline(t, "clsact", netlink.HANDLE_CLSACT, "ra0") }), ""},
		{"a discipline for what leaves", change(func(t *testing.T) { addDiscipline(t, "pfifo", netlink.HANDLE_ROOT, "rb0") }), ""},
		{"nft prerouting", chain(nstest.Chain{Family: "ip", Hook: "prerouting"}), "nft chain ip nstest-prerouting prerouting"},
		{"nft input", chain(nstest.Chain{Family: "inet", Hook: "input"}), "nft chain inet nstest-input input"},
		{"nft ingress", chain(nstest.Chain{Family: "netdev", Hook: "ingress", Link: "rb0"}), "nft chain netdev nstest-ingress ingress"},
		{"nft ingress of another link", chain(nstest.Chain{Family: "netdev", Hook: "ingress", Link: "ra0"}), ""},
		{"nft egress", chain(nstest.Chain{Family: "netdev", Hook: "egress", Link: "rb0"}), ""},
		{"IPsec policy for input", change(func(t *testing.T) { addPolicy(t, netlink.XFRM_DIR_IN) }), "IPsec policies for input (1)"},
		{"IPsec policy for output", change(func(t *testing.T) { addPolicy(t, netlink.XFRM_DIR_OUT) }), ""},
		{"IPsec blocks by default", change(func(t *testing.T) { setDefaultPolicies(t, policyBlock, 2) }), "the default IPsec policy, which blocks input"},
		{"routing by protocol", change(addProtocolRule), "routing rule 77, which chooses by protocol or port"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			top := routed(t)
			tt.change(t, top)
			var index int
			inside(t, top.R, func() { index = attrsOf(t, "rb0").Index })
			got, err := seenBy(t, top.R, func() ([]string, error) { return Ingress(index) })
			if errors.Is(err, unix.EPERM) {
				t.Skipf("needs the machine's own root: %v", err)
			}
			if !strings.HasPrefix(got, tt.want) || tt.want == "" && got != "" || err != nil {
				t.Errorf("%q, %v; want %q", got, err, tt.want)
			}
		})
	}
}

func TestIngressNoLink(t *testing.T) {
	inNew(t, func(*nstest.NS) {
		if seen, err := Ingress(4177); !errors.Is(err, unix.ENODEV) || len(seen) != 0 {
			t.Errorf("%q, %v; want that there is no such link", seen, err)
		}
	})
}

func enslave(t *testing.T, name string) {
	t.Helper()
	bridge := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "br0"}}
	if err := netlink.LinkAdd(bridge); err != nil {
		t.Fatal(err)
	}
	if err := netlink.LinkSetMaster(&netlink.Dummy{LinkAttrs: *attrsOf(t, name)}, bridge); err != nil {
		t.Fatal(err)
	}
}

func addMacvlan(t *testing.T, lower string) {
	t.Helper()
	attrs := netlink.LinkAttrs{Name: "mv0", ParentIndex: attrsOf(t, lower).Index}
	if err := netlink.LinkAdd(&netlink.Macvlan{LinkAttrs: attrs, Mode: netlink.MACVLAN_MODE_BRIDGE}); err != nil {
		t.Fatal(err)
	}
}

func addDiscipline(t *testing.T, kind string, parent uint32, link string) {
	t.Helper()
	attrs := netlink.QdiscAttrs{LinkIndex: attrsOf(t, link).Index, Parent: parent}
	if parent != netlink.HANDLE_ROOT {
		attrs.Handle = netlink.MakeHandle(0xffff, 0)
	}
	if err := netlink.QdiscAdd(&netlink.GenericQdisc{QdiscAttrs: attrs, QdiscType: kind}); err != nil {
		t.Fatal(err)
	}
}

func addPolicy(t *testing.T, dir netlink.Dir) {
	t.Helper()
	policy := &netlink.XfrmPolicy{Dir: dir, Src: ipNet(prefix("192.0.2.1/32")), Dst: ipNet(prefix("192.0.2.2/32"))}
	if err := netlink.XfrmPolicyAdd(policy); err != nil {
		t.Fatal(err)
	}
}

func addProtocolRule(t *testing.T) {
	t.Helper()
	rule := netlink.NewRule()
	rule.Priority, rule.Table, rule.IPProto = 77, unix.RT_TABLE_MAIN, 41
	if err := netlink.RuleAdd(rule); err != nil {
		t.Fatal(err)
	}
}

// TestTCXPrograms attaches two programs to a link; one of them does not count.
func TestTCXPrograms(t *testing.T) {
	top := routed(t)
	inside(t, top.R, func() {
		rb0, ra0 := arrival{LinkAttrs: attrsOf(t, "rb0")}, arrival{LinkAttrs: attrsOf(t, "ra0")}
		check := func(when string, l arrival, want string) {
			t.Helper()
			if seen, err := l.programs(); join(seen...) != want || err != nil {
				t.Errorf("%s: %q, %v; want %q", when, seen, err, want)
			}
		}
		if _, err := tcxPrograms(rb0.Index); errors.Is(err, unix.EPERM) {
			t.Skipf("needs the machine's own root: ask for tcx programs: %v", err)
		} else if errors.Is(err, unix.EINVAL) {
			t.Skip("the kernel has no tcx programs (Linux 6.6)")
		}
		check("before", rb0, "")
		attachTCX(t, rb0.Index)
		ours, err := tcxPrograms(rb0.Index)
		if err != nil || len(ours) != 1 {
			t.Fatalf("with a program: %d, %v", ours, err)
		}
		check("with a program", rb0, "tcx program "+strconv.Itoa(int(ours[0]))+" of rb0")
		check("another link", ra0, "")
		rb0.except = ours
		check("with ours", rb0, "")
		attachTCX(t, rb0.Index)
		all, err := tcxPrograms(rb0.Index)
		if err != nil || len(all) != 2 {
			t.Fatalf("with two programs: %d, %v", all, err)
		}
		check("with ours and another", rb0, "tcx program "+strconv.Itoa(int(all[0]+all[1]-ours[0]))+" of rb0")
		if _, err := tcxPrograms(4177); !errors.Is(err, unix.ENODEV) {
			t.Errorf("no such link: %v", err)
		}
	})
}

// attachTCX gives the ingress of a link a program that ends what is done with a
// packet there, until the test ends.
func attachTCX(t *testing.T, link int) {
	t.Helper()
	const schedClassifier = 3 // BPF_PROG_TYPE_SCHED_CLS
	to := struct {
		program, link, kind, flags uint32
		relative, _                uint32
		revision                   uint64
	}{program: uint32(loadProgram(t, schedClassifier, bpfAtIngress)), link: uint32(link), kind: bpfAtIngress}
	fd, err := bpf(bpfLinkCreate, unsafe.Pointer(&to), unsafe.Sizeof(to))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
}

// netdevChain is a message about a chain of the family netdev.
func netdevChain(hook uint32, devices ...*nl.RtAttr) []byte {
	at := nl.NewRtAttr(unix.NFTA_CHAIN_HOOK|unix.NLA_F_NESTED, nil)
	at.AddRtAttr(unix.NFTA_HOOK_HOOKNUM, []byte{0, 0, 0, byte(hook)})
	for _, d := range devices {
		at.AddChild(d)
	}
	return chainMessage(unix.NFPROTO_NETDEV, at)
}

func TestChainAtLink(t *testing.T) {
	devices := func(attrs ...*nl.RtAttr) *nl.RtAttr {
		list := nl.NewRtAttr(attrHookLinks|unix.NLA_F_NESTED, nil)
		for _, a := range attrs {
			list.AddChild(a)
		}
		return list
	}
	const name = 1 // NFTA_DEVICE_NAME
	for _, tt := range []struct {
		name    string
		message []byte
		want    bool
	}{
		{"one link", netdevChain(hookOfLink, textAttr(unix.NFTA_HOOK_DEV, "b0")), true},
		{"another link", netdevChain(hookOfLink, textAttr(unix.NFTA_HOOK_DEV, "b00")), false},
		{"of several", netdevChain(hookOfLink, devices(textAttr(name, "a0"), textAttr(name, "b0"))), true},
		{"of several others", netdevChain(hookOfLink, devices(textAttr(name, "a0"), textAttr(name, "b"))), false},
		{"the beginning of its name", netdevChain(hookOfLink, devices(textAttr(attrLinkPrefix, "b"))), true},
		{"the beginning of its name, as Linux 6.16 says it", netdevChain(hookOfLink, devices(nl.NewRtAttr(name, []byte("b")))), true},
		{"the beginning of others", netdevChain(hookOfLink, devices(textAttr(attrLinkPrefix, "b00"))), false},
		{"of no link", netdevChain(hookOfLink), false},
		{"egress", netdevChain(1, textAttr(unix.NFTA_HOOK_DEV, "b0")), false},
	} {
		got, err := inwardAt("b0").chainSeeing(tt.message)
		want := ""
		if tt.want {
			want = "nft chain netdev filter OUTPUT"
		}
		if got != want || err != nil {
			t.Errorf("%s: %q, %v; want %q", tt.name, got, err, want)
		}
		if got, err := outward.chainSeeing(tt.message); got != "" || err != nil {
			t.Errorf("%s, of what leaves: %q, %v", tt.name, got, err)
		}
	}
	bad := netdevChain(hookOfLink, nl.NewRtAttr(attrHookLinks, []byte{0xff, 0, 1, 0}))
	if got, err := inwardAt("b0").chainSeeing(bad); err == nil || notThere(err) {
		t.Errorf("links longer than their attribute: %q, %v; want an error", got, err)
	}
}
