package client

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"sync"
	"time"
)

const (
	// settleTime is how long changes of the network are left to come to an end: an address
	// and its routes come one by one.
	settleTime = 200 * time.Millisecond
	// rushGap is the least time between two attempts that changes of the network start.
	rushGap = time.Second
	// attemptLimit bounds an attempt with all its brokers.
	attemptLimit = 5 * time.Minute
	// watchAgain is the wait behind a watch of the network that failed.
	watchAgain = 30 * time.Second
	// steps is how many failures have the same delay.
	steps = 3
)

// Reasons in a Status that are no errors.
const (
	reasonRenewing = "renewing the lease"
	reasonMoved    = "the local address changed"
	reasonChanged  = "the network changed"
	reasonOffline  = "waiting for the network"
)

// run is the state of a client that runs. All of it belongs to one goroutine, the one of
// loop; what takes its time is done by jobs, which hand in results and functions to call.
//
//	start         due, or the network changed
//	  |     +-------------------------------------+
//	  v     v                                     |
//	ATTEMPT -- failed, or Path.Up has --------> WAITING <----------+
//	  |          |                                                 |
//	  |          +-- GiveUp --> end                                | not the first that
//	  | lease, Path.Up                                             | died young
//	  v                                                            |
//	 UP -- Path.Watch: silent --> lost ----------------------------+
//	  |                            |
//	  |                            +-- at once ------------> ATTEMPT
//	  +-- the local address changed: at once --------------> ATTEMPT
//	  +-- due to renew --> ATTEMPT, but UP meanwhile; when it fails, WAITING, but UP
//	  +-- Once --> end
//
// Whatever the state, ctx ends it. A change of the local address during an attempt starts
// the attempt anew.
type run struct {
	*Client
	ctx    context.Context
	cancel context.CancelFunc
	log    *slog.Logger

	over bool  // nothing is left to do,
	err  error // for this reason

	calls    chan func()    // what a job wants done here
	try      *job[outcome]  // the attempt, nil when none is under way
	at       endpoints      // of the attempt, as far as they are known
	vigil    *job[error]    // Path.Watch of lease
	lease    *Lease         // the last that was up
	stay     Server         // who has lease, as far as we know; zero when it is lost
	down     bool           // lease carries nothing any more
	offline  bool           // there is no route to the broker of lease
	fails    int            // attempts in a row
	curable  bool           // the last of them may be mended by a change of the network
	young    int            // tunnels in a row that died early
	timer    *time.Timer    // the next attempt,
	next     time.Time      // and when that is; zero when none is planned
	changed  chan struct{}  // from Network.Watch
	heard    int            // how often
	settle   *time.Timer    // how long they are left to come to an end,
	settling bool           // and that they are
	rushed   time.Time      // the last attempt that a change has started
	watch    sync.WaitGroup // Network.Watch
}

// outcome is what an attempt comes to.
type outcome struct {
	lease *Lease
	err   error
}

// drop gives up a lease that nobody wants any more.
func (o outcome) drop() {
	if o.lease != nil {
		o.lease.Conn.Close()
	}
}

func newRun(c *Client) *run {
	r := &run{
		Client: c, log: c.cfg.Logger,
		calls: make(chan func()), changed: make(chan struct{}, 1),
		timer: time.NewTimer(0), settle: time.NewTimer(0),
	}
	r.timer.Stop()
	r.settle.Stop()
	return r
}

func (r *run) loop(ctx context.Context) error {
	r.ctx, r.cancel = context.WithCancel(ctx)
	defer r.end()
	r.watch.Go(r.watchNetwork)
	r.begin("")
	for !r.over && r.ctx.Err() == nil {
		select {
		case <-r.ctx.Done():
		case f := <-r.calls:
			f()
		case o := <-r.try.result():
			r.try = nil
			r.finished(o)
		case err := <-r.vigil.result():
			r.vigil = nil
			r.silent(err)
		case <-r.changed:
			r.notice()
		case <-r.settle.C:
			r.settled()
		case <-r.timer.C:
			r.due()
		}
	}
	return r.err
}

// end joins all that was started.
func (r *run) end() {
	r.cancel()
	r.timer.Stop()
	r.settle.Stop()
	r.try.stop().drop()
	r.try = nil
	r.vigil.stop()
	r.watch.Wait()
	if r.lease != nil {
		r.lease.Conn.Close()
	}
	reason := "stopped"
	if r.err != nil {
		reason = r.err.Error()
	}
	r.setStatus(Status{State: StateDown, Reason: reason, Lease: r.lease})
}

// watchNetwork runs beside the loop.
func (r *run) watchNetwork() {
	for {
		err := r.cfg.Network.Watch(r.ctx, func() {
			select {
			case r.changed <- struct{}{}:
			default: // one is waiting already
			}
		})
		if r.ctx.Err() != nil {
			return
		}
		r.log.Warn("changes of the network are not noticed", "error", err)
		select {
		case <-r.ctx.Done():
			return
		case <-time.After(watchAgain):
		}
	}
}

// up reports whether the tunnel carries packets, as far as this host knows.
func (r *run) up() bool { return r.lease != nil && !r.down && !r.offline }

// publish makes the status, and gives a reason for it.
func (r *run) publish(reason string) {
	s := Status{State: StateDown, Reason: reason, Lease: r.lease, Next: r.next}
	switch {
	case r.up():
		s.State = StateUp
	case r.try != nil:
		s.State = StateConnecting
	}
	r.setStatus(s)
}

// plan sets the time of the next attempt.
func (r *run) plan(at time.Time) {
	r.next = at
	r.timer.Stop()
	if !at.IsZero() {
		r.timer.Reset(time.Until(at))
	}
}

// due is called when the planned time has come.
func (r *run) due() {
	reason := ""
	if r.up() {
		r.log.Info(reasonRenewing, "server", r.lease.Server.String())
		r.cfg.Observe(Renewing{})
		reason = reasonRenewing
	}
	r.begin(reason)
}

// begin starts an attempt, in place of one that is under way.
func (r *run) begin(reason string) {
	r.try.stop().drop()
	r.at = endpoints{}
	r.plan(time.Time{})
	a := &attempt{cfg: r.cfg.ofKind(), log: r.log, post: r.post, been: make(map[netip.AddrPort]bool)}
	a.note = func(e endpoints) { r.at = e }
	a.prefer = r.stay
	r.try = start(r.ctx, func(ctx context.Context) outcome {
		ctx, cancel := context.WithTimeoutCause(ctx, attemptLimit, errTooLong)
		defer cancel()
		l, err := a.run(ctx)
		return outcome{l, err}
	})
	r.publish(reason)
}

// post has f called by the loop, unless ctx ends before.
func (r *run) post(ctx context.Context, f func()) {
	select {
	case r.calls <- f:
	case <-ctx.Done():
	}
}

// finished takes what an attempt came to.
func (r *run) finished(o outcome) {
	if o.err != nil {
		r.failed(asError(o.err, r.cfg.Servers[0]))
		return
	}
	if err := r.cfg.Path.Up(r.ctx, o.lease); err != nil {
		o.drop()
		r.failed(fail(Setup, o.lease.Server, err))
		return
	}
	r.took(o.lease)
}

// took makes a lease that Path.Up has taken the one that is up. Only now may the
// connection of the one before be closed: until then, its tunnel was the one in use.
func (r *run) took(l *Lease) {
	r.vigil.stop()
	r.vigil = nil
	if r.lease != nil {
		r.lease.Conn.Close()
	}
	r.lease, r.stay = l, l.Server
	r.down, r.offline, r.fails = false, false, 0
	r.remember(l.Server)
	what := "tunnel is up"
	if r.cfg.Once {
		what = "tunnel agreed on" // whether it is kept is not our business
	}
	r.log.Info(what, "server", l.Server.String(), "broker", l.Broker.String(), "transport", l.Transport.String(),
		"type", string(l.Tunnel.Type), "local", l.Local.String(), "address", l.Tunnel.Client6.String())
	r.plan(l.Renew)
	r.publish("")
	r.cfg.Observe(Up{l})
	if r.cfg.Once {
		r.over = true
		return
	}
	r.vigil = start(r.ctx, func(ctx context.Context) error { return r.cfg.Path.Watch(ctx, l) })
}

func (r *run) remember(s Server) {
	if err := r.cfg.Memory.SetLast(s.String()); err != nil {
		r.log.Warn("the server is not remembered", "error", err)
	}
}

// failed plans what comes behind a failure.
func (r *run) failed(e *Error) {
	if r.ctx.Err() != nil {
		return
	}
	if r.expired() {
		r.lose(&Error{Stage: Expired, Server: r.lease.Server.String(), Err: errExpired})
	}
	if r.givesUp(e) {
		r.over, r.err = true, e
		return
	}
	r.fails++
	r.curable = e.unreached()
	delay := r.backoff(r.fails)
	r.plan(time.Now().Add(delay))
	reason := e.Error()
	if errors.Is(e, errNoRoute) {
		reason = reasonOffline
	}
	r.publish(reason)
	r.log.Warn("no tunnel, will try again", "stage", string(e.Stage), "error", e, "retry-in", delay)
	r.cfg.Observe(Failed{Err: e, RetryIn: delay})
}

func (r *run) givesUp(e *Error) bool {
	switch r.cfg.GiveUp {
	case Always:
		return r.lease == nil || r.down
	case Permanent:
		return r.lease == nil && e.Permanent()
	}
	return false
}

// errExpired: the broker may have the tunnel still, or somebody else has the address.
var errExpired = errors.New("the lifetime of the tunnel is over")

// expired reports whether the tunnel must be taken for gone: nothing watches it, and its
// lifetime is over.
func (r *run) expired() bool {
	if !r.up() {
		return false
	}
	t := r.lease.Tunnel
	return t.Keepalive == 0 && t.Lifetime != 0 && time.Since(r.lease.Since) >= t.Lifetime
}

// silent takes what Path.Watch says.
func (r *run) silent(err error) {
	if err == nil || r.ctx.Err() != nil {
		return
	}
	e := &Error{Stage: Keepalive, Server: r.lease.Server.String(), Err: err}
	r.lose(e)
	if r.cfg.GiveUp == Always {
		r.over, r.err = true, e
		return
	}
	if time.Since(r.lease.Since) < r.cfg.RetryDelay {
		r.young++
	} else {
		r.young = 0
	}
	switch {
	case r.try != nil:
		r.publish(e.Error())
	case r.young > 1: // a broker that gives tunnels that do not work must not be stormed
		r.curable = false
		delay := r.backoff(r.young - 1)
		r.plan(time.Now().Add(delay))
		r.publish(e.Error())
		r.log.Warn("several tunnels were lost soon, will try again", "tunnels", r.young, "retry-in", delay)
	default:
		r.begin(e.Error())
	}
}

// lose notes that the tunnel carries nothing any more.
func (r *run) lose(e *Error) {
	r.vigil.stop()
	r.vigil, r.down, r.stay = nil, true, Server{}
	r.log.Warn("tunnel is lost", "error", e)
	r.cfg.Observe(Lost{e})
}

// backoff is the wait behind the nth failure in a row, with some jitter so that the
// clients of a broker that was away do not all come back at the same time.
func (r *run) backoff(n int) time.Duration {
	d := r.cfg.RetryDelay
	for ; n > steps && d < r.cfg.RetryMax; n -= steps {
		d *= 2
	}
	d = min(d, r.cfg.RetryMax)
	return d - d/10 + rand.N(d/5+1)
}
