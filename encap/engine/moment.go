package engine

import (
	"sixin4/encap"
	"sixin4/encap/packet"
)

// moment is what the packets of a batch are measured with.
type moment struct {
	sizes
	now  int64 // monotonic, nanoseconds; 0 where nobody asks
	look bool  // something may be known about the path to some peer
	cut  bool  // a packet of the batch is longer than the path of its peer
}

// moment reads the clock only for those who need it.
func (e *Engine) moment(t *Table) moment {
	m := moment{sizes: *e.sizes.Load()}
	if until := e.learnt.Load(); t.metered || until != 0 {
		m.now = e.monotonic()
		m.look = m.now < until
	}
	return m
}

// limits are the longest inner packet that the peer gets and the longest outer one that
// is not cut into fragments: what is set for all, or less by what was learnt about its
// path (RFC 4213, Section 3.2.2).
func (m *moment) limits(p *peer) (encap.TunMTU, encap.WireMTU) {
	tun := m.tun
	if p.trimmed {
		tun = m.udp
	}
	if !m.look {
		return tun, m.wire
	}
	wire := p.count.path.Get(m.now, m.wire)
	if wire == m.wire {
		return tun, wire
	}
	return min(tun, wire.Tun()), wire
}

// clamp lowers what TCP offers in a packet to or from a peer, which has passed
// encap.MayOfferMSS.
func (l *lane) clamp(m *moment, peer *peer, p *packet.Packet) {
	limit := m.mss
	if peer.trimmed {
		limit = m.udpMSS
	}
	if limit == 0 {
		return
	}
	if m.look {
		if tun, _ := m.limits(peer); tun < ethernetMTU {
			limit = min(limit, tun.MSS())
		}
	}
	if encap.ClampMSS(p, limit) {
		l.clamped.Add(1)
	}
}
