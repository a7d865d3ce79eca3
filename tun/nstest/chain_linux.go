package nstest

import (
	"encoding/binary"
	"syscall"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

var families = map[string]uint8{
	"ip": unix.NFPROTO_IPV4, "inet": unix.NFPROTO_INET, "netdev": unix.NFPROTO_NETDEV,
}

func addChain(c Chain) error {
	table := c.message(unix.NFT_MSG_NEWTABLE, unix.NLM_F_CREATE|unix.NLM_F_EXCL)
	table.AddData(nl.NewRtAttr(unix.NFTA_TABLE_NAME, nl.ZeroTerminated(c.table())))

	chain := c.message(unix.NFT_MSG_NEWCHAIN, unix.NLM_F_CREATE|unix.NLM_F_EXCL)
	chain.AddData(nl.NewRtAttr(unix.NFTA_CHAIN_TABLE, nl.ZeroTerminated(c.table())))
	chain.AddData(nl.NewRtAttr(unix.NFTA_CHAIN_NAME, nl.ZeroTerminated(c.Hook)))
	hook := nl.NewRtAttr(unix.NFTA_CHAIN_HOOK|unix.NLA_F_NESTED, nil)
	hook.AddRtAttr(unix.NFTA_HOOK_HOOKNUM, networkOrder(hookNumbers[c.Hook]))
	hook.AddRtAttr(unix.NFTA_HOOK_PRIORITY, networkOrder(0))
	if c.Link != "" {
		hook.AddRtAttr(unix.NFTA_HOOK_DEV, nl.ZeroTerminated(c.Link))
	}
	chain.AddData(hook)
	policy := uint32(1) // NF_ACCEPT
	if c.Drop {
		policy = 0
	}
	chain.AddData(nl.NewRtAttr(unix.NFTA_CHAIN_POLICY, networkOrder(policy)))
	chain.AddData(nl.NewRtAttr(unix.NFTA_CHAIN_TYPE, nl.ZeroTerminated("filter")))
	return transaction(table, chain)
}

func delChain(c Chain) error {
	table := c.message(unix.NFT_MSG_DELTABLE, 0)
	table.AddData(nl.NewRtAttr(unix.NFTA_TABLE_NAME, nl.ZeroTerminated(c.table())))
	return transaction(table)
}

func networkOrder(v uint32) []byte { return binary.BigEndian.AppendUint32(nil, v) }

func (c Chain) message(kind, flags int) *nl.NetlinkRequest {
	m := nl.NewNetlinkRequest(unix.NFNL_SUBSYS_NFTABLES<<8|kind, flags|unix.NLM_F_ACK)
	m.AddData(&nl.Nfgenmsg{NfgenFamily: families[c.Family], Version: nl.NFNETLINK_V0})
	return m
}

// transaction has the kernel do all of changes or nothing: they go in one
// datagram, between a begin and an end.
func transaction(changes ...*nl.NetlinkRequest) error {
	var batch []byte
	frame := func(kind int) {
		m := nl.NewNetlinkRequest(kind, 0)
		m.AddRawData([]byte{unix.AF_UNSPEC, nl.NFNETLINK_V0, 0, unix.NFNL_SUBSYS_NFTABLES})
		batch = append(batch, m.Serialize()...)
	}
	frame(unix.NFNL_MSG_BATCH_BEGIN)
	for _, m := range changes {
		batch = append(batch, m.Serialize()...)
	}
	frame(unix.NFNL_MSG_BATCH_END)

	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_NETFILTER)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }() // all is answered by then
	timeout := unix.NsecToTimeval(awaitLimit.Nanoseconds())
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &timeout); err != nil {
		return err
	}
	if err := unix.Sendto(fd, batch, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return err
	}
	return answers(fd, len(changes))
}

// answers reads n answers, or up to the first that is an error.
func answers(fd, n int) error {
	buf := make([]byte, 8192)
	for n > 0 {
		size, _, err := unix.Recvfrom(fd, buf, 0)
		if err != nil {
			return err
		}
		messages, err := syscall.ParseNetlinkMessage(buf[:size])
		if err != nil {
			return err
		}
		for _, m := range messages {
			if m.Header.Type != unix.NLMSG_ERROR || len(m.Data) < 4 {
				continue
			}
			if code := int32(binary.NativeEndian.Uint32(m.Data)); code != 0 {
				return syscall.Errno(-code)
			}
			n--
		}
	}
	return nil
}
