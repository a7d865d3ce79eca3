package ifcfg

import (
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"unsafe"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"sixin4/tun/nstest"
)

// bareHost has the files of a host where nothing that makes hooks is loaded.
var bareHost = map[string]string{
	"proc/thread-self/net/dev": "Inter-|   Receive\n",
	"proc/filesystems":         "nodev\tsysfs\nnodev\tsecurityfs\n\text4\n",
	"sys/module/kernel/x":      "",
}

// hostOf makes a host of bareHost and more files, without chains of nftables. A
// file whose text is "-" is not there.
func hostOf(t *testing.T, more map[string]string) *hookOwners {
	t.Helper()
	root := t.TempDir()
	for _, files := range []map[string]string{bareHost, more} {
		for name, text := range files {
			path := filepath.Join(root, name)
			if err := os.RemoveAll(path); err != nil {
				t.Fatal(err)
			}
			if text == "-" {
				continue
			}
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	return &hookOwners{root: root, chains: func(direction) ([]string, error) { return nil, unix.EINVAL }}
}

func TestOwners(t *testing.T) {
	const (
		iptables = "proc/thread-self/net/ip_tables_names"
		count    = "proc/sys/net/netfilter/nf_conntrack_count"
		list     = "proc/thread-self/net/nf_conntrack"
		ipvs     = "proc/thread-self/net/ip_vs"
		module   = "sys/module/nf_conntrack/x"
		headings = "IP Virtual Server version 1.2.1 (size=4096)\n" +
			"Prot LocalAddress:Port Scheduler Flags\n  -> RemoteAddress:Port Forward Weight ActiveConn InActConn\n"
		server = "  -> C0000202:0050      Masq    1      0          0\n"
	)
	const tracked = "connection tracking, which knows connections"
	for _, tt := range []struct {
		name  string
		files map[string]string
		want  string // ? is no telling
	}{
		{"nothing", nil, ""},
		{"iptables, no table", map[string]string{iptables: ""}, ""},
		{"iptables, two tables", map[string]string{iptables: "nat\nfilter\n"}, "iptables table filter, iptables table nat"},
		{"iptables, not readable", map[string]string{iptables + "/x": ""}, "?"},
		{"tracking nothing", map[string]string{count: "0\n", module: ""}, ""},
		{"tracking", map[string]string{count: "3\n", module: ""}, tracked},
		{"tracking, not a number", map[string]string{count: "\n", module: ""}, "?"},
		{"tracking, only the list, empty", map[string]string{list: "", module: ""}, ""},
		{"tracking, only the list", map[string]string{list: "ipv4     2 unknown  41 599 src=192.0.2.1\n", module: ""}, tracked},
		{"tracking, list not readable", map[string]string{list + "/x": "", module: ""}, "?"},
		{"tracking, not shown", map[string]string{module: ""}, "?"},
		{"IPVS, no service", map[string]string{ipvs: headings}, ""},
		{"IPVS", map[string]string{ipvs: headings + "TCP  C0000201:0050 rr\n" + server}, "IPVS services"},
		{"IPVS by mark", map[string]string{ipvs: headings + "FWM  00000001 rr\n" + server}, "IPVS services"},
		{"SELinux", map[string]string{"proc/filesystems": "nodev\tselinuxfs\n"}, "the netfilter hooks of SELinux"},
		{"Smack", map[string]string{"proc/filesystems": "nodev\tsmackfs\n"}, "the netfilter hooks of Smack"},
		{"file systems not shown", map[string]string{"proc/filesystems": "-"}, "?"},
		{"no /proc/net", map[string]string{"proc/thread-self/net/dev": "-"}, "?"},
		{"no /sys", map[string]string{"sys": "-"}, "?"},
	} {
		seen, err := hostOf(t, tt.files).owners(outward)
		got := join(seen...)
		if err != nil {
			got = "?"
		}
		if got != tt.want {
			t.Errorf("%s: %q, %v; want %q", tt.name, got, err, tt.want)
		}
	}
}

// TestNoModuleIsLoaded: a question about nftables, which loads its module, is put
// only where it must.
func TestNoModuleIsLoaded(t *testing.T) {
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		t.Fatal(err)
	}
	list := "lib/modules/" + text(name.Release[:]) + "/modules.builtin"
	const loaded = "sys/module/nf_tables/x"
	chain := []string{"nft chain ip filter OUTPUT"}
	for _, tt := range []struct {
		name  string
		files map[string]string
		chain []string
		err   error
		asked int // of three times
		want  string
	}{
		{"a module, loaded", map[string]string{loaded: ""}, chain, nil, 3, chain[0]},
		{"a module, loaded, without chains", map[string]string{loaded: ""}, nil, nil, 3, ""},
		{"a module, not loaded", map[string]string{list: "kernel/net/netfilter/nf_conntrack.ko\n"}, nil, unix.EINVAL, 0, ""},
		{"part of the kernel", map[string]string{list: "kernel/net/netfilter/nf_tables.ko\n"}, chain, nil, 3, chain[0]},
		{"part of the kernel, no list", nil, chain, nil, 3, chain[0]},
		{"not there, no list", nil, nil, unix.EINVAL, 1, ""},
		{"no netfilter at all", nil, nil, unix.EPROTONOSUPPORT, 1, ""},
		{"not permitted", nil, nil, unix.EPERM, 3, "?"},
	} {
		h, asked := hostOf(t, tt.files), 0
		h.chains = func(direction) ([]string, error) { asked++; return tt.chain, tt.err }
		for range 3 {
			seen, err := h.nftables(outward)
			got := join(seen...)
			if err != nil {
				got = "?"
			}
			if got != tt.want {
				t.Errorf("%s: %q, %v; want %q", tt.name, got, err, tt.want)
			}
		}
		if asked != tt.asked {
			t.Errorf("%s: asked %d times, want %d", tt.name, asked, tt.asked)
		}
	}
}

// TestModuleUnloaded: a module that was found is not loaded again.
func TestModuleUnloaded(t *testing.T) {
	h, asked := hostOf(t, map[string]string{"sys/module/nf_tables/x": ""}), 0
	h.chains = func(direction) ([]string, error) { asked++; return nil, nil }
	for range 2 {
		if seen, err := h.nftables(outward); len(seen) != 0 || err != nil {
			t.Errorf("%q, %v", seen, err)
		}
		if err := os.RemoveAll(h.root + "/sys/module/nf_tables"); err != nil {
			t.Fatal(err)
		}
	}
	if asked != 1 {
		t.Errorf("asked %d times, want 1", asked)
	}
}

// chainMessage is a message about a chain as linux/netfilter/nf_tables.h has it.
func chainMessage(family byte, attrs ...*nl.RtAttr) []byte {
	m := message(append([]*nl.RtAttr{
		textAttr(unix.NFTA_CHAIN_TABLE, "filter"), textAttr(unix.NFTA_CHAIN_NAME, "OUTPUT"),
	}, attrs...)...)
	m[0] = family
	return m
}

// recorded is a message that Linux 6.18 sent about a chain that nft(8) 1.0.6 made.
func recorded(t *testing.T, digits string) []byte {
	t.Helper()
	b, err := hex.DecodeString(digits)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestChainSeeing(t *testing.T) {
	at := func(hook byte) *nl.RtAttr {
		a := nl.NewRtAttr(unix.NFTA_CHAIN_HOOK|unix.NLA_F_NESTED, nil)
		a.AddRtAttr(unix.NFTA_HOOK_HOOKNUM, []byte{0, 0, 0, hook})
		a.AddRtAttr(unix.NFTA_HOOK_PRIORITY, []byte{0xff, 0xff, 0xff, 0x9c})
		return a
	}
	const maybe = " (its rules may track connections)"
	for _, tt := range []struct {
		name    string
		message []byte
		want    string
	}{
		{"output", chainMessage(unix.NFPROTO_IPV4, at(hookLocalOut)), "nft chain ip filter OUTPUT"},
		{"postrouting", chainMessage(unix.NFPROTO_INET, at(hookPostRouting)), "nft chain inet filter OUTPUT"},
		{"input", chainMessage(unix.NFPROTO_INET, at(1)), "nft chain inet filter OUTPUT" + maybe},
		{"at no hook", chainMessage(unix.NFPROTO_IPV4), "nft chain ip filter OUTPUT" + maybe},
		{"bridge", chainMessage(unix.NFPROTO_BRIDGE, at(hookLocalOut)), "nft chain bridge filter OUTPUT" + maybe},
		{"IPv6", chainMessage(unix.NFPROTO_IPV6, at(hookLocalOut)), ""},
		{"ARP", chainMessage(unix.NFPROTO_ARP, at(1)), ""},
		{"egress of a link", chainMessage(unix.NFPROTO_NETDEV, at(1)), ""},
		{"recorded, output", recorded(t, "020000060600010066000000060003006f0000000c000200000000000000000114000400080001000000000308000200000000000"+
			"8000500000000010b00070066696c746572000008000a00000000010800060000000000"), "nft chain ip f o"},
		{"recorded, input", recorded(t, "01000006060001006700000006000300690000000c000200000000000000000114000400080001000000000108000200000000000"+
			"8000500000000010b00070066696c746572000008000a00000000010800060000000000"), "nft chain inet g i" + maybe},
		{"recorded, at no hook", recorded(t, "0200000606000100660000000a000300706c61696e0000000c00020000000000000000020800060000000000"), "nft chain ip f plain" + maybe},
	} {
		if got, err := outward.chainSeeing(tt.message); got != tt.want || err != nil {
			t.Errorf("%s: %q, %v; want %q", tt.name, got, err, tt.want)
		}
	}
	for name, bad := range map[string][]byte{
		"too short": {2, 0}, "attribute longer than the message": {2, 0, 0, 0, 0xff, 0, 4, 0},
		"hook longer than its attribute": chainMessage(2, nl.NewRtAttr(unix.NFTA_CHAIN_HOOK, []byte{0xff, 0, 1, 0})),
	} {
		if got, err := outward.chainSeeing(bad); err == nil || notThere(err) {
			t.Errorf("%s: %q, %v; want an error that is not taken for nftables not being there", name, got, err)
		}
	}
}

// TestOwnersOfNamespace asks this kernel itself, whether or not it lists its hooks.
func TestOwnersOfNamespace(t *testing.T) {
	const maybe = " (its rules may track connections)"
	chain := func(family, hook string) func(*nstest.NS) error {
		return func(ns *nstest.NS) error { return ns.AddChain(nstest.Chain{Family: family, Hook: hook}) }
	}
	for _, tt := range []struct {
		name    string
		change  func(*nstest.NS) error
		out, in string
	}{
		{"nothing", func(*nstest.NS) error { return nil }, "", ""},
		{"nft output", chain("ip", "output"), "nft chain ip nstest-output output", "nft chain ip nstest-output output" + maybe},
		{"nft input", chain("inet", "input"), "nft chain inet nstest-input input" + maybe, "nft chain inet nstest-input input"},
		{"nft prerouting", chain("ip", "prerouting"), "nft chain ip nstest-prerouting prerouting" + maybe, "nft chain ip nstest-prerouting prerouting"},
		{"iptables", func(*nstest.NS) error { return loadIPTable("filter") }, "iptables table filter", "iptables table filter"},
		{"a tracked connection", func(*nstest.NS) error { return trackConnection() },
			"connection tracking, which knows connections", "connection tracking, which knows connections"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ns := nstest.Open(t)
			out := func() ([]string, error) { return host.owners(outward) }
			in := func() ([]string, error) { return host.owners(inwardAt("lo")) }
			before, err := seenBy(t, ns, out)
			if before != "" || err != nil {
				t.Skipf("something is seen in every namespace: %q, %v", before, err)
			}
			inside(t, ns, func() { err = tt.change(ns) })
			if errors.Is(err, unix.ENOPROTOOPT) || errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EINVAL) {
				t.Skipf("the kernel does not have it: %v", err)
			} else if err != nil {
				t.Fatal(err)
			}
			if got, err := seenBy(t, ns, out); got != tt.out || err != nil {
				t.Errorf("output: %q, %v; want %q", got, err, tt.out)
			}
			if got, err := seenBy(t, ns, in); got != tt.in || err != nil {
				t.Errorf("input: %q, %v; want %q", got, err, tt.in)
			}
		})
	}
}

// loadIPTable makes a table of the older iptables, by asking about it.
func loadIPTable(name string) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	const getInfo = 64 // IPT_SO_GET_INFO of linux/netfilter_ipv4/ip_tables.h
	var info [84]byte
	copy(info[:32], name)
	size := uint32(len(info))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_IP, getInfo,
		uintptr(unsafe.Pointer(&info)), uintptr(unsafe.Pointer(&size)), 0)
	if errno != 0 {
		return errno
	}
	return nil
}

// trackConnection writes a connection into the table, as something that nobody
// else knows of would.
func trackConnection() error {
	flow := &netlink.ConntrackFlow{
		FamilyType: unix.AF_INET, TimeOut: 300,
		Forward: netlink.IPTuple{SrcIP: []byte{192, 0, 2, 1}, DstIP: []byte{192, 0, 2, 2}, Protocol: unix.IPPROTO_UDP, SrcPort: 7, DstPort: 9},
		Reverse: netlink.IPTuple{SrcIP: []byte{192, 0, 2, 2}, DstIP: []byte{192, 0, 2, 1}, Protocol: unix.IPPROTO_UDP, SrcPort: 9, DstPort: 7},
	}
	return netlink.ConntrackCreate(netlink.ConntrackTable, unix.AF_INET, flow)
}
