package engine

import (
	"fmt"
	"math"
	"net/netip"

	"sixin4/encap"
	"sixin4/encap/packet"
)

// Probing is a search for what the path to a peer carries (RFC 8899): how far it is, and
// what its probes look like.
type Probing struct {
	// Remote and Port are those of the peer, and its Socket is 0.
	Remote netip.Addr
	Port   uint16
	// MTU is the longest IPv4 packet, in bytes, that the path was found to carry: what is
	// longer is answered with packet too big, whatever the link carries. 0 is no limit.
	MTU encap.WireMTU
	// From and To are the IPv6 addresses of the probes, ICMPv6 echo requests, which are
	// sent whole as long as the link carries them.
	From, To netip.Addr
}

// probes are the addresses of probes as a packet has them.
type probes struct {
	remote   End
	from, to [16]byte
}

// SetProbing replaces what is searched for; the zero Probing is no search. There is one
// at a time. It holds for the peers of later tables too, if they are at the same address.
// It fails when there is no such peer.
func (e *Engine) SetProbing(p Probing) error {
	e.swap.Lock()
	defer e.swap.Unlock()
	t, at := e.table.Load(), End{AddrPort: netip.AddrPortFrom(p.Remote, p.Port)}
	if before := e.probing.Load(); before != nil && before.remote != at {
		if i, ok := t.findAt(before.remote); ok {
			t.at(i).count.path.Limit(0)
		}
		e.probing.Store(nil)
	}
	if p == (Probing{}) {
		return nil
	}
	i, ok := t.findAt(at)
	if !ok || !p.From.Is6() || !p.To.Is6() {
		return fmt.Errorf("engine: probing from %v to %v by peer %v: no such peer, or no IPv6 addresses", p.From, p.To, at)
	}
	e.probing.Store(&probes{remote: at, from: p.From.WithZone("").As16(), to: p.To.WithZone("").As16()})
	t.at(i).count.path.Limit(p.MTU)
	e.lookUntil(math.MaxInt64)
	return nil
}

// isProbe reports whether a packet from the TUN is a probe. It is asked of those that are
// longer than what is known to arrive.
func (e *Engine) isProbe(p *packet.Packet) bool {
	const icmp, echoRequest = 58, 128 // RFC 4443, Section 4.1
	want, inner := e.probing.Load(), encap.IPv6(p.Head())
	return want != nil && len(inner) > encap.IPv6HeaderLen && inner.NextHeader() == icmp &&
		inner[encap.IPv6HeaderLen] == echoRequest && inner.Src16() == want.from && inner.Dst16() == want.to
}
