package engine

import (
	"net/netip"

	"sixin4/encap"
	"sixin4/encap/packet"
)

// Stranger is a packet that came over UDP from an address and port, or to a socket, which are
// not those of the peer that has its inner source. A NAT on the way may have given the peer
// others; or somebody forges.
type Stranger struct {
	From End      // where it came from, and to which socket
	Peer End      // where the peer is that has its source
	Len  int      // of the inner packet, bytes
	Head [64]byte // its first bytes: enough for an ICMPv6 echo message with 16 bytes of data
}

// stranger tells of a packet that was refused, if its source is a peer's over UDP.
func (l *lane) stranger(t *Table, from remoteKey, p *packet.Packet) {
	if l.e.cfg.Stranger == nil {
		return
	}
	i, ok := t.sources.Lookup(encap.IPv6(p.Head()).Src())
	if !ok || i == ours || t.at(i).Port == 0 {
		return
	}
	s := Stranger{From: End{from.addrPort(), l.Socket}, Peer: t.at(i).End(), Len: p.Len()}
	n := copy(s.Head[:], p.Head())
	copy(s.Head[n:], p.Payload)
	l.e.cfg.Stranger(s)
}

// addrPort is the address and port that keyAt was given.
func (k remoteKey) addrPort() netip.AddrPort {
	a := k >> 16
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{byte(a >> 24), byte(a >> 16), byte(a >> 8), byte(a)}), uint16(k))
}

// PeerAt is Peer for peers over UDP too.
func (e *Engine) PeerAt(at End) (PeerStats, bool) {
	t := e.table.Load()
	i, ok := t.findAt(at)
	if !ok {
		return PeerStats{}, false
	}
	return t.at(i).stats(), true
}
