package ifcfg

import (
	"encoding/binary"
	"errors"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"sixin4/tun/nstest"
)

// seenBy runs one question of Egress or Ingress in ns and returns its answers, sorted.
func seenBy(t *testing.T, ns *nstest.NS, ask func() ([]string, error)) (answer string, err error) {
	t.Helper()
	inside(t, ns, func() {
		var seen []string
		seen, err = ask()
		answer = join(seen...)
	})
	return answer, err
}

// TestHooks makes chains and takes them away again, on a kernel that lists its
// hooks as well as on one that does not.
func TestHooks(t *testing.T) {
	for _, tt := range []struct {
		name  string
		want  []string
		chain nstest.Chain
	}{
		{"output", []string{"nft chain ip nstest-output output"}, nstest.Chain{Family: "ip", Hook: "output"}},
		{"both IP versions", []string{"nft chain inet nstest-postrouting postrouting"}, nstest.Chain{Family: "inet", Hook: "postrouting"}},
		{"of a link", nil, nstest.Chain{Family: "netdev", Hook: "egress", Link: "a0"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			top := routed(t)
			var always []string
			check := func(when string, want ...string) {
				t.Helper()
				got, err := seenBy(t, top.A, outward.netfilter)
				if text := join(append(want, always...)...); got != text || err != nil {
					t.Errorf("%s: %q, %v; want %q", when, got, err, text)
				}
			}
			if hooks, err := seenBy(t, top.A, outward.netfilter); err == nil && hooks != "" {
				always = strings.Split(hooks, ", ") // of a security module
			}
			if err := top.A.AddChain(tt.chain); err != nil {
				t.Fatal(err)
			}
			check("with the chain", tt.want...)
			if err := top.A.DelChain(tt.chain); err != nil {
				t.Fatal(err)
			}
			check("after")
		})
	}
}

func join(list ...string) string {
	slices.Sort(list)
	return strings.Join(list, ", ")
}

// TestEgress: the answer is empty only when every question could be answered.
func TestEgress(t *testing.T) {
	ns := nstest.Open(t)
	var free error
	for _, ask := range []func() ([]string, error){outward.netfilter, outward.ipsecPolicies, protocolRules, outward.cgroupPrograms} {
		answer, err := seenBy(t, ns, ask)
		if answer != "" {
			err = errors.New(answer)
		}
		if free == nil {
			free = err
		}
	}
	seen, err := seenBy(t, ns, Egress)
	if seen != "" {
		err = errors.New(seen)
	}
	if (err == nil) != (free == nil) || err != nil && err.Error() != free.Error() {
		t.Errorf("%v, want what is found first, %v", err, free)
	}
}

// message is a message about a hook as linux/netfilter/nfnetlink_hook.h has it.
func message(attrs ...*nl.RtAttr) []byte {
	b := []byte{unix.NFPROTO_IPV4, 0, 0, 0}
	for _, a := range attrs {
		b = append(b, a.Serialize()...)
	}
	return b
}

func textAttr(number int, s string) *nl.RtAttr { return nl.NewRtAttr(number, nl.ZeroTerminated(s)) }

func TestHookName(t *testing.T) {
	chainOf := func(family byte) *nl.RtAttr {
		about := nl.NewRtAttr(attrChainAbout|unix.NLA_F_NESTED, nil)
		about.AddRtAttr(attrChainTable, nl.ZeroTerminated("filter"))
		about.AddRtAttr(attrChainName, nl.ZeroTerminated("OUTPUT"))
		about.AddRtAttr(attrChainFamily, []byte{family})
		chain := nl.NewRtAttr(attrHookChain|unix.NLA_F_NESTED, nil)
		chain.AddChild(about)
		return chain
	}
	chain, ofLink := chainOf(unix.NFPROTO_INET), chainOf(unix.NFPROTO_NETDEV)
	function, module := textAttr(attrHookFunction, "ipv4_conntrack_local"), textAttr(attrHookModule, "nf_conntrack")
	for _, tt := range []struct {
		name    string
		message []byte
		want    string
	}{
		{"chain", message(function, chain), "nft chain inet filter OUTPUT"},
		{"function of a module", message(function, module), "netfilter hook ipv4_conntrack_local of nf_conntrack"},
		{"function", message(function), "netfilter hook ipv4_conntrack_local"},
		{"AppArmor", message(textAttr(attrHookFunction, "apparmor_ip_postroute")), ""},
		{"AppArmor before Linux 5.16", message(textAttr(attrHookFunction, "apparmor_ipv4_postroute")), ""},
		{"of a module that calls itself so", message(textAttr(attrHookFunction, "apparmor_ip_postroute"), module), "netfilter hook apparmor_ip_postroute of nf_conntrack"},
		{"chain that is being made", message(function, nl.NewRtAttr(attrHookChain, nil)), "netfilter hook ipv4_conntrack_local"},
		{"chain of a link", message(function, ofLink), "nft chain netdev filter OUTPUT"},
		{"nothing", message(), "netfilter hook"},
	} {
		if got, err := hookName(tt.message); got != tt.want || err != nil {
			t.Errorf("%s: %q, %v; want %q", tt.name, got, err, tt.want)
		}
	}
	for name, bad := range map[string][]byte{
		"too short": {2, 0}, "attribute longer than the message": {2, 0, 0, 0, 0xff, 0, 4, 0},
	} {
		if got, err := hookName(bad); err == nil || notThere(err) {
			t.Errorf("%s: %q, %v; want an error that is not taken for hooks not being listed", name, got, err)
		}
	}
}

// TestReadDump: only a dump that the kernel calls complete has an answer.
func TestReadDump(t *testing.T) {
	minus := func(e unix.Errno) []byte { return binary.NativeEndian.AppendUint32(nil, uint32(-int32(e))) }
	for _, tt := range []struct {
		name string
		m    syscall.NetlinkMessage
		want int // messages
		done bool
		err  error
	}{
		{"answer, without our number", syscall.NetlinkMessage{Header: syscall.NlMsghdr{Type: getHooks}, Data: message()}, 1, false, nil},
		{"end", syscall.NetlinkMessage{Header: syscall.NlMsghdr{Type: unix.NLMSG_DONE}, Data: minus(0)}, 0, true, nil},
		{"end with an error", syscall.NetlinkMessage{Header: syscall.NlMsghdr{Type: unix.NLMSG_DONE}, Data: minus(unix.ENOMEM)}, 0, true, unix.ENOMEM},
		{"error", syscall.NetlinkMessage{Header: syscall.NlMsghdr{Type: unix.NLMSG_ERROR}, Data: minus(unix.EINVAL)}, 0, true, unix.EINVAL},
		{"end cut short", syscall.NetlinkMessage{Header: syscall.NlMsghdr{Type: unix.NLMSG_DONE}}, 0, true, errShort},
		{"interrupted", syscall.NetlinkMessage{Header: syscall.NlMsghdr{Type: getHooks, Flags: unix.NLM_F_DUMP_INTR}}, 0, true, netlink.ErrDumpInterrupted},
	} {
		all := 0
		take := func([]byte) (bool, error) { all++; return false, nil }
		if done, err := readDump(tt.m, getHooks, take); done != tt.done || !errors.Is(err, tt.err) || all != tt.want {
			t.Errorf("%s: %t, %v, %d messages; want %t, %v, %d", tt.name, done, err, all, tt.done, tt.err, tt.want)
		}
	}
	for _, kind := range []uint16{unix.NLMSG_NOOP, unix.NLMSG_OVERRUN, unix.NLMSG_ERROR} { // the last: with code 0
		m := syscall.NetlinkMessage{Header: syscall.NlMsghdr{Type: kind}, Data: minus(0)}
		if _, err := readDump(m, getHooks, func([]byte) (bool, error) { return false, nil }); err == nil {
			t.Errorf("type %d: no error", kind)
		}
	}
	m := syscall.NetlinkMessage{Header: syscall.NlMsghdr{Type: newChain}}
	if done, err := readDump(m, newChain, func([]byte) (bool, error) { return true, nil }); !done || err != nil {
		t.Errorf("enough: %t, %v; want true", done, err)
	}
}

func TestProtocolRules(t *testing.T) {
	inNew(t, func(ns *nstest.NS) {
		for _, tt := range []struct {
			name string
			edit func(*netlink.Rule)
			want string
		}{
			{"by source", func(r *netlink.Rule) { r.Src = ipNet(prefix("192.0.2.0/24")) }, ""},
			{"by protocol", func(r *netlink.Rule) { r.IPProto = 41 }, "routing rule 77, which chooses by protocol or port"},
			{"by port", func(r *netlink.Rule) { r.Dport = netlink.NewRulePortRange(7, 9) }, "routing rule 77, which chooses by protocol or port"},
		} {
			rule := netlink.NewRule()
			rule.Priority, rule.Table = 77, unix.RT_TABLE_MAIN
			tt.edit(rule)
			if err := netlink.RuleAdd(rule); err != nil {
				t.Fatal(err)
			}
			if got, err := seenBy(t, ns, protocolRules); got != tt.want || err != nil {
				t.Errorf("%s: %q, %v; want %q", tt.name, got, err, tt.want)
			}
			if err := netlink.RuleDel(rule); err != nil {
				t.Fatal(err)
			}
		}
	})
}

func TestIPsecPolicies(t *testing.T) {
	inNew(t, func(ns *nstest.NS) {
		check := func(when, want string) {
			t.Helper()
			for _, d := range []direction{outward, inwardAt("a0")} {
				want := want
				if want != "" && !strings.Contains(want, d.name) {
					want = ""
				}
				if got, err := seenBy(t, ns, d.ipsecPolicies); got != want || err != nil {
					t.Errorf("%s, asked for %s: %q, %v; want %q", when, d.name, got, err, want)
				}
			}
		}
		check("before", "")
		for dir, want := range map[netlink.Dir]string{
			netlink.XFRM_DIR_IN: "IPsec policies for input (1)", netlink.XFRM_DIR_FWD: "",
			netlink.XFRM_DIR_OUT: "IPsec policies for output (1)",
		} {
			policy := &netlink.XfrmPolicy{Dir: dir, Src: ipNet(prefix("192.0.2.1/32")), Dst: ipNet(prefix("192.0.2.2/32"))}
			if err := netlink.XfrmPolicyAdd(policy); err != nil {
				t.Fatal(err)
			}
			check(dir.String(), want)
			if err := netlink.XfrmPolicyDel(policy); err != nil {
				t.Fatal(err)
			}
		}
		check("after", "")
		const accept = 2 // XFRM_USERPOLICY_ACCEPT
		setDefaultPolicies(t, accept, policyBlock)
		check("blocked by default", "the default IPsec policy, which blocks output")
		setDefaultPolicies(t, policyBlock, accept)
		check("blocked by default, inward", "the default IPsec policy, which blocks input")
		setDefaultPolicies(t, accept, accept)
		check("accepted by default", "")
	})
}

// setDefaultPolicies says what becomes of packets to which no policy applies.
func setDefaultPolicies(t *testing.T, in, out byte) {
	t.Helper()
	request := nl.NewNetlinkRequest(getDefaultPolicy-1, unix.NLM_F_ACK) // XFRM_MSG_SETDEFAULT
	request.AddRawData([]byte{in, 0, out, 0})
	if _, err := request.Execute(unix.NETLINK_XFRM, 0); err != nil {
		t.Fatal(err)
	}
}

func TestCgroupDirs(t *testing.T) {
	const (
		v1    = "35 31 0:33 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n"
		whole = "41 31 0:38 / /sys/fs/cgroup rw,relatime shared:7 - cgroup2 cgroup2 rw\n"
		part  = "41 31 0:38 /system.slice /mnt/part rw - cgroup2 cgroup2 rw\n"
	)
	for _, tt := range []struct{ name, groups, mounts, want string }{
		{"root", "0::/\n", v1 + whole, "/sys/fs/cgroup"},
		{"beside the older kind", "8:pids:/x\n0::/user.slice/a b\n", v1 + whole, "/sys/fs/cgroup/user.slice/a b"},
		{"part of it is mounted", "0::/system.slice/six.service\n", part, "/mnt/part/six.service"},
		{"the mounted part itself", "0::/system.slice\n", part, "/mnt/part"},
		{"mounted twice", "0::/system.slice/x\n", whole + part, "/sys/fs/cgroup/system.slice/x /mnt/part/x"},
		{"never mounted on this machine", "8:pids:/x\n", v1, ""},
		{"not mounted here", "0::/x\n", v1, "?"},
		{"another part is mounted", "0::/system.slices/x\n", part, "?"},
		{"outside the namespace", "0::/../x\n", whole, "?"},
	} {
		group, ok := cgroupPath(tt.groups)
		got := strings.Join(cgroupDirs(group, tt.mounts), " ")
		if ok && got == "" {
			got = "?"
		}
		if got != tt.want {
			t.Errorf("%s: %q in %q; want %q", tt.name, group, got, tt.want)
		}
	}
}
