package ifcfg

import (
	"errors"
	"fmt"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// hookLeavingLink is what linux/netfilter.h calls NF_NETDEV_EGRESS. The kernel passes it
// by for packets that traffic control has redirected.
const hookLeavingLink = 1

func bypassed(from, to int) ([]string, error) {
	return firstFound(
		func() ([]string, error) { return givenDisciplines(from) },
		func() ([]string, error) { return leavingHooks(to) },
	)
}

// givenDisciplines finds the queueing disciplines of a link that have a handle. Those
// that the kernel makes by itself have none.
func givenDisciplines(index int) (seen []string, err error) {
	all, err := dump(func() ([]netlink.Qdisc, error) {
		return netlink.QdiscList(&netlink.Dummy{LinkAttrs: netlink.LinkAttrs{Index: index}})
	})
	if err != nil {
		return nil, fmt.Errorf("list queueing disciplines of link %d: %w", index, plain(err))
	}
	for _, q := range all {
		if q.Attrs().Handle != 0 {
			seen = append(seen, fmt.Sprintf("queueing discipline %s of link %d", q.Type(), index))
		}
	}
	return seen, nil
}

// leavingHooks lists netfilter's egress hooks of a link.
func leavingHooks(index int) ([]string, error) {
	link, err := netlink.LinkByIndex(index)
	if err != nil {
		return nil, fmt.Errorf("look at link %d: %w", index, plain(err))
	}
	if hooksUnlisted.Load() {
		return leavingChains()
	}
	names, err := dump(func() ([]string, error) { return hooksAt(unix.NFPROTO_NETDEV, hookLeavingLink, link.Attrs().Name) })
	switch {
	case notThere(err):
		return leavingChains()
	case errors.Is(err, unix.EPROTONOSUPPORT), errors.Is(err, unix.EOPNOTSUPP): // it has no such hooks
		return nil, nil
	case err != nil:
		return nil, explain("list netfilter hooks of "+link.Attrs().Name, err)
	}
	return names, nil
}

// leavingChains is for kernels that do not list their hooks: any chain of nftables at the
// egress of any link counts.
func leavingChains() (seen []string, err error) {
	question := nl.NewNetlinkRequest(getChains, unix.NLM_F_DUMP)
	question.AddData(&nl.Nfgenmsg{NfgenFamily: unix.NFPROTO_NETDEV, Version: nl.NFNETLINK_V0})
	err = netfilterDump(question, newChain, func(message []byte) (bool, error) {
		name, err := leavingChain(message)
		if name != "" {
			seen = []string{name}
		}
		return name != "", err
	})
	if notThere(err) { // there is no nf_tables
		return nil, nil
	}
	return seen, err
}

// leavingChain names the chain of the family netdev that a message is about, if it is at
// egress.
func leavingChain(message []byte) (string, error) {
	if len(message) < nl.SizeofNfgenmsg {
		return "", errShort
	}
	attrs, err := attributes(message[nl.SizeofNfgenmsg:])
	if err != nil {
		return "", err
	}
	hook, err := attributes(attrs[unix.NFTA_CHAIN_HOOK])
	if err != nil || !isHook(hook[unix.NFTA_HOOK_HOOKNUM], hookLeavingLink) {
		return "", err
	}
	return nftName(unix.NFPROTO_NETDEV, attrs[unix.NFTA_CHAIN_TABLE], attrs[unix.NFTA_CHAIN_NAME]), nil
}
