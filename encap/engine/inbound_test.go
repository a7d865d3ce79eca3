package engine

import (
	"net/netip"
	"testing"
	"testing/synctest"

	"sixin4/encap"
	"sixin4/encap/packet"
	"sixin4/encap/packettest"
)

var addr = netip.MustParseAddr

// hub3 has three peers; addresses of the first two are short here.
var (
	p0, p1 = hubAddr(0), hubAddr(1)
	h0, h1 = hubHost(0), hubHost(1)
)

// nested is hub3 with a network of peer 1 inside one of peer 0.
func nested() TableConfig {
	c := hubTable(3)
	inside := hubHost(0).As16()
	inside[6] = 0x77
	c.Peers[1].Prefixes = append(c.Peers[1].Prefixes, netip.PrefixFrom(netip.AddrFrom16(inside), 64).Masked())
	return c
}

// attached is hub3 where our own address and network lie inside a peer's prefix.
func attached() TableConfig {
	c := hubTable(3)
	c.Ours = append(c.Ours, netip.PrefixFrom(hubHost(0), 128))
	return c
}

// routerMessage is an ICMPv6 message of neighbour discovery to all nodes.
func routerMessage(kind byte) []byte {
	return packettest.ICMPv6(linkLocal4(peer4), addr("ff02::1"), kind, 0, make([]byte, 12))
}

// behindOptions puts a hop-by-hop options header in front of what p carries.
func behindOptions(p []byte) []byte {
	options := []byte{p[6], 0, 1, 4, 0, 0, 0, 0} // padding only
	return packettest.IPv6(netip.AddrFrom16([16]byte(p[8:])), netip.AddrFrom16([16]byte(p[24:])), 0, append(options, p[40:]...))
}

// TestInboundPeerRules has the rows of what depends on the peer: who may send,
// and from where.
func TestInboundPeerRules(t *testing.T) {
	inside := h0.As16()
	inside[6] = 0x77
	in0 := netip.AddrFrom16(inside)
	host, hub, unique := hostTable(), hubTable(3), hubTable(3)
	unique.Peers[0].Prefixes = append(unique.Peers[0].Prefixes, netip.MustParsePrefix("fd00::/48"))
	dad := solicitation(netip.IPv6Unspecified(), addr("ff02::1:ff00:7"), addr("fe80::7"))
	for _, c := range []struct {
		name  string
		table TableConfig
		from  netip.Addr
		inner []byte
		want  encap.Drop
	}{
		{"host: from the peer", host, peer4, echo(other6, host6), encap.Forward},
		{"host: outer source is not the peer", host, other4, echo(other6, host6), encap.DropNotPeer},
		{"host: outer source is our own address", host, ours4, echo(other6, host6), encap.DropNotPeer},
		{"host: inner source is one of our own addresses", host, peer4, echo(ours6, host6), encap.DropInnerSourceOurs},
		{"host: inner source is one of the LAN's addresses", host, peer4, echo(host6, ours6), encap.DropInnerSourceOurs},
		{"host: inner source next to our own address", host, peer4, echo(peer6, ours6), encap.Forward},
		{"host: inner source fc00::/7", host, peer4, echo(addr("fd00::1"), ours6), encap.Forward},
		{"host: inner link-local, to us", host, peer4, echo(linkLocal4(peer4), linkLocal4(ours4)), encap.Forward},
		{"host: inner link-local, beyond the link", host, peer4, echo(linkLocal4(peer4), host6), encap.Forward},
		{"host: inner source ::, duplicate address detection", host, peer4, dad, encap.Forward},
		{"host: neighbour solicitation unicast to our link-local", host, peer4, solicitation(linkLocal4(peer4), linkLocal4(ours4), linkLocal4(ours4)), encap.Forward},
		{"host: inner source ::", host, peer4, echo(netip.IPv6Unspecified(), ours6), encap.DropInnerSourceUnspecified},

		{"host: router advertisement", host, peer4, routerMessage(134), encap.DropInnerRouter},
		{"host: redirect", host, peer4, routerMessage(137), encap.DropInnerRouter},
		{"host: router advertisement behind options", host, peer4, behindOptions(routerMessage(134)), encap.DropInnerRouter},
		{"host: router solicitation from the peer", host, peer4, routerMessage(133), encap.Forward},
		{"host: MLD from the peer", host, peer4, packettest.ICMPv6(linkLocal4(peer4), addr("ff02::16"), 143, 0, make([]byte, 24)), encap.Forward},
		{"hub: router advertisement", hub, p0, routerMessage(134), encap.DropInnerRouter},

		{"hub: own prefix", hub, p0, echo(h0, host6), encap.Forward},
		{"hub: own prefix, to another peer", hub, p0, echo(h0, h1), encap.Forward},
		{"hub: an unproven peer's echo reply to us", doubtful(), p0, packettest.ICMPv6(h0, ours6, 129, 0, make([]byte, 20)), encap.Forward},
		{"hub: data of an unproven peer", doubtful(), p0, udp(h0, host6, 1, 100), encap.DropUnproven},
		{"hub: an unproven peer's echo request", doubtful(), p0, echo(h0, ours6), encap.DropUnproven},
		{"hub: an unproven peer's echo reply to others", doubtful(), p0, packettest.ICMPv6(h0, host6, 129, 0, make([]byte, 20)), encap.DropUnproven},
		{"hub: another peer's prefix", hub, p0, echo(h1, host6), encap.DropInnerSourceNotPeers},
		{"hub: nobody's prefix", hub, p0, echo(other6, host6), encap.DropInnerSourceNotPeers},
		{"hub: outer source is not a peer", hub, peer4, echo(h0, host6), encap.DropNotPeer},
		{"hub: inner source is one of our own addresses", hub, p0, echo(ours6, host6), encap.DropInnerSourceOurs},
		{"hub: inner source is one of our own addresses, out of the peer's prefix", attached(), p0, echo(h0, host6), encap.DropInnerSourceOurs},
		{"hub: inner source fc00::/7, not assigned", hub, p0, echo(addr("fd00::1"), host6), encap.DropInnerSourceNotPeers},
		{"hub: inner source fc00::/7, assigned", unique, p0, echo(addr("fd00::1"), host6), encap.Forward},
		{"hub: inner source fc00::/7, assigned to another peer", unique, p1, echo(addr("fd00::1"), host6), encap.DropInnerSourceNotPeers},
		{"hub: link-local source, link-local destination", hub, p0, echo(linkLocal4(p0), linkLocal4(ours4)), encap.Forward},
		{"hub: link-local source, all nodes", hub, p0, echo(linkLocal4(p0), addr("ff02::1")), encap.Forward},
		{"hub: link-local source, our address", hub, p0, echo(linkLocal4(p0), ours6), encap.DropInnerSourceLinkLocal},
		{"hub: link-local source, another peer", hub, p0, echo(linkLocal4(p0), h1), encap.DropInnerSourceLinkLocal},
		{"hub: link-local source, site multicast", hub, p0, echo(linkLocal4(p0), addr("ff05::2")), encap.DropInnerSourceLinkLocal},
		{"hub: duplicate address detection", hub, p0, dad, encap.Forward},

		{"hub: inner prefix, its peer", nested(), p1, echo(in0, host6), encap.Forward},
		{"hub: inner prefix, the outer one's peer", nested(), p0, echo(in0, host6), encap.DropInnerSourceNotPeers},
		{"hub: outer prefix, the inner one's peer", nested(), p1, echo(h0, host6), encap.DropInnerSourceNotPeers},
		{"hub: the default peer, nobody's prefix", uplinkTable(), p0, echo(other6, host6), encap.Forward},
		{"hub: the default peer, another's prefix", uplinkTable(), p0, echo(h1, host6), encap.DropInnerSourceNotPeers},
		{"hub: the default peer, link-local source, beyond", uplinkTable(), p0, echo(linkLocal4(p0), host6), encap.DropInnerSourceLinkLocal},
	} {
		bubble(t, c.name, func(t *testing.T) { inboundRow(t, c.table, wrapped(c.from, c.inner), c.inner, c.want) })
	}
}

// inboundRow sends the packet between two that pass.
func inboundRow(t *testing.T, table TableConfig, outer, inner []byte, want encap.Drop) {
	r := newRig(t, Config{}, table).start(t)
	neighbour := echo(hubHost(2), host6)
	from := hubAddr(2)
	if len(table.Peers) == 1 {
		from = peer4
	}
	got := r.in(wrapped(from, neighbour), outer, wrapped(from, neighbour))
	if want == encap.Forward {
		equalPackets(t, "arrived", got, neighbour, inner, neighbour)
		wantDrops(t, r.Engine, nil)
		return
	}
	equalPackets(t, "arrived", got, neighbour, neighbour)
	wantDrops(t, r.Engine, map[encap.Drop]uint64{want: 1})
	if rx := r.Stats().Rx; rx != (Count{2, uint64(2 * len(neighbour))}) {
		t.Errorf("%+v", rx)
	}
	if sent := r.toWire.Drain(); len(sent) != 0 {
		t.Errorf("answered with % x", sent[0].Bytes)
	}
}

// TestInboundByteRules: each verdict of Decap reaches its counter. What leads to
// which is tested there.
func TestInboundByteRules(t *testing.T) {
	good := echo(other6, host6)
	changed := func(at int, x byte) []byte {
		b := echo(other6, host6)
		b[at] = x
		return b
	}
	from := func(src string) []byte { return wrapped(peer4, echo(addr(src), host6)) }
	outer := func(inner []byte, f func(b []byte)) []byte { return packettest.Outer(peer4, ours4, 1, inner, f) }
	bad := wrapped(peer4, good)
	bad[10] ^= 1
	for _, c := range []struct {
		name  string
		outer []byte
		want  encap.Drop
	}{
		{"empty", nil, encap.DropOuterShort},
		{"19 bytes", bad[:19], encap.DropOuterShort},
		{"outer version 6", outer(good, func(b []byte) { b[0] = 0x65 }), encap.DropOuterVersion},
		{"shorter than its headers claim", wrapped(peer4, good)[:60], encap.DropOuterLength},
		{"header checksum", bad, encap.DropOuterChecksum},
		{"fragment", outer(good, func(b []byte) { b[6] = 0x20 }), encap.DropOuterFragment},
		{"not protocol 41", outer(good, func(b []byte) { b[9] = 17 }), encap.DropOuterProtocol},
		{"outer source 127/8", packettest.Outer(addr("127.0.0.1"), ours4, 1, good), encap.DropOuterSource},
		{"outer source multicast", packettest.Outer(addr("224.0.0.1"), ours4, 1, good), encap.DropOuterSource},
		{"nothing inside", wrapped(peer4, nil), encap.DropInnerShort},
		{"fewer than 40 bytes inside: 39", wrapped(peer4, good[:39]), encap.DropInnerShort},
		{"inner version not 6", wrapped(peer4, changed(0, 0x45)), encap.DropInnerVersion},
		{"payload length longer than the packet", wrapped(peer4, changed(5, 200)), encap.DropInnerLength},
		{"ECN: outer CE, inner Not-ECT", outer(good, func(b []byte) { b[1] = 3 }), encap.DropECN},
		{"inner source ::1", from("::1"), encap.DropInnerSourceLoopback},
		{"inner source multicast", from("ff02::1"), encap.DropInnerSourceMulticast},
		{"inner source ::ffff:a.b.c.d", from("::ffff:192.0.2.1"), encap.DropInnerSourceMapped},
		{"inner source ::a.b.c.d", from("::192.0.2.1"), encap.DropInnerSourceCompatible},
		{"inner source fec0::/10", from("fec0::1"), encap.DropInnerSourceSiteLocal},
		{"inner source 2002: with private IPv4 inside", from("2002:a00:1::1"), encap.DropInnerSource6to4},
	} {
		bubble(t, c.name, func(t *testing.T) { inboundRow(t, hostTable(), c.outer, nil, c.want) })
	}
}

// TestInboundPasses has the rows whose packets arrive changed, or look wrong and
// are not.
func TestInboundPasses(t *testing.T) {
	good := echo(other6, host6)
	ect, ce := echo(other6, host6), echo(other6, host6)
	ect[1], ce[1] = 2<<4, 3<<4
	options := packettest.Outer(peer4, ours4, 1, append([]byte{1, 1, 1, 0}, good...))
	options[0]++
	sum := ^packettest.Sum(append(append(options[:10:10], 0, 0), options[12:24]...))
	options[10], options[11] = byte(sum>>8), byte(sum)
	long := udp(other6, host6, 1, 9000)
	for _, c := range []struct {
		name        string
		outer, want []byte
	}{
		{"bytes after the inner packet", wrapped(peer4, append(echo(other6, host6), 1, 2, 3)), good},
		{"bytes after the outer packet", append(wrapped(peer4, good), 1, 2, 3), good},
		{"outer IPv4 options", options, good},
		{"outer DSCP, outer TTL", packettest.Outer(peer4, ours4, 0, good, func(b []byte) { b[1], b[8] = 0xfc, 1 }), good},
		{"ECN: outer CE, inner ECT(0)", packettest.Outer(peer4, ours4, 0, ect, func(b []byte) { b[1] = 3 }), ce},
		{"inner packet longer than the tunnel MTU", wrapped(peer4, long), long},
	} {
		bubble(t, c.name, func(t *testing.T) { inboundRow(t, hostTable(), c.outer, c.want, encap.Forward) })
	}
}

// TestInboundMergedUDP: UDP that cannot be cut again is refused, but only after it
// is known to come from a peer and from where that may send.
func TestInboundMergedUDP(t *testing.T) {
	for _, c := range []struct {
		name string
		from netip.Addr
		src  netip.Addr
		want encap.Drop
	}{
		{"from a peer", peer4, other6, encap.DropMergedUDP},
		{"not from a peer", other4, other6, encap.DropNotPeer},
		{"from our address", peer4, ours6, encap.DropInnerSourceOurs},
	} {
		bubble(t, c.name, func(t *testing.T) {
			r := newRig(t, Config{}, hostTable()).start(t)
			r.fromWire.PushEntries(packettest.Entry{Bytes: wrapped(c.from, udp(c.src, host6, 1, 5000)), Err: packet.ErrSegmentUnknown})
			equalPackets(t, "arrived", r.in(wrapped(peer4, echo(other6, host6))), echo(other6, host6))
			wantDrops(t, r.Engine, map[encap.Drop]uint64{c.want: 1})
		})
	}
}

// TestInboundReaderErrors: "a packet with Err set is there only to be counted".
func TestInboundReaderErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Config{}, hostTable()).start(t)
		good := wrapped(peer4, echo(other6, host6))
		r.fromWire.PushEntries(packettest.Entry{Bytes: good, Err: packet.ErrMalformed}, packettest.Entry{Bytes: good})
		synctest.Wait()
		equalPackets(t, "arrived", drain(r.toTUN), echo(other6, host6))
		if sum := dropped(r.lanes[0]); sum != 1 || r.Stats().Rx.Packets != 1 {
			t.Errorf("%d dropped, %+v", sum, r.Stats())
		}
	})
}

// dropped is the sum of a lane's drop counters.
func dropped(l *lane) (sum uint64) {
	for d := range l.drops {
		sum += l.drops[d].Load()
	}
	return sum
}
