package daemon

import (
	"context"
	"errors"
	"net/netip"
	"sync"
	"time"

	"sixin4/cmd/internal/control"
	"sixin4/encap"
	"sixin4/encap/engine"
	"sixin4/encap/keepalive"
	"sixin4/encap/pathmtu"
)

// probed is what asking has found of the way to the far end.
type probed struct {
	mu     sync.Mutex
	to     netip.Addr
	prober *pathmtu.Prober // nil as long as nobody was asked
	mtu    encap.TunMTU    // that holds; 0: the interface's
}

// probeTask finds out what the way to the far end carries (RFC 8899). The interface's
// MTU stays what the link carries, so that the probes, which are longer than what is
// known, get as far as the engine; it holds back all other packets.
func (t *tunnel) probeTask() Task {
	return newTask("probe", func(ctx context.Context, ready func()) error {
		t.holdPath(encap.MinTunMTU) // at once, before anybody has answered
		ready()
		return t.onPath(ctx, func(s *shape) (innerPath, bool) { return s.pathTo(s.far) }, t.probe)
	})
}

// probe searches on one path.
func (t *tunnel) probe(ctx context.Context, p innerPath) error {
	var prober *pathmtu.Prober
	padded, err := keepalive.NewPadded(keepalive.PaddedConfig{
		Interface: t.name, Source: p.from, To: p.to, Logger: t.env.Logger,
		Answered: func(size encap.TunMTU) { prober.Answered(size) },
	})
	if err != nil {
		return err
	}
	prober, err = pathmtu.New(pathmtu.Config{
		Sender:  padded,
		Ceiling: func() encap.TunMTU { return t.now.Load().mtu },
		Found:   t.holdPath,
		Logger:  t.env.Logger.With("name", t.name, "to", p.to),
	})
	if err != nil {
		return err
	}
	t.holdPath(encap.MinTunMTU) // with which a search begins
	t.probed.mu.Lock()
	t.probed.to, t.probed.prober = p.to, prober
	t.probed.mu.Unlock()
	t.again(ctx, t.search(ctx, padded, prober))
	return nil
}

// search runs the two halves of a prober, and tells it when the link is another.
func (t *tunnel) search(ctx context.Context, padded *keepalive.Padded, prober *pathmtu.Prober) error {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	var received error
	wg.Go(func() {
		defer cancel()
		received = padded.Run(ctx)
	})
	wg.Go(func() {
		for ctx.Err() == nil {
			select {
			case <-t.reshaped.wait():
				prober.Recheck()
			case <-ctx.Done():
			}
		}
	})
	err := prober.Run(ctx)
	cancel()
	wg.Wait()
	return errors.Join(err, received)
}

// probeRetry is how long after a search that could not be made there is another.
const probeRetry = 5 * time.Second

// again goes on after a search could not be made, as while the interface has no address:
// that is no reason to end the tunnel.
func (t *tunnel) again(ctx context.Context, err error) {
	if err == nil || ctx.Err() != nil {
		return
	}
	t.env.Logger.Warn("the MTU of the path cannot be searched for now", "name", t.name, "error", err)
	select {
	case <-time.After(probeRetry):
	case <-ctx.Done():
	}
}

// holdPath makes mtu what goes to the far end at most, from now on.
func (t *tunnel) holdPath(mtu encap.TunMTU) {
	t.change.Lock()
	defer t.change.Unlock()
	t.probed.mu.Lock()
	same := t.probed.mtu == mtu
	t.probed.mtu = mtu
	t.probed.mu.Unlock()
	if !same {
		t.short.withdraw() // which knows the MTU of before
	}
	t.tellEngine(t.now.Load())
}

// heldMTU is what goes to the far end at most: mtu, or less.
func (t *tunnel) heldMTU(mtu encap.TunMTU) encap.TunMTU {
	t.probed.mu.Lock()
	defer t.probed.mu.Unlock()
	if t.probed.mtu == 0 {
		return mtu
	}
	return min(mtu, t.probed.mtu)
}

// tellEngine tells the engine what was found, if there is one, and what is asked with, so
// that these requests pass although they are longer. t.change is held.
func (t *tunnel) tellEngine(now *shape) {
	t.probed.mu.Lock()
	mtu := t.probed.mtu
	t.probed.mu.Unlock()
	p, ok := now.pathTo(now.far)
	if mtu == 0 || !ok || t.engine == nil || len(now.peers) != 1 {
		return
	}
	err := t.engine.SetProbing(engine.Probing{
		Remote: now.peers[0].Remote, Port: now.peers[0].port, MTU: mtu.Wire(), From: p.from, To: p.to,
	})
	if err != nil {
		t.env.Logger.Warn("the MTU that was found is not in use", "name", t.name, "mtu", int(mtu), "error", err)
	}
}

// pathMTU is the part of the status about the search, nil when there is none.
func (t *tunnel) pathMTU() *control.PathMTU {
	t.probed.mu.Lock()
	defer t.probed.mu.Unlock()
	if t.probed.prober == nil {
		return nil
	}
	s := t.probed.prober.Status()
	return &control.PathMTU{Address: t.probed.to.String(), Phase: s.Phase.String(), MTU: int(s.MTU)}
}
