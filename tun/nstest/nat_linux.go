package nstest

import (
	"encoding/binary"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// The priorities of linux/netfilter_ipv4.h.
const (
	priorityDNAT = -100
	prioritySNAT = 100
)

const (
	hookForward = 2
	// randomFully is NF_NAT_RANGE_PROTO_RANDOM_FULLY of linux/netfilter/nf_nat.h.
	randomFully = 1 << 4
	// dnat is NFT_NAT_DNAT of linux/netfilter/nf_tables.h.
	dnat = 1
)

func addNAT(n NAT) error {
	link, err := netlink.LinkByName(n.Link)
	if err != nil {
		return err
	}
	index := binary.NativeEndian.AppendUint32(nil, uint32(link.Attrs().Index))
	flags := uint32(0)
	if n.Random {
		flags = randomFully
	}
	changes := ruled("nstest-snat", "nat", hookNumbers["postrouting"], prioritySNAT,
		meta(unix.NFT_META_OIF), equal(index), expression("masq", attribute(unix.NFTA_MASQ_FLAGS, networkOrder(flags))))
	if n.Inside.IsValid() {
		which := []*nl.RtAttr{meta(unix.NFT_META_IIF), equal(index), meta(unix.NFT_META_L4PROTO), equal([]byte{unix.IPPROTO_UDP})}
		if n.Only.IsValid() {
			which = append(which, source(), equal(n.Only.AsSlice()))
		}
		which = append(which, constant(n.Inside.AsSlice()), expression("nat",
			attribute(unix.NFTA_NAT_TYPE, networkOrder(dnat)),
			attribute(unix.NFTA_NAT_FAMILY, networkOrder(unix.NFPROTO_IPV4)),
			attribute(unix.NFTA_NAT_REG_ADDR_MIN, networkOrder(unix.NFT_REG_1))))
		changes = append(changes, ruled("nstest-dnat", "nat", hookNumbers["prerouting"], priorityDNAT, which...)...)
	}
	return transaction(changes...)
}

func dropForwarded(protocol uint8) error {
	verdict := nested(unix.NFTA_IMMEDIATE_DATA, nested(unix.NFTA_DATA_VERDICT,
		attribute(unix.NFTA_VERDICT_CODE, networkOrder(0)))) // NF_DROP
	return transaction(ruled("nstest-drop", "filter", hookForward, 0,
		meta(unix.NFT_META_L4PROTO), equal([]byte{protocol}),
		expression("immediate", attribute(unix.NFTA_IMMEDIATE_DREG, networkOrder(unix.NFT_REG_VERDICT)), verdict))...)
}

func flushNAT() error { return netlink.ConntrackTableFlush(netlink.ConntrackTable) }

// ruled makes a table with a chain with one rule.
func ruled(table, kind string, hook uint32, priority int32, expressions ...*nl.RtAttr) []*nl.NetlinkRequest {
	of := Chain{Family: "ip"}
	newTable := of.message(unix.NFT_MSG_NEWTABLE, unix.NLM_F_CREATE|unix.NLM_F_EXCL)
	newTable.AddData(nl.NewRtAttr(unix.NFTA_TABLE_NAME, nl.ZeroTerminated(table)))
	chain := of.message(unix.NFT_MSG_NEWCHAIN, unix.NLM_F_CREATE|unix.NLM_F_EXCL)
	chain.AddData(nl.NewRtAttr(unix.NFTA_CHAIN_TABLE, nl.ZeroTerminated(table)))
	chain.AddData(nl.NewRtAttr(unix.NFTA_CHAIN_NAME, nl.ZeroTerminated("all")))
	chain.AddData(nested(unix.NFTA_CHAIN_HOOK,
		attribute(unix.NFTA_HOOK_HOOKNUM, networkOrder(hook)),
		attribute(unix.NFTA_HOOK_PRIORITY, networkOrder(uint32(priority)))))
	chain.AddData(nl.NewRtAttr(unix.NFTA_CHAIN_TYPE, nl.ZeroTerminated(kind)))
	rule := of.message(unix.NFT_MSG_NEWRULE, unix.NLM_F_CREATE|unix.NLM_F_APPEND)
	rule.AddData(nl.NewRtAttr(unix.NFTA_RULE_TABLE, nl.ZeroTerminated(table)))
	rule.AddData(nl.NewRtAttr(unix.NFTA_RULE_CHAIN, nl.ZeroTerminated("all")))
	rule.AddData(nested(unix.NFTA_RULE_EXPRESSIONS, expressions...))
	return []*nl.NetlinkRequest{newTable, chain, rule}
}

func attribute(kind int, value []byte) *nl.RtAttr { return nl.NewRtAttr(kind, value) }

func nested(kind int, inside ...*nl.RtAttr) *nl.RtAttr {
	a := nl.NewRtAttr(kind|unix.NLA_F_NESTED, nil)
	for _, i := range inside {
		a.AddChild(i)
	}
	return a
}

// expression is one step of a rule.
func expression(name string, data ...*nl.RtAttr) *nl.RtAttr {
	return nested(unix.NFTA_LIST_ELEM, attribute(unix.NFTA_EXPR_NAME, nl.ZeroTerminated(name)), nested(unix.NFTA_EXPR_DATA, data...))
}

// meta loads what is known of a packet, equal goes on only if that is value.
func meta(key uint32) *nl.RtAttr {
	return expression("meta", attribute(unix.NFTA_META_KEY, networkOrder(key)), attribute(unix.NFTA_META_DREG, networkOrder(unix.NFT_REG_1)))
}

func equal(value []byte) *nl.RtAttr {
	return expression("cmp", attribute(unix.NFTA_CMP_SREG, networkOrder(unix.NFT_REG_1)),
		attribute(unix.NFTA_CMP_OP, networkOrder(unix.NFT_CMP_EQ)), nested(unix.NFTA_CMP_DATA, attribute(unix.NFTA_DATA_VALUE, value)))
}

// source loads the IPv4 source address.
func source() *nl.RtAttr {
	const offset, size = 12, 4 // RFC 791, Section 3.1
	return expression("payload",
		attribute(unix.NFTA_PAYLOAD_DREG, networkOrder(unix.NFT_REG_1)),
		attribute(unix.NFTA_PAYLOAD_BASE, networkOrder(unix.NFT_PAYLOAD_NETWORK_HEADER)),
		attribute(unix.NFTA_PAYLOAD_OFFSET, networkOrder(offset)),
		attribute(unix.NFTA_PAYLOAD_LEN, networkOrder(size)))
}

// constant loads a value.
func constant(value []byte) *nl.RtAttr {
	return expression("immediate", attribute(unix.NFTA_IMMEDIATE_DREG, networkOrder(unix.NFT_REG_1)),
		nested(unix.NFTA_IMMEDIATE_DATA, attribute(unix.NFTA_DATA_VALUE, value)))
}
