package daemon

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"sixin4/encap"
	"sixin4/encap/keepalive"
	"sixin4/encap/wire"
	"sixin4/tsp"
	"sixin4/tsp/client"
)

// keeper keeps the way of a tunnel in UDP open through the NAT, and finds out when there
// is none any more.
type keeper struct {
	ask    func(ctx context.Context, timeout time.Duration) bool // whether a request is answered
	sent   func() uint64                                         // packets through the tunnel
	hint   <-chan struct{}                                       // something says that the far end knows no tunnel
	rhythm rhythm
}

// run asks until ctx ends, or several requests in a row are lost. A request behind one
// that was lost follows at once: it opens the way anew if the NAT has closed it.
func (k *keeper) run(ctx context.Context) error {
	timeout := min(max(k.rhythm.most, time.Second), keepalive.DefaultTimeout)
	idle := false // since the last answer
	for lost := 0; lost < keepalive.DefaultLosses; lost++ {
		for k.ask(ctx, timeout) {
			if idle {
				k.learn(lost)
			}
			lost = 0
			before := k.sent()
			if !k.rest(ctx) {
				return nil
			}
			idle = k.sent() == before
		}
		if ctx.Err() != nil {
			return nil
		}
	}
	return fmt.Errorf("%w: %d echo requests in a row were lost", keepalive.ErrDead, keepalive.DefaultLosses)
}

func (k *keeper) learn(lost int) {
	if lost > 0 {
		k.rhythm.broke()
	} else {
		k.rhythm.held()
	}
}

// rest waits for the next request, and reports false when ctx has ended. A hint, which
// anybody can forge, makes it come at once.
func (k *keeper) rest(ctx context.Context) bool {
	timer := time.NewTimer(k.rhythm.now)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-k.hint:
	case <-ctx.Done():
		return false
	}
	return true
}

// watchUDP is Watch for a tunnel in UDP.
func (t *negotiated) watchUDP(ctx context.Context, l *client.Lease) error {
	ask := func(ctx context.Context, timeout time.Duration) bool {
		rtt, ok := t.questions.askFar(ctx, l, echoLen, timeout)
		if ok {
			t.told.answered(rtt)
		}
		return ok
	}
	path := udpPath{held: t.now.Load().wireMTU, log: t.env.Logger}
	return keepUDP(ctx, l, keeper{
		ask:    ask,
		sent:   func() uint64 { return t.totals().Tx.Packets },
		rhythm: newRhythm(l.Tunnel.Keepalive),
	}, func(ctx context.Context) { t.followUDP(ctx, l, &path) })
}

// keepUDP runs a keeper, with hints from the broker, and follows the path meanwhile.
// Without keepalive it does only the latter.
func keepUDP(ctx context.Context, l *client.Lease, k keeper, follow func(context.Context)) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	following := func() {
		for ok := true; ok; ok = waited(ctx, pathInterval) {
			follow(ctx)
		}
	}
	if l.Tunnel.Keepalive == 0 {
		following()
		return nil
	}
	var running sync.WaitGroup
	hint := make(chan struct{}, 1)
	running.Go(func() { hints(ctx, l.Conn, hint) })
	running.Go(following)
	k.hint = hint
	err := k.run(ctx)
	cancel()
	running.Wait()
	if err != nil {
		return fmt.Errorf("%v: %w", l.Tunnel.KeepaliveTo, err)
	}
	return nil
}

// askFar asks the far end of a lease in UDP, by a request of so many bytes.
func (q *questions) askFar(ctx context.Context, l *client.Lease, size int, timeout time.Duration) (time.Duration, bool) {
	send := func(b []byte) error {
		_, err := l.Conn.Write(b)
		return err
	}
	return q.ask(ctx, send, l.Tunnel.Client6, farAddress(l), size, timeout)
}

// farAddress is who is asked inside the broker.
func farAddress(l *client.Lease) netip.Addr {
	if l.Tunnel.KeepaliveTo.IsValid() {
		return l.Tunnel.KeepaliveTo
	}
	return l.Tunnel.Server6
}

// passes reports whether the far end answers requests that are as long as a path.
func (q *questions) passes(ctx context.Context, l *client.Lease, path encap.WireMTU) bool {
	for _, timeout := range pathWaits {
		if _, ok := q.askFar(ctx, l, int(path)-wire.UDPHeaderLen, timeout); ok {
			return true
		}
	}
	return false
}

// pathInterval is how often the kernel is asked what the way to the broker carries.
const pathInterval = time.Second

// followUDP gives the tunnel the MTU that the way to the broker has now.
func (t *negotiated) followUDP(ctx context.Context, l *client.Lease, p *udpPath) {
	session, ok := l.Conn.(*sessionConn)
	if !ok {
		return
	}
	kernel, err := session.pathMTU()
	if err != nil {
		return
	}
	most := forTunnel(t.linkTo(l.Broker.Addr(), kernel), l.Tunnel.MTU)
	path := p.follow(ctx, kernel, most, func(ctx context.Context, path encap.WireMTU) bool {
		return t.questions.passes(ctx, l, path)
	})
	t.change.Lock()
	defer t.change.Unlock()
	now := t.now.Load()
	if ctx.Err() != nil || now.session != session {
		return
	}
	if err := now.session.setDF(t.set.MTU == 0 && path >= shortestUDP); err != nil {
		t.env.Logger.Warn("the MTU stays what it was", "error", err)
		return
	}
	t.udp.held.Store(int64(path))
	if path != t.seen.wireMTU { // else somebody has seen it before
		t.followMTU(now, path)
	}
}

// linkTo is the MTU of the link that leads to an address, or what is else known.
func (t *tunnel) linkTo(to netip.Addr, known encap.WireMTU) encap.WireMTU {
	if route, err := t.routeTo(to); err == nil {
		return encap.WireMTU(route.FixedMTU())
	}
	return known
}

// hintGap is the shortest time between two hints that are heeded.
const hintGap = time.Second

// hints listens to what else comes on the socket of a session for a broker that says it
// knows no tunnel.
func hints(ctx context.Context, c net.Conn, hint chan<- struct{}) {
	stop := context.AfterFunc(ctx, func() { _ = c.SetReadDeadline(time.Now()) })
	defer stop()
	buf := make([]byte, 2048)
	for ctx.Err() == nil {
		n, err := c.Read(buf)
		if err != nil {
			if errors.Is(err, net.ErrClosed) || !waited(ctx, hintGap) {
				return
			}
			continue
		}
		if tsp.Forgotten(buf[:n]) {
			select {
			case hint <- struct{}{}:
			default:
			}
			if !waited(ctx, hintGap) {
				return
			}
		}
	}
}

// link is the wire, nil before there is one.
func (s *sessionConn) link() *wire.UDP {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.wire
}

// pathMTU is what the kernel believes the way to the broker to carry.
func (s *sessionConn) pathMTU() (encap.WireMTU, error) {
	u := s.link()
	if u == nil {
		return 0, net.ErrClosed
	}
	return u.PathMTU(netip.AddrPort{})
}

func (s *sessionConn) setDF(on bool) error {
	u := s.link()
	if u == nil {
		return net.ErrClosed
	}
	return u.SetDF(on)
}
