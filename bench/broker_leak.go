package bench

import (
	"context"
	"fmt"
	"time"

	"sixin4/bench/load"
	"sixin4/tsp/sasl"
)

const (
	leakClients = 500 // that come again and again
	leakSamples = 20  // and as many figures
)

// growth is what the broker had after so many sessions.
type growth struct{ sessions, memory, files, goroutines []float64 }

// leak runs sessions one after another, as fast as they go, and looks whether anything
// of the broker grows with them.
func (m *brokers) leak(ctx context.Context) error {
	m.say("%d sessions", m.cfg.Sessions)
	clients := min(leakClients, m.cfg.Tunnels)
	part := max(m.cfg.Sessions/leakSamples, 1)
	var g growth
	var busy time.Duration
	for n := 0; n < m.cfg.Sessions; {
		start := time.Now()
		size := min(part, m.cfg.Sessions-n)
		err := load.Each(ctx, size, inFlight, func(ctx context.Context, i int) error {
			return m.leakOnce(ctx, n+i, clients)
		})
		if err != nil {
			return fmt.Errorf("after %d sessions: %w", n, err)
		}
		n += size
		busy += time.Since(start)
		if err := m.sample(ctx, &g, float64(n)); err != nil {
			return err
		}
	}
	m.row(fmt.Sprintf("%d sessions of %d clients: sessions a second", m.cfg.Sessions, clients), "1/s",
		float64(m.cfg.Sessions)/busy.Seconds())
	m.growth(g)
	return nil
}

// sample adds what there is now, once what the last sessions left is gone.
func (m *brokers) sample(ctx context.Context, g *growth, sessions float64) error {
	if err := sleep(ctx, m.sizes.settle); err != nil {
		return err
	}
	p, err := processOf(m.proc.PID())
	if err != nil {
		return err
	}
	n, err := m.goroutines(ctx)
	if err != nil {
		return err
	}
	g.sessions, g.memory = append(g.sessions, sessions), append(g.memory, p.anon/(1<<20))
	g.files, g.goroutines = append(g.files, p.files), append(g.goroutines, n)
	m.say("  %.0f sessions: %.1f MiB, %.0f descriptors, %.0f goroutines", sessions, p.anon/(1<<20), p.files, n)
	return nil
}

// growth reports the second half: what grows at first is no leak.
func (m *brokers) growth(g growth) {
	half := len(g.sessions) / 2
	for _, q := range []struct {
		name, unit string
		values     []float64
	}{{"memory without the program's file", "MiB", g.memory}, {"descriptors", "", g.files}, {"goroutines", "", g.goroutines}} {
		m.row("  "+q.name+" at the end", q.unit, q.values[len(q.values)-1])
		m.row("  "+q.name+" more for each 100 000 sessions, in the second half", q.unit, 1e5*slope(g.sessions[half:], q.values[half:]))
	}
}

// leakOnce is one session: over UDP by both mechanisms that cost little, and over TCP as
// nobody, from addresses that have no tunnel of a user.
func (m *brokers) leakOnce(ctx context.Context, i, clients int) error {
	client := i % clients
	l := loginOf(client, []string{sasl.ScramSHA256, sasl.DigestMD5, sasl.ScramSHA256, ""}[i%4])
	if l.Mechanism == "" {
		client, l.TCP = m.cfg.Tunnels+client, true
	}
	_, err := m.crowd.Connect(ctx, client, l)
	return err
}
