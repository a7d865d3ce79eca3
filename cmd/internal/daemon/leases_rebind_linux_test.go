package daemon

import (
	"context"
	"net"
	"net/netip"
	"testing"
	"time"

	"sixin4/encap"
	"sixin4/encap/engine"
	"sixin4/tsp"
	"sixin4/tsp/broker"
	"sixin4/tsp/broker/store"
)

// byUDP gives a client a tunnel in UDP, and shows that it is there.
func (o office) byUDP(u *broker.User, from string) *liveLease {
	o.t.Helper()
	o.sockets(1)
	return o.byUDPAt(u, from, 0)
}

// sockets makes the office one with at least so many sockets that carry tunnels.
func (o office) sockets(n int) {
	o.t.Helper()
	for i := len(o.b.beside.udp); i < n; i++ {
		c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1+byte(i))})
		if err == nil {
			_, err = o.b.carryUDP(c)
		}
		if err != nil {
			o.t.Fatal(err)
		}
	}
}

// byUDPAt is byUDP by one of the sockets.
func (o office) byUDPAt(u *broker.User, from string, socket uint16) *liveLease {
	o.t.Helper()
	g, err := o.offerUDP(u, from, o.b.beside.udp[socket].Control())
	if err == nil {
		err = o.Accept(o.t.Context(), g)
	}
	if err != nil {
		o.t.Fatal(err)
	}
	o.mu.Lock()
	l := o.byOuter[engine.End{AddrPort: netip.MustParseAddrPort(from), Socket: socket}]
	o.mu.Unlock()
	o.answering(true)
	o.ask(o.t.Context(), l)
	o.answering(false)
	return l
}

func (o office) offerUDP(u *broker.User, from string, by net.PacketConn) (*broker.Grant, error) {
	return o.offerMerged(u, from, by, false)
}

func (o office) offerMerged(u *broker.User, from string, by net.PacketConn, merged bool) (*broker.Grant, error) {
	at := netip.MustParseAddrPort(from)
	r := tsp.Request{Action: tsp.ActionCreate, Type: tsp.V6UDPV4, Client: netip.MustParseAddr("10.0.0.2")}
	return o.Offer(o.t.Context(), broker.Ask{
		User: u, Request: &r, Version: tsp.V202, Type: tsp.V6UDPV4, Outer: at.Addr(), From: at, Conn: by, Merged: merged,
	})
}

// TestLeaseUDP: tunnels in UDP are told apart by port, and do not disturb one of protocol
// 41 at the same address.
func TestLeaseUDP(t *testing.T) {
	o := newOffice(t)
	first, second := o.byUDP(nil, "192.0.2.1:4711"), o.byUDP(nil, "192.0.2.1:4712")
	o.up(o.user("alice", 0), "192.0.2.1", tsp.Request{})
	ports := make(map[uint16]bool)
	for _, p := range o.all() {
		ports[p.port] = true
	}
	if len(o.all()) != 3 || !ports[0] || !ports[4711] || !ports[4712] || first.Client6 == second.Client6 {
		t.Errorf("carried are %+v, want three", o.all())
	}
	if _, err := o.offerUDP(nil, "192.0.2.1:4713", new(net.UDPConn)); !isCode(err, tsp.BadType) {
		t.Errorf("by a socket that carries no tunnels: %v, want status %d", err, tsp.BadType)
	}
	o.Close(&broker.Grant{ID: grantID(first.ID, first.Epoch) + portMark + "4711"}, false)
	if first.gone || !first.asking {
		t.Error("a datagram, which may be forged, ended a tunnel before its client was asked")
	}
}

// TestLeaseUDPAgain: who has no account and comes back from the same address and port has
// the same address, though it does not answer now; from another port it has another.
func TestLeaseUDPAgain(t *testing.T) {
	o := newOffice(t)
	l := o.byUDP(nil, "192.0.2.1:4711")
	for from, same := range map[string]bool{"192.0.2.1:4711": true, "192.0.2.1:4712": false} {
		g, err := o.offerUDP(nil, from, o.b.beside.udp[0].Control())
		if err != nil || (g.Tunnel.Client6 == l.Client6) != same {
			t.Errorf("from %s: %+v, %v, want the same: %t", from, g, err, same)
			continue
		}
		if err := o.Accept(t.Context(), g); err != nil {
			t.Error(err)
		}
	}
	if l.gone || !l.proven {
		t.Error("the tunnel of before was ended")
	}
}

// road is rebinding with what it sends.
type road struct {
	*rebinding
	sent map[engine.End][]byte
}

func newRoad(o office) *road {
	r := &road{sent: make(map[engine.End][]byte)}
	r.rebinding = newRebinding(o.leases, func(b []byte, to engine.End) error {
		r.sent[to] = b
		return nil
	})
	return r
}

// hear has the engine see a packet of the tunnel of l from elsewhere.
func (r *road) hear(o office, l *liveLease, from string, inner []byte) {
	r.hearAt(o, l, at(from), inner)
}

func (r *road) hearAt(o office, l *liveLease, from engine.End, inner []byte) {
	s := engine.Stranger{From: from, Peer: l.end(), Len: len(inner)}
	copy(s.Head[:], inner)
	r.take(o.t.Context(), s, time.Now())
	r.checks.Wait()
}

// replyTo is the reply to an echo request; nil for none.
func replyTo(request []byte) []byte {
	if request == nil {
		return make([]byte, echoLen)
	}
	b := append([]byte(nil), request...)
	copy(b[8:24], request[24:40])
	copy(b[24:40], request[8:24])
	b[encap.IPv6HeaderLen] = 129
	return b
}

// TestRebind: a tunnel follows its client, and nobody else.
func TestRebind(t *testing.T) {
	const before, after, other = "192.0.2.1:4711", "192.0.2.1:4712", "203.0.113.5:4711"
	for _, tt := range []struct {
		name string
		run  func(o office, r *road, l *liveLease, p []byte)
		want string
	}{
		{"another port", func(o office, r *road, l *liveLease, p []byte) {
			r.hear(o, l, after, p)
			r.hear(o, l, after, replyTo(r.sent[at(after)]))
		}, after},
		{"another address", func(o office, r *road, l *liveLease, p []byte) {
			r.hear(o, l, other, p)
			r.hear(o, l, other, replyTo(r.sent[at(other)]))
		}, other},
		{"no reply", func(o office, r *road, l *liveLease, p []byte) { r.hear(o, l, after, p) }, before},
		{"a reply from elsewhere", func(o office, r *road, l *liveLease, p []byte) {
			r.hear(o, l, after, p)
			r.hear(o, l, other, replyTo(r.sent[at(after)]))
		}, before},
		{"a reply with another nonce", func(o office, r *road, l *liveLease, p []byte) {
			r.hear(o, l, after, p)
			b := replyTo(r.sent[at(after)])
			b[len(b)-1]++
			r.hear(o, l, after, b)
		}, before},
		{"a request, not a reply", func(o office, r *road, l *liveLease, p []byte) {
			r.hear(o, l, after, p)
			b := replyTo(r.sent[at(after)])
			b[encap.IPv6HeaderLen] = 128
			r.hear(o, l, after, b)
		}, before},
		{"the client answers where it was", func(o office, r *road, l *liveLease, p []byte) {
			o.answering(true)
			r.hear(o, l, other, p)
			r.hear(o, l, other, replyTo(r.sent[at(other)]))
		}, before},
		{"another tunnel ends there, and is silent", func(o office, r *road, l *liveLease, p []byte) {
			o.byUDP(nil, other)
			r.hear(o, l, other, p)
			r.hear(o, l, other, replyTo(r.sent[at(other)]))
		}, other},
		{"its tunnel has ended meanwhile", func(o office, r *road, l *liveLease, p []byte) {
			r.hear(o, l, after, p)
			o.end(o.t.Context(), l, "test")
			r.hear(o, l, after, replyTo(r.sent[at(after)]))
		}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			o := newOffice(t)
			l := o.byUDP(o.user("alice", 0), before)
			r := newRoad(o)
			tt.run(o, r, l, echoRequest(l.Client6, l.Server6, nonce{}))
			now := ""
			if peers := o.all(); len(peers) == 1 {
				now = netip.AddrPortFrom(peers[0].Remote, peers[0].port).String()
			}
			if now != tt.want {
				t.Errorf("the tunnel ends at %q, want %q", now, tt.want)
			}
			s, err := o.b.store.Lease(t.Context(), l.ID)
			if err != nil || tt.want != "" && (s.Outer.String() != tt.want || s.State != store.Up) {
				t.Errorf("the store has %+v, %v", s, err)
			}
		})
	}
}

// TestRebindNewTunnel: a client that has a new tunnel, and still sends by the old one's address from where
// the new one ends, keeps the new one as long as that answers, however long ago it came up.
func TestRebindNewTunnel(t *testing.T) {
	const before, after = "192.0.2.1:4711", "192.0.2.3:4712"
	o := newOffice(t)
	old := o.byUDP(nil, before)
	fresh := o.byUDP(nil, after)
	o.asks = func(_ context.Context, l *liveLease, _ time.Duration) bool { return l == fresh }
	r, p := newRoad(o), echoRequest(old.Client6, old.Server6, nonce{})
	hear := func() {
		r.hear(o, old, after, p)
		r.hear(o, old, after, replyTo(r.sent[at(after)]))
		<-r.checked
		clear(r.checking)
	}
	hear()
	if fresh.gone || old.gone || len(o.all()) != 2 {
		t.Fatalf("the new one is gone: %t, the old one: %t; carried are %+v", fresh.gone, old.gone, o.all())
	}
	o.asks = nobodyAnswers // the client of the new one is gone, and its end another's
	hear()
	if peers := o.all(); !fresh.gone || len(peers) != 1 || peers[0].inner != old.Client6 || peers[0].port != 4712 {
		t.Errorf("carried are %+v, want %v alone, at %s", peers, old.Client6, after)
	}
}

// TestRebindBounds: what is sent is never more than what came, and bounded.
func TestRebindBounds(t *testing.T) {
	o := newOffice(t)
	l := o.byUDP(nil, "192.0.2.1:4711")
	r := newRoad(o)
	p := echoRequest(l.Client6, l.Server6, nonce{})
	r.hear(o, l, "192.0.2.1:1", p[:echoLen-1])
	if len(r.sent) != 0 {
		t.Error("a packet was answered by a longer one")
	}
	for port := range uint16(100) {
		for _, a := range []string{"192.0.2.1", "203.0.113.5"} {
			r.hear(o, l, netip.AddrPortFrom(netip.MustParseAddr(a), 5000+port).String(), p)
		}
	}
	if len(r.sent) != 2*challengesEach {
		t.Errorf("requests to %d ends, want %d", len(r.sent), 2*challengesEach)
	}
	clear(r.sent)
	r.hear(o, l, "192.0.2.1:5000", p)
	if len(r.sent) != 0 {
		t.Error("two requests to one end at once")
	}
	r.expire(time.Now().Add(challengeLife))
	if len(r.open)+len(r.byNonce)+len(r.counts) != 0 {
		t.Errorf("%d, %d, %d are left", len(r.open), len(r.byNonce), len(r.counts))
	}
	l.proven = false
	r.hear(o, l, "192.0.2.1:5000", p)
	if len(r.sent) != 0 {
		t.Error("a tunnel that nobody has shown to have was looked for elsewhere")
	}
}

// TestWanderers: the engine never waits.
func TestWanderers(t *testing.T) {
	w := newWanderers()
	for range 2 * cap(w.seen) {
		w.see(engine.Stranger{})
	}
	if len(w.seen) != cap(w.seen) {
		t.Errorf("%d are seen, want %d", len(w.seen), cap(w.seen))
	}
}
