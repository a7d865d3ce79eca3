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
// NF_INET_LOCAL_OUT and NF_INET_POST_ROUTING, NFNL_SUBSYS_HOOK with
// NFNL_MSG_HOOK_GET, and the attributes of its messages.
const (
	hookLocalOut    = 3
	hookPostRouting = 4

	getHooks = 12 << 8

	attrHookNumber   = 1
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
// inet family.
func netfilterHooks() (seen []string, err error) {
	unlisted := fmt.Errorf("list netfilter hooks: %w by this kernel (CONFIG_NETFILTER_NETLINK_HOOK)", errors.ErrUnsupported)
	if hooksUnlisted.Load() {
		return nil, unlisted
	}
	for _, hook := range []uint32{hookLocalOut, hookPostRouting} {
		names, err := dump(func() ([]string, error) { return hooksAt(hook) })
		if notThere(err) {
			hooksUnlisted.Store(true)
			return nil, unlisted
		}
		if err != nil {
			return nil, explain("list netfilter hooks", err)
		}
		seen = append(seen, names...)
	}
	return seen, nil
}

func hooksAt(hook uint32) (names []string, err error) {
	request := nl.NewNetlinkRequest(getHooks, unix.NLM_F_DUMP)
	request.AddData(&nl.Nfgenmsg{NfgenFamily: unix.NFPROTO_IPV4, Version: nl.NFNETLINK_V0})
	request.AddData(nl.NewRtAttr(attrHookNumber, binary.BigEndian.AppendUint32(nil, hook)))
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
	unix.NFPROTO_IPV4: "ip", unix.NFPROTO_INET: "inet", unix.NFPROTO_BRIDGE: "bridge",
}
