package daemon

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"

	"sixin4/encap"
	"sixin4/encap/engine"
	"sixin4/encap/packet"
	"sixin4/tsp/broker/store"
)

// A NAT gives the flow of a client another address or port when it has forgotten the one
// before. The tunnel goes on there when it is shown that the client is there:
//
//	a packet of the tunnel from elsewhere
//	   ──> an echo request with a random nonce, sent there only, no longer than the packet
//	reply from there: who is there gets what is sent there
//	   ──> the end of before is asked too
//	no answer, several times: it is not there any more
//	   ──> the tunnel ends there from now on
//
// Any client's kernel gives these replies. A packet with a forged outer source moves
// nothing, as the reply does not come from there; and whoever answers at an address of
// his own moves nothing as long as the client is where it was. Where another tunnel ends its client
// is asked as well: a client that has a new tunnel may use the old one's address for a while, from
// where the new one ends. All this is by the socket of the tunnel: a client that sends to another one
// has a session there first.
const (
	challengeLife   = 3 * time.Second // of a nonce
	challengeAgain  = time.Second     // after that a packet is answered by another request
	challengesEach  = 4               // at a time for a tunnel, at its own address, and as many elsewhere
	challengesAll   = 4096            // at a time
	challengeChecks = 64              // ends of before that are asked at a time
)

// formerWaits is for how long each request to the end of before is waited for. All
// together is less than a client takes to believe that the broker is gone; the last
// is longer than a round trip by satellite.
var formerWaits = []time.Duration{150 * time.Millisecond, 250 * time.Millisecond, 700 * time.Millisecond}

// wanderers are clients that seem to be elsewhere. The zero value is not ready.
type wanderers struct{ seen chan engine.Stranger }

func newWanderers() wanderers { return wanderers{make(chan engine.Stranger, 256)} }

// see is for the engine: it must not wait. What there is no room for comes again.
func (w *wanderers) see(s engine.Stranger) {
	select {
	case w.seen <- s:
	default:
	}
}

// nonce is what an echo request has with it.
type nonce [16]byte

// challenge is a nonce that was sent to where a client may be.
type challenge struct {
	lease *liveLease
	at    engine.End
	nonce nonce
	begun time.Time // of the nonce
	sent  time.Time // the last time
}

// claim is that the client of a lease is somewhere.
type claim struct {
	lease *liveLease
	at    engine.End
}

// rebinding is the state of rebind, for its goroutine.
type rebinding struct {
	*leases
	send     func(b []byte, to engine.End) error
	open     map[claim]*challenge
	byNonce  map[nonce]*challenge
	counts   map[*liveLease]*[2]int // of challenges, at its own address and elsewhere
	checking map[*liveLease]bool
	checked  chan *liveLease
	checks   sync.WaitGroup
}

func newRebinding(t *leases, send func(b []byte, to engine.End) error) *rebinding {
	return &rebinding{
		leases: t, send: send,
		open: make(map[claim]*challenge), byNonce: make(map[nonce]*challenge),
		counts: make(map[*liveLease]*[2]int), checking: make(map[*liveLease]bool),
		checked: make(chan *liveLease, challengeChecks),
	}
}

// rebind moves tunnels to where their clients are now, until ctx ends.
func (t *leases) rebind(ctx context.Context, ready func()) error {
	r := newRebinding(t, t.b.sendUDP)
	defer r.checks.Wait()
	tick := time.NewTicker(challengeLife)
	defer tick.Stop()
	ready()
	for {
		select {
		case <-ctx.Done():
			return nil
		case s := <-t.wanderers.seen:
			r.take(ctx, s, time.Now())
		case l := <-r.checked:
			delete(r.checking, l)
		case now := <-tick.C:
			r.expire(now)
		}
	}
}

// sendUDP sends a packet from a socket of the tunnels in UDP, past the engine.
func (b *brokerage) sendUDP(p []byte, to engine.End) error {
	_, err := b.beside.udp[to.Socket].Control().WriteTo(p, net.UDPAddrFromAddrPort(to.AddrPort))
	return err
}

// take takes a packet that came from elsewhere.
func (r *rebinding) take(ctx context.Context, s engine.Stranger, now time.Time) {
	if s.Len < encap.IPv6HeaderLen {
		return
	}
	if c := r.answered(s); c != nil {
		r.prove(ctx, c)
		return
	}
	r.mu.Lock()
	l := r.byOuter[s.Peer]
	here := l != nil && !l.gone && (l.proven || l.resumed) && s.From.Socket == l.socket
	r.mu.Unlock()
	if here && s.Len >= echoLen {
		r.challenge(claim{l, s.From}, now)
	}
}

// challenge sends a nonce to where a client may be.
func (r *rebinding) challenge(at claim, now time.Time) {
	c := r.open[at]
	switch {
	case r.checking[at.lease] || c != nil && now.Sub(c.sent) < challengeAgain:
		return
	case c == nil:
		if c = r.begin(at, now); c == nil {
			return
		}
	}
	c.sent = now
	if err := r.send(echoRequest(at.lease.Server6, at.lease.Client6, c.nonce), at.at); err != nil {
		r.b.env.Logger.Debug("no echo request can be sent to where a client may be", "lease", at.lease.ID, "outer", at.at, "error", err)
	}
}

// begin makes a challenge, nil when there are too many. Those at the address of before
// have their own number: they are likely to be true.
func (r *rebinding) begin(at claim, now time.Time) *challenge {
	n := r.counts[at.lease]
	if n == nil {
		n = new([2]int)
	}
	if n[at.elsewhere()] >= challengesEach || len(r.open) >= challengesAll {
		return nil
	}
	n[at.elsewhere()]++
	r.counts[at.lease] = n
	c := &challenge{lease: at.lease, at: at.at, begun: now}
	_, _ = rand.Read(c.nonce[:]) // never fails
	r.open[at], r.byNonce[c.nonce] = c, c
	return c
}

// elsewhere is 0 for the address that the tunnel ends at, else 1.
func (c claim) elsewhere() int {
	if c.at.Addr() == c.lease.Outer.Addr() {
		return 0
	}
	return 1
}

// expire forgets nonces of long ago.
func (r *rebinding) expire(now time.Time) {
	for _, c := range r.open {
		if now.Sub(c.begun) >= challengeLife {
			r.forget(c)
		}
	}
}

func (r *rebinding) forget(c *challenge) {
	at := claim{c.lease, c.at}
	if r.open[at] != c {
		return
	}
	delete(r.open, at)
	delete(r.byNonce, c.nonce)
	n := r.counts[c.lease]
	if n[at.elsewhere()]--; *n == [2]int{} {
		delete(r.counts, c.lease)
	}
}

// answered is the challenge that a packet answers, nil for none.
func (r *rebinding) answered(s engine.Stranger) *challenge {
	if s.Len != echoLen {
		return nil
	}
	inner := encap.IPv6(s.Head[:])
	c := r.byNonce[nonce(s.Head[encap.IPv6HeaderLen+8:])]
	if c == nil || s.From != c.at || !encap.EchoReply(inner) || inner.Src() != c.lease.Client6 || inner.Dst() != c.lease.Server6 {
		return nil
	}
	return c
}

// prove asks the end of before too, and the tunnel that the other end has already if it has one, and
// moves the tunnel when both are silent.
func (r *rebinding) prove(ctx context.Context, c *challenge) {
	r.forget(c)
	if r.checking[c.lease] || len(r.checking) >= challengeChecks {
		return
	}
	r.checking[c.lease] = true
	ask := []*liveLease{c.lease}
	r.mu.Lock()
	if there := r.byOuter[c.at]; there != nil {
		ask = append(ask, there)
	}
	r.mu.Unlock()
	r.checks.Go(func() {
		switch who := r.stillThere(ctx, ask); {
		case who != nil:
			r.b.env.Logger.Debug("a client answers elsewhere, and its tunnel stays", "lease", c.lease.ID, "elsewhere", c.at, "answers", who.ID)
		case ctx.Err() == nil:
			r.move(ctx, c.lease, c.at.AddrPort, c.begun)
		}
		r.checked <- c.lease
	})
}

// stillThere is a tunnel whose client answers where it ends, nil for none. They are asked at the same
// time, so that it takes no longer for two.
func (t *leases) stillThere(ctx context.Context, tunnels []*liveLease) *liveLease {
	for _, wait := range formerWaits {
		answer := make(chan *liveLease)
		for _, l := range tunnels {
			go func() {
				if !t.asks(ctx, l, wait) {
					l = nil
				}
				answer <- l
			}()
		}
		var who *liveLease
		for range tunnels {
			who = cmp.Or(<-answer, who)
		}
		if who != nil {
			return who
		}
	}
	return nil
}

// move makes a tunnel end where its client has shown to be, since some time, unless another
// has ended there since: a client that asks for a tunnel anew may still send by its old one
// from the socket of the new one, and that would be ousted by it.
func (t *leases) move(ctx context.Context, l *liveLease, to netip.AddrPort, since time.Time) {
	ctx, cancel := context.WithTimeout(ctx, storeTime)
	defer cancel()
	t.mu.Lock()
	gone, merged := l.gone, l.merged
	there := t.byOuter[engine.End{AddrPort: to, Socket: l.socket}]
	t.mu.Unlock()
	if gone {
		return
	}
	if there != nil && there != l && there.since.After(since) {
		t.b.env.Logger.Debug("a tunnel does not follow its client to where that has another by now", "lease", l.ID, "outer", outerText(to), "other", there.ID)
		return
	}
	a := t.b.activation(l.Lease)
	a.Outer, a.Merged, a.Expires = to, merged, time.Now().Add(t.b.cfg.AnonymousLease)
	s, err := t.b.store.Activate(ctx, a)
	if err != nil {
		if !errors.Is(err, store.ErrConflict) && !errors.Is(err, store.ErrNotFound) {
			t.b.env.Logger.Warn("a tunnel cannot follow its client", "lease", l.ID, "outer", to, "error", err)
		}
		return
	}
	moved := t.live(s)
	moved.proven = true
	t.carry(moved)
	t.b.env.Logger.Info("tunnel has moved with its client", "lease", l.ID, "outer", outerText(to), "was", outerText(l.Outer), "address", l.Client6)
}

// echoLen is the length in bytes of our echo requests and of their replies, that of the
// keepalive of the client with the widest use.
const echoLen = encap.IPv6HeaderLen + 8 + len(nonce{})

// echoID is the identifier of echo requests past the engine.
const echoID = 0x6b64

// echoRequest is an ICMPv6 echo request (RFC 4443, Section 4.1, from memory) in an IPv6
// packet.
func echoRequest(src, dst netip.Addr, n nonce) []byte { return longEcho(src, dst, n, echoLen) }

// longEcho is echoRequest with zeros behind the nonce, size bytes in all, at least echoLen.
func longEcho(src, dst netip.Addr, n nonce, size int) []byte {
	const payload = encap.IPv6HeaderLen
	b := make([]byte, size)
	b[0], b[6], b[7] = 0x60, protoICMPv6, 64
	binary.BigEndian.PutUint16(b[4:], uint16(size-payload))
	from, to := src.As16(), dst.As16()
	copy(b[8:], from[:])
	copy(b[24:], to[:])
	b[payload] = 128
	binary.BigEndian.PutUint16(b[payload+4:], echoID)
	copy(b[payload+8:], n[:])
	sum := packet.AddBytes(packet.PseudoHeader(b[8:payload], protoICMPv6, size-payload), b[payload:])
	binary.BigEndian.PutUint16(b[payload+2:], ^packet.Fold(sum))
	return b
}

const protoICMPv6 = 58
