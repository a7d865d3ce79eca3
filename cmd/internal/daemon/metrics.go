package daemon

import (
	"context"
	"errors"
	"maps"
	"strconv"
	"sync"
	"time"

	"sixin4/cmd/internal/control"
	"sixin4/cmd/internal/metrics"
	"sixin4/encap/keepalive"
	"sixin4/tsp"
	"sixin4/tsp/broker/store"
	"sixin4/tsp/client"
)

// openMetrics opens the address for Prometheus, if one is asked for. more adds to the
// page what there is besides the tunnel, and may be nil; able returns why the process
// does not do its work although the tunnel is up, and may be nil.
func (t *tunnel) openMetrics(status func() control.Tunnel, more func(context.Context, *metrics.Page), able func(context.Context) error) (err error) {
	if !t.set.Metrics.IsValid() {
		return nil
	}
	t.metrics, err = metrics.Listen(metrics.Config{
		Addr:  t.set.Metrics,
		Build: t.env.Build,
		Collect: func(ctx context.Context, p *metrics.Page) {
			p.Tunnel(status())
			if more != nil {
				more(ctx, p)
			}
		},
		Ready: func(ctx context.Context) error {
			if err := carries(status()); err != nil || able == nil {
				return err
			}
			return able(ctx)
		},
		Logger: t.env.Logger,
	})
	if err != nil {
		return hostError(err)
	}
	t.undo.Push(t.metrics.Close)
	t.env.Logger.Info("metrics are served", "name", t.name, "address", t.set.Metrics)
	return nil
}

// carries returns why a tunnel carries no packets, or nil.
func carries(s control.Tunnel) error {
	switch {
	case s.State == "up":
		return nil
	case s.Reason != "":
		return errors.New(s.State + ": " + s.Reason)
	}
	return errors.New(s.State)
}

// metricsTask is none unless metrics are served.
func (t *tunnel) metricsTask() []Task {
	if t.metrics == nil {
		return nil
	}
	return []Task{newTask("metrics", func(ctx context.Context, ready func()) error {
		ready() // it listens already
		return t.metrics.Run(ctx)
	})}
}

func (t *static) openMetrics() error {
	return t.tunnel.openMetrics(t.status, func(_ context.Context, p *metrics.Page) {
		p.Path(t.name, metrics.Path{EndpointChanges: t.moves.Load()})
	}, nil)
}

func (t *negotiated) openMetrics() error {
	return t.tunnel.openMetrics(t.status, func(_ context.Context, p *metrics.Page) {
		p.Path(t.name, t.told.path())
		p.Requests(t.told.requests())
	}, nil)
}

// hearsay is what the client of a broker told of its way there.
type hearsay struct {
	mu      sync.Mutex
	results map[string]uint64
	moves   uint64
	prober  *keepalive.Prober // of the last tunnel; nil before, and in UDP
	rtt     time.Duration     // in UDP: of the last answer
}

// event counts what was told.
func (h *hearsay) event(e client.Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch e := e.(type) {
	case client.Up:
		h.count(resultOf(nil))
	case client.Failed:
		h.count(resultOf(e.Err))
	case client.AddressChanged:
		h.moves++
	}
}

// count counts a result; h.mu is held.
func (h *hearsay) count(result string) {
	if h.results == nil {
		h.results = make(map[string]uint64)
	}
	h.results[result]++
}

func (h *hearsay) asks(p *keepalive.Prober) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.prober = p
}

// answered notes how long an answer took.
func (h *hearsay) answered(rtt time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.prober, h.rtt = nil, rtt
}

func (h *hearsay) requests() map[string]uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return maps.Clone(h.results)
}

func (h *hearsay) path() metrics.Path {
	h.mu.Lock()
	defer h.mu.Unlock()
	w := metrics.Path{EndpointChanges: h.moves}
	w.RTT = h.rtt
	if h.prober != nil {
		w.RTT = h.prober.Stats().RTT
	}
	return w
}

// resultOf is what a request for a tunnel came to: the broker's status, or how far the
// client came without one.
func resultOf(err error) string {
	var status *tsp.Error
	var e *client.Error
	switch {
	case err == nil:
		return strconv.Itoa(int(tsp.Success))
	case errors.As(err, &status):
		return strconv.Itoa(int(status.Code))
	case errors.As(err, &e):
		return string(e.Stage)
	}
	return "other"
}

// answerTime is how long the database may take before it counts as down.
const answerTime = 2 * time.Second

func (b *brokerage) openMetrics(context.Context) error {
	return b.tunnel.openMetrics(b.status, b.collect, b.serves)
}

func (b *brokerage) collect(ctx context.Context, p *metrics.Page) {
	p.Broker(metrics.Broker{
		Stats: b.server.Stats(), Leases: b.countLeases(ctx), Usage: b.store.Usage(), Draining: b.server.Draining(),
		Unwritable: b.leases.writes.failed() != nil,
	})
}

// countLeases returns nil when the database does not answer.
func (b *brokerage) countLeases(ctx context.Context) map[store.State]int {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	counts, err := b.store.CountLeases(ctx)
	if err != nil {
		b.env.Logger.Debug("leases not counted", "error", err)
		return nil
	}
	return counts
}

// serves returns why no client gets a tunnel at present, or nil.
func (b *brokerage) serves(ctx context.Context) error {
	if b.server.Draining() {
		return errors.New("draining: no new tunnels")
	}
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	if _, err := b.store.Lease(ctx, "-"); !errors.Is(err, store.ErrNotFound) {
		return errors.New("the database does not answer")
	}
	if b.leases.writes.failed() != nil {
		return errors.New("the database takes no changes (the log says why)")
	}
	return nil
}
