package ifcfg

import (
	"slices"
	"strings"
	"syscall"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// direction is in what the questions about packets that leave and about those
// that arrive differ.
type direction struct {
	name  string   // as people say it
	hooks []uint32 // of netfilter, for IPv4
	link  string   // whose own netfilter hook counts too, or empty

	program  uint32 // how BPF programs are attached to a cgroup
	programs string // what they are called

	policy        int // which of the kernel's counts of IPsec policies
	defaultPolicy int // which of its default policies
}

var outward = direction{
	name: "output", hooks: []uint32{hookLocalOut, hookPostRouting},
	program: bpfInetEgress, programs: "egress",
	policy: 1, defaultPolicy: 2,
}

// inwardAt is about packets that arrive on a link.
func inwardAt(link string) direction {
	return direction{
		name: "input", hooks: []uint32{hookPreRouting, hookLocalIn}, link: link,
		program: bpfInetIngress, programs: "ingress",
		policy: 0, defaultPolicy: 0,
	}
}

// What linux/netfilter/nf_tables.h calls NFTA_HOOK_DEVS and NFTA_DEVICE_PREFIX.
const (
	attrHookLinks  = 4
	attrLinkPrefix = 2
)

// atLink reports whether a chain of the family netdev, described by the
// attributes of its hook, is at the link: it names one link, or several, or the
// beginning of names.
func (d direction) atLink(hook map[uint16][]byte) (bool, error) {
	if d.link == "" {
		return false, nil
	}
	if text(hook[unix.NFTA_HOOK_DEV]) == d.link {
		return true, nil
	}
	names, err := nl.ParseRouteAttr(hook[attrHookLinks])
	if err != nil {
		return false, errShort
	}
	return slices.ContainsFunc(names, func(a syscall.NetlinkRouteAttr) bool {
		if a.Attr.Type&nl.NLA_TYPE_MASK == attrLinkPrefix || !slices.Contains(a.Value, 0) {
			return strings.HasPrefix(d.link, text(a.Value))
		}
		return text(a.Value) == d.link
	}), nil
}
