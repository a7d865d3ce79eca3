package daemon

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"sixin4/encap/keepalive"
	"sixin4/tsp"
	"sixin4/tsp/client"
)

// What a broker has agreed to may carry nothing yet: one as ours asks on its part whether
// the client is there, and takes nothing of it before it has the answer, which is some
// milliseconds later. So the far end is asked, often at first, until it answers.

const (
	// readyTime is how long the ready line waits for an answer. There are brokers that
	// give none.
	readyTime = 1500 * time.Millisecond
	// trialTime is how long protocol 41 has to show that it gets through.
	trialTime = 2100 * time.Millisecond
	// firstGap is the time from the first request to the second. Each gap is twice the
	// one before.
	firstGap = 20 * time.Millisecond
)

// firstAnswer has ask send one request after the other until it reports that one was
// answered, however late. When none is in time the error wraps keepalive.ErrDead.
func firstAnswer(ctx context.Context, within time.Duration, ask func(context.Context) bool) error {
	asking, cancel := context.WithTimeout(ctx, within)
	answered := make(chan struct{}, 1)
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	for gap := firstGap; ; gap *= 2 {
		running.Go(func() {
			if ask(asking) {
				select {
				case answered <- struct{}{}:
				default: // another one was
				}
			}
		})
		select {
		case <-answered:
			return nil
		case <-time.After(gap):
		case <-asking.Done():
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			return fmt.Errorf("%w: it answered no echo request in %v", keepalive.ErrDead, within)
		}
	}
}

// askFirst is firstAnswer for the far end of a lease.
func (t *negotiated) askFirst(ctx context.Context, l *client.Lease, within time.Duration) error {
	if l.Tunnel.Type == tsp.V6UDPV4 {
		return t.questions.askFirst(ctx, l, within)
	}
	asker, err := keepalive.NewAsker(keepalive.AskerConfig{Interface: t.name, Source: l.Tunnel.Client6, Logger: t.env.Logger})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel(nil)
	running.Go(func() {
		if err := asker.Run(ctx); err != nil {
			cancel(err)
		}
	})
	return firstAnswer(ctx, within, func(ctx context.Context) bool {
		return asker.Ask(ctx, farAddress(l), within) == nil
	})
}

// askFirst is firstAnswer for a tunnel in UDP.
func (q *questions) askFirst(ctx context.Context, l *client.Lease, within time.Duration) error {
	return firstAnswer(ctx, within, func(ctx context.Context) bool {
		_, ok := q.askFar(ctx, l, echoLen, within)
		return ok
	})
}

// welcome waits until packets can flow by a new lease, as far as can be told, and says so. It
// returns why the lease is of no use.
func (t *negotiated) welcome(ctx context.Context, l *client.Lease) error {
	if t.cfg.Proxy {
		t.first() // this end is another host, which we cannot ask from
		return nil
	}
	var err error
	inDoubt := t.kinds.inDoubt(l)
	if inDoubt {
		defer time.AfterFunc(readyTime, t.readyOnTrial).Stop()
		err = t.tryFirst(ctx, l)
	} else {
		err = t.askFirst(ctx, l, readyTime)
	}
	switch {
	case ctx.Err() != nil:
		return nil
	case err == nil:
		t.first()
	case !inDoubt && (errors.Is(err, keepalive.ErrDead) || l.Tunnel.Keepalive == 0):
		return nil // whether it lives is found out by others, or by nobody
	}
	return err
}

// readyOnTrial says that packets can flow although protocol 41 has not shown yet that it
// gets through: whoever waits for a tunnel of a broker that answers nothing gets it.
func (t *negotiated) readyOnTrial() {
	if t.passable() {
		t.first()
	}
}

// readyByWay says that packets can flow, if that has not been said, when there is a way to
// the broker: not all brokers answer. What it returns ends that.
func (t *negotiated) readyByWay(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var waiting sync.WaitGroup
	waiting.Go(func() {
		if t.untilPassable(ctx, func() {}) {
			t.first()
		}
	})
	return func() {
		cancel()
		waiting.Wait()
	}
}

// welcome is the same for a tunnel without an interface.
func (p *proxied) welcome(ctx context.Context, l *client.Lease) {
	defer time.AfterFunc(readyTime, p.first).Stop()
	_ = p.questions.askFirst(ctx, l, readyTime) // whether it lives is found out by others
	if ctx.Err() == nil {
		p.first()
	}
}
