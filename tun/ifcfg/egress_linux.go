package ifcfg

import (
	"encoding/binary"
	"errors"
	"fmt"
	"syscall"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

func egress() ([]string, error) {
	for _, look := range []func() ([]string, error){
		netfilterHooks, ipsecPolicies, protocolRules, cgroupPrograms,
	} {
		if seen, err := look(); len(seen) > 0 || err != nil {
			return seen, err
		}
	}
	return nil, nil
}

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

// netfilterHooks lists the IPv4 hooks, among which the kernel counts those of the
// inet family.
func netfilterHooks() (seen []string, err error) {
	for _, hook := range []uint32{hookLocalOut, hookPostRouting} {
		messages, err := dump(func() ([][]byte, error) { return dumpHooks(hook) })
		if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EPROTONOSUPPORT) {
			return nil, fmt.Errorf("list netfilter hooks: %w by this kernel (CONFIG_NETFILTER_NETLINK_HOOK)", errors.ErrUnsupported)
		}
		if err != nil {
			return nil, explain("list netfilter hooks", err)
		}
		for _, m := range messages {
			name, err := hookName(m)
			if err != nil {
				return nil, fmt.Errorf("list netfilter hooks: %w", err)
			}
			seen = append(seen, name)
		}
	}
	return seen, nil
}

// dumpHooks asks for the hooks at one place. It reads the answer by itself, since
// the netlink library leaves out messages that do not carry the number of our
// socket, and these carry none: it would find no hook, ever.
func dumpHooks(hook uint32) ([][]byte, error) {
	socket, err := nl.Subscribe(unix.NETLINK_NETFILTER)
	if err != nil {
		return nil, err
	}
	defer socket.Close()
	if err := socket.SetReceiveTimeout(&nl.SocketTimeoutTv); err != nil {
		return nil, err
	}
	request := nl.NewNetlinkRequest(getHooks, unix.NLM_F_DUMP)
	request.AddData(&nl.Nfgenmsg{NfgenFamily: unix.NFPROTO_IPV4, Version: nl.NFNETLINK_V0})
	request.AddData(nl.NewRtAttr(attrHookNumber, binary.BigEndian.AppendUint32(nil, hook)))
	if err := socket.Send(request); err != nil {
		return nil, err
	}
	var all [][]byte
	for {
		messages, from, err := socket.Receive()
		if err != nil {
			return nil, err
		}
		if from.Pid != nl.PidKernel {
			continue
		}
		for _, m := range messages {
			if done, err := readDump(m, &all); done || err != nil {
				return all, err
			}
		}
	}
}

// readDump adds the contents of one message of a dump to all, and reports whether
// it was the last. What the kernel does not vouch for is an error.
func readDump(m syscall.NetlinkMessage, all *[][]byte) (done bool, err error) {
	if m.Header.Flags&unix.NLM_F_DUMP_INTR != 0 {
		return true, netlink.ErrDumpInterrupted
	}
	switch m.Header.Type {
	case getHooks:
		*all = append(*all, m.Data)
		return false, nil
	case unix.NLMSG_DONE, unix.NLMSG_ERROR:
		if len(m.Data) < 4 {
			return true, errShort
		}
		if code := int32(binary.NativeEndian.Uint32(m.Data)); code != 0 {
			return true, syscall.Errno(-code)
		}
		if m.Header.Type == unix.NLMSG_DONE {
			return true, nil
		}
	}
	return true, fmt.Errorf("a message of type %d, which was not asked for", m.Header.Type)
}

var errShort = errors.New("an answer of the kernel is too short")

// hookName says for people whose hook a message is about. Every message counts,
// whatever it holds: there is a hook.
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
	if function := text(attrs[attrHookFunction]); function != "" {
		name += " " + function
	}
	if module := text(attrs[attrHookModule]); module != "" {
		name += " of " + module
	}
	return name, nil
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
	family := "ip"
	if about[attrChainFamily][0] == unix.NFPROTO_INET {
		family = "inet"
	}
	return fmt.Sprintf("nft chain %s %s %s", family, text(about[attrChainTable]), text(about[attrChainName])), nil
}

// attributes returns netlink attributes by their number.
func attributes(b []byte) (map[uint16][]byte, error) {
	list, err := nl.ParseRouteAttr(b)
	if err != nil {
		return nil, err
	}
	byNumber := make(map[uint16][]byte, len(list))
	for _, a := range list {
		byNumber[a.Attr.Type&nl.NLA_TYPE_MASK] = a.Value
	}
	return byNumber, nil
}

func text(b []byte) string { return unix.ByteSliceToString(b) }

// protocolRules finds routing rules that tell protocols or ports apart. The
// kernel looks a route up for a raw socket with another protocol than it can be
// asked about.
func protocolRules() (seen []string, err error) {
	rules, err := dump(func() ([]netlink.Rule, error) { return netlink.RuleList(netlink.FAMILY_V4) })
	if err != nil {
		return nil, fmt.Errorf("list routing rules: %w", err)
	}
	for _, r := range rules {
		if r.IPProto > 0 || r.Sport != nil || r.Dport != nil {
			seen = append(seen, fmt.Sprintf("routing rule %d, which chooses by protocol or port", r.Priority))
		}
	}
	return seen, nil
}
