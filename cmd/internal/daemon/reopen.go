package daemon

import (
	"bytes"
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
	asker, err := keepalive.NewAsker(keepalive.AskerConfig{Interface: t.name, Source: l.Tunnel.Client6, Logger: t.env.Logger})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	var (
		running sync.WaitGroup
		failed  = make(chan error, 1)
		hint    = make(chan struct{}, 1)
	)
	running.Go(func() {
		defer cancel()
		failed <- asker.Run(ctx)
	})
	running.Go(func() { hints(ctx, l.Conn, hint) })
	running.Go(func() {
		for waited(ctx, pathInterval) {
			t.followUDP()
		}
	})
	k := keeper{
		ask: func(ctx context.Context, timeout time.Duration) bool {
			begun := time.Now()
			err := asker.Ask(ctx, l.Tunnel.KeepaliveTo, timeout)
			if err == nil {
				t.told.answered(time.Since(begun))
			}
			return err == nil
		},
		sent:   func() uint64 { return t.totals().Tx.Packets },
		hint:   hint,
		rhythm: newRhythm(l.Tunnel.Keepalive),
	}
	err = k.run(ctx)
	cancel()
	running.Wait()
	if runErr := <-failed; runErr != nil {
		return runErr
	}
	if err != nil {
		return fmt.Errorf("%v: %w", l.Tunnel.KeepaliveTo, err)
	}
	return nil
}

// pathInterval is how often the kernel is asked what the way to the broker carries.
const pathInterval = time.Second

// followUDP gives the tunnel the MTU that the way to the broker has now, as the kernel
// learns it from ICMP.
func (t *tunnel) followUDP() {
	t.change.Lock()
	defer t.change.Unlock()
	now := t.now.Load()
	if !now.inUDP() {
		return
	}
	path, err := now.session.pathMTU()
	if err != nil {
		return
	}
	if way := insideUDP(path); way != t.seen.wireMTU {
		if err := now.session.setDF(t.set.MTU == 0 && way > smallestWire); err != nil {
			t.env.Logger.Warn("the MTU stays what it was", "error", err)
			return
		}
		t.followMTU(now, way)
	}
}

// hintGap is the shortest time between two hints that are heeded.
const hintGap = time.Second

// forgotten is what a broker answers to a packet of a tunnel that it does not know, as was
// seen: the header of a control message without a number, and a status.
var forgotten = []byte{0xff, 0xff, 0xff, 0xff}

// hints listens to what else comes on the socket of a session.
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
		if d := buf[:n]; n >= 11 && bytes.HasPrefix(d, forgotten) && string(d[8:11]) == "310" {
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
