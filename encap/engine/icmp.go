package engine

import (
	"context"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"sixin4/encap"
	"sixin4/encap/pathmtu"
)

// noticeNanos is how long encap.Notice tells the next sender of an error.
const noticeNanos = int64(30e9)

// speaks is how lately a peer has been heard of which no protocol unreachable is
// believed: it does speak protocol 41.
const speaks = time.Minute

// relay takes in ICMPv4 errors, beside the loops.
type relay struct {
	mu      sync.Mutex
	errs    *errorWriter
	lane    lane // of errs
	relayed [encap.NumICMP4Kinds]atomic.Uint64
	doubted [encap.NumDoubts]atomic.Uint64
	paths   [pathmtu.NumVerdicts]atomic.Uint64
}

func newRelay(e *Engine, out Writer) *relay {
	r := &relay{lane: lane{Lane: Lane{Back: out}, e: e}}
	r.errs = newErrorWriter(&r.lane)
	return r
}

func (r *relay) addTo(s *Stats) {
	s.ICMPErrors += r.lane.created.Load()
	for k := range r.relayed {
		s.ICMP.Relayed[k] = r.relayed[k].Load()
	}
	for d := range r.doubted {
		s.ICMP.Doubted[d] = r.doubted[d].Load()
	}
	for v := range r.paths {
		s.ICMP.Paths[v] = r.paths[v].Load()
	}
}

// ICMP takes in an ICMPv4 message that has come to this host, its IPv4 header first: one
// that cannot be about a packet of a peer is only counted (encap.ParseICMP4). From
// fragmentation needed the MTU of the path to the peer is learnt, for 10 minutes; the
// next packet that is longer gets the answer. Other errors are relayed to the inner
// sender at once (RFC 4213, Section 3.4; RFC 2473, Section 8), or to the next one if the
// quote is too short to tell who it was, at most ten a second. Any goroutine may call it;
// msg is not kept.
func (e *Engine) ICMP(msg []byte) News {
	t := e.table.Load()
	err, why := encap.ParseICMP4(msg, sent{t, e.cfg.Behind})
	if why != encap.DoubtNone {
		e.relay.doubted[why].Add(1)
		return NoNews
	}
	p, ok := t.peerAt(err.Peer)
	if !ok {
		return NoNews
	}
	if err.Kind == encap.ICMP4FragNeeded {
		return e.learn(p, &err)
	}
	news := NoNews
	if err.Kind == encap.ICMP4ProtocolUnreachable {
		news = e.refuse(p, &err)
	}
	e.relayError(p, &err)
	return news
}

// News is what a message has changed that those who run an engine act upon.
type News uint8

const (
	// NoNews: nothing, or something that the engine sees to.
	NoNews News = iota
	// PathLowered: the path to a peer carries less than was known.
	PathLowered
	// PeerRefuses: PeerStats.Refused is set, and was not before.
	PeerRefuses
)

// learn takes in that the path to a peer carries less.
func (e *Engine) learn(p *peer, err *encap.ICMP4Error) News {
	now := e.monotonic()
	v := p.count.path.Learn(now, err.MTU, err.Size, e.sizes.Load().wire)
	e.relay.paths[v].Add(1)
	if v.Ignored() {
		return NoNews
	}
	e.lookUntil(now + pathmtu.Lifetime)
	if v == pathmtu.Renewed {
		return NoNews
	}
	mtu, _ := p.count.path.Learnt(now)
	e.log.Info("the path to the peer carries less than its link", "remote", netip.AddrFrom4(err.Peer),
		"mtu", int(mtu.Tun()), "path-mtu", int(mtu), "router", netip.AddrFrom4(err.Router))
	return PathLowered
}

// refuse notes that a peer does not speak protocol 41, and logs it when that is news.
func (e *Engine) refuse(p *peer, err *encap.ICMP4Error) News {
	now, heard := time.Now(), time.Unix(0, p.count.lastHeard.Load())
	if e.cfg.Heard != nil {
		if past := e.cfg.Heard(p.Remote); past.After(heard) {
			heard = past
		}
	}
	if now.Sub(heard) < speaks {
		return NoNews
	}
	before := time.Unix(0, p.count.refused.Swap(now.UnixNano()))
	if before.After(heard) && before.UnixNano() != 0 {
		return NoNews
	}
	level := slog.LevelWarn
	if p.unproven { // it may not be ready yet, and has to show anyway that it is there
		level = slog.LevelDebug
	}
	e.log.Log(context.Background(), level, "the far end does not take protocol 41 (ICMPv4 protocol unreachable): no tunnel to this host is set up there, "+
		"or a NAT in front of it does not pass it on; see that its end has this host's public IPv4 address, "+
		"or use a tunnel in UDP (sixin4 connect --mode v6udpv4)",
		"remote", netip.AddrFrom4(err.Peer), "router", netip.AddrFrom4(err.Router))
	return PeerRefuses
}

// relayError tells the inner sender, this one or the next.
func (e *Engine) relayError(p *peer, err *encap.ICMP4Error) {
	code, ok := err.Kind.Unreachable()
	if !ok {
		return
	}
	if len(err.Inner) < encap.IPv6HeaderLen {
		now := e.monotonic()
		p.count.notice.Leave(now, code)
		e.lookUntil(now + noticeNanos)
		return
	}
	r := e.relay
	r.mu.Lock()
	defer r.mu.Unlock()
	r.errs.add(func(dst []byte, from netip.Addr) []byte { return encap.AppendRelayed(dst, err, from) })
	r.relayed[err.Kind].Add(r.errs.flush())
}

// lookUntil has the loops look at what is known about paths until a moment.
func (e *Engine) lookUntil(end int64) {
	for {
		before := e.learnt.Load()
		if end <= before || e.learnt.CompareAndSwap(before, end) {
			return
		}
	}
}

// forget forgets what was learnt about all paths.
func (e *Engine) forget() {
	for p := range e.table.Load().all() {
		p.count.path.Forget()
	}
}

// PathMTU returns the longest IPv4 packet in bytes that goes on to the peer at an
// address, as was learnt by ICMPv4; 0: nothing was, or there is no such peer.
func (e *Engine) PathMTU(remote netip.Addr) encap.WireMTU {
	s, _ := e.Peer(remote)
	return s.PathMTU
}

// sent is what may have been sent by a table: encap.Sent for who is asked about errors.
type sent struct {
	*Table
	behind func(netip.Addr) bool
}

// peerAt is the peer of protocol 41 that packets to an address go to.
func (t *Table) peerAt(remote [4]byte) (*peer, bool) {
	i, ok := t.indexAt(remote)
	if !ok {
		return nil, false
	}
	return t.at(i), true
}

func (t *Table) indexAt(remote [4]byte) (int32, bool) {
	i, ok := t.remotes.get(keyOf(remote))
	if !ok {
		i = t.mapped
	}
	return i, i != none
}

// SendsTo reports whether a peer of protocol 41 is at remote, by the local address.
func (t *Table) SendsTo(local, remote [4]byte) bool {
	p, ok := t.peerAt(remote)
	return ok && p.Outer.Src == netip.AddrFrom4(local)
}

// Carries is encap.Sent for who has nobody to ask about senders that are not of the
// table.
func (t *Table) Carries(remote [4]byte, src, dst netip.Addr) bool {
	return sent{Table: t}.Carries(remote, src, dst)
}

// Carries reports whether inner packets from src to dst, which is not always known, go
// to the peer at remote.
func (s sent) Carries(remote [4]byte, src, dst netip.Addr) bool {
	i, ok := s.indexAt(remote)
	return ok && s.startsHere(i, src) && (!dst.IsValid() || s.leadsTo(i, remote, dst))
}

// startsHere reports whether a packet from src may go to peer i: it is of this host, or
// comes through it from elsewhere.
func (s sent) startsHere(i int32, src netip.Addr) bool {
	if src.IsUnspecified() || src.IsMulticast() || src.IsLoopback() {
		return false
	}
	owner, ok := s.sources.Lookup(src)
	switch {
	case ok && owner == ours:
		return true
	case ok && owner != i, s.mapsHere(i, src):
		return true // another peer of the hub, or a host of this site
	case ok && !s.host:
		return false
	}
	return s.behind != nil && s.behind(src)
}

// leadsTo reports whether what is sent to dst goes to peer i, and that to remote.
func (s sent) leadsTo(i int32, remote [4]byte, dst netip.Addr) bool {
	inner := make(encap.IPv6, encap.IPv6HeaderLen)
	inner[0] = 6 << 4
	to := dst.As16()
	copy(inner[24:], to[:])
	if owner, ok := s.sources.Lookup(dst); ok && owner == ours || s.way(inner) != i {
		return false
	}
	if m := s.at(i).Map; m != nil {
		v4, d := m.Outbound(inner)
		return d == encap.Forward && v4 == remote
	}
	return true
}
