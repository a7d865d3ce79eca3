package ifcfg

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// What linux/netfilter.h and linux/netfilter/nfnetlink_hook.h call
// NF_INET_PRE_ROUTING, NF_INET_LOCAL_IN, NF_INET_LOCAL_OUT, NF_INET_POST_ROUTING
// and NF_NETDEV_INGRESS, NFNL_SUBSYS_HOOK with NFNL_MSG_HOOK_GET, and the
// attributes of its messages.
const (
	hookPreRouting  = 0
	hookLocalIn     = 1
	hookLocalOut    = 3
	hookPostRouting = 4
	hookOfLink      = 0

	getHooks = 12 << 8

	attrHookNumber   = 1
	attrHookLink     = 3
	attrHookFunction = 4
	attrHookModule   = 5
	attrHookChain    = 6

	attrChainAbout  = 1
	attrChainTable  = 1
	attrChainFamily = 2
	attrChainName   = 3
)

// hooksUnlisted remembers that the kernel does not list its hooks: each question
// would have it look for a module again.
var hooksUnlisted atomic.Bool

// netfilterHooks lists the IPv4 hooks, among which the kernel counts those of the
// inet family, and those of the link.
func (d direction) netfilterHooks() (seen []string, err error) {
	unlisted := fmt.Errorf("list netfilter hooks: %w by this kernel (CONFIG_NETFILTER_NETLINK_HOOK)", errors.ErrUnsupported)
	if hooksUnlisted.Load() {
		return nil, unlisted
	}
	for _, hook := range d.hooks {
		names, err := dump(func() ([]string, error) { return hooksAt(unix.NFPROTO_IPV4, hook, "") })
		if notThere(err) {
			hooksUnlisted.Store(true)
			return nil, unlisted
		}
		if err != nil {
			return nil, explain("list netfilter hooks", err)
		}
		seen = append(seen, names...)
	}
	names, err := d.linkHooks()
	return append(seen, names...), err
}

// linkHooks lists the hooks at the ingress of the link. A kernel that lists hooks
// and does not know of these says so, and has none.
func (d direction) linkHooks() ([]string, error) {
	if d.link == "" {
		return nil, nil
	}
	names, err := dump(func() ([]string, error) { return hooksAt(unix.NFPROTO_NETDEV, hookOfLink, d.link) })
	switch {
	case errors.Is(err, unix.EPROTONOSUPPORT), errors.Is(err, unix.EOPNOTSUPP):
		return nil, nil
	case err != nil:
		return nil, explain("list netfilter hooks of "+d.link, err)
	}
	return names, nil
}

// hooksAt lists the hooks of a family at one place, that of the link if the family
// has one for each.
func hooksAt(family uint8, hook uint32, link string) (names []string, err error) {
	request := nl.NewNetlinkRequest(getHooks, unix.NLM_F_DUMP)
	request.AddData(&nl.Nfgenmsg{NfgenFamily: family, Version: nl.NFNETLINK_V0})
	request.AddData(nl.NewRtAttr(attrHookNumber, binary.BigEndian.AppendUint32(nil, hook)))
	if link != "" {
		request.AddData(nl.NewRtAttr(attrHookLink, nl.ZeroTerminated(link)))
	}
	err = netfilterDump(request, getHooks, func(message []byte) (bool, error) {
		name, err := hookName(message)
		if name != "" {
			names = append(names, name)
		}
		return false, err
	})
	return names, err
}

// hookName says for people whose hook a message is about. Every message counts,
// whatever it holds, for there is a hook; all but AppArmor's, of which the name is
// empty.
func hookName(message []byte) (string, error) {
	if len(message) < nl.SizeofNfgenmsg {
		return "", errShort
	}
	attrs, err := attributes(message[nl.SizeofNfgenmsg:])
	if err != nil {
		return "", err
	}
	if chain, err := chainName(attrs[attrHookChain]); chain != "" || err != nil {
		return chain, err
	}
	name := "netfilter hook"
	function, module := text(attrs[attrHookFunction]), text(attrs[attrHookModule])
	if ofAppArmor(function) && module == "" {
		return "", nil
	}
	if function != "" {
		name += " " + function
	}
	if module != "" {
		name += " of " + module
	}
	return name, nil
}

// ofAppArmor recognises the hook that AppArmor has in every namespace. It lets
// pass what has no security mark, and only another hook gives one to a packet that
// is sent: a rule of iptables or nftables, which counts itself. Its second name is
// that before Linux 5.16.
func ofAppArmor(function string) bool {
	return function == "apparmor_ip_postroute" || function == "apparmor_ipv4_postroute"
}

// chainName names the chain of nftables that info describes, or nothing when it
// describes something else.
func chainName(info []byte) (string, error) {
	outer, err := attributes(info)
	if err != nil {
		return "", err
	}
	about, err := attributes(outer[attrChainAbout])
	if err != nil || len(about[attrChainName]) == 0 || len(about[attrChainFamily]) == 0 {
		return "", err
	}
	return nftName(about[attrChainFamily][0], about[attrChainTable], about[attrChainName]), nil
}

// nftName names a chain as nft(8) does.
func nftName(family byte, table, chain []byte) string {
	return fmt.Sprintf("nft chain %s %s %s", nftFamilies[family], text(table), text(chain))
}

// nftFamilies are the families of nftables whose chains may see IPv4 packets.
var nftFamilies = map[byte]string{
	unix.NFPROTO_IPV4: "ip", unix.NFPROTO_INET: "inet", unix.NFPROTO_BRIDGE: "bridge", unix.NFPROTO_NETDEV: "netdev",
}
