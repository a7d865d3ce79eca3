package ifcfg

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Types of netlink messages of nftables.
const (
	getChains = unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_GETCHAIN
	newChain  = unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_NEWCHAIN
)

// nftables finds chains of nftables, if the kernel has it. Asking would load its
// module, so nothing is asked when that is known not to be loaded. Only where
// nobody says whether it is a module or part of the kernel, the first question may
// load it.
func (h *hookOwners) nftables(d direction) ([]string, error) {
	h.list.Do(h.readList)
	loaded, err := h.loaded("nf_tables")
	if err != nil {
		return nil, fmt.Errorf("look for nftables: %w", err)
	}
	if !loaded && h.modular.Load() {
		return nil, nil
	}
	seen, err := dump(func() ([]string, error) { return h.chains(d) })
	if notThere(err) {
		h.modular.Store(true)
		return nil, nil
	}
	if err != nil {
		return nil, explain("list nft chains", err)
	}
	if shown, _ := h.loaded("nf_tables"); shown { // else it is part of the kernel
		h.modular.Store(true)
	}
	return seen, nil
}

// readList looks whether the list of what is built into this kernel is here, and
// leaves out nf_tables. Containers seldom have the list.
func (h *hookOwners) readList() {
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return
	}
	builtin, there, err := h.read("/lib/modules/" + text(name.Release[:]) + "/modules.builtin")
	if there && err == nil && !strings.Contains(builtin, "/nf_tables.ko") {
		h.modular.Store(true)
	}
}

// nftChains finds the first chain that sees the packets, or may have made
// something else see them.
func nftChains(d direction) (seen []string, err error) {
	question := nl.NewNetlinkRequest(getChains, unix.NLM_F_DUMP)
	question.AddData(&nl.Nfgenmsg{NfgenFamily: unix.NFPROTO_UNSPEC, Version: nl.NFNETLINK_V0}) // of all families
	err = netfilterDump(question, newChain, func(message []byte) (enough bool, err error) {
		name, err := d.chainSeeing(message)
		if name != "" {
			seen = []string{name}
		}
		return name != "", err
	})
	return seen, err
}

// chainSeeing names the chain that a message is about, when its family has to do
// with IPv4. At whatever hook it is, a rule of it about connections or address
// translation would have these look at every packet; but no such rule can be in
// one of the family netdev.
func (d direction) chainSeeing(message []byte) (string, error) {
	if len(message) < nl.SizeofNfgenmsg {
		return "", errShort
	}
	family := message[0]
	if nftFamilies[family] == "" {
		return "", nil
	}
	attrs, err := attributes(message[nl.SizeofNfgenmsg:])
	if err != nil {
		return "", err
	}
	hook, err := attributes(attrs[unix.NFTA_CHAIN_HOOK])
	if err != nil {
		return "", err
	}
	name, number := nftName(family, attrs[unix.NFTA_CHAIN_TABLE], attrs[unix.NFTA_CHAIN_NAME]), hook[unix.NFTA_HOOK_HOOKNUM]
	switch {
	case family == unix.NFPROTO_NETDEV:
		if here, err := d.atLink(hook); !here || err != nil || !isHook(number, hookOfLink) {
			return "", err
		}
	case family == unix.NFPROTO_BRIDGE || !isHook(number, d.hooks...):
		name += " (its rules may track connections)"
	}
	return name, nil
}

// isHook reports whether a hook number is one of hooks. A chain that other chains
// call has none.
func isHook(number []byte, hooks ...uint32) bool {
	return len(number) >= 4 && slices.Contains(hooks, binary.BigEndian.Uint32(number))
}
