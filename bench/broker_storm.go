package bench

import (
	"context"
	"fmt"
	"slices"
	"time"

	"sixin4/bench/load"
	"sixin4/tsp/sasl"
)

// storm kills the broker, starts it again, and has all clients come back at once.
func (m *brokers) storm(ctx context.Context) error {
	if err := m.bringUp(ctx); err != nil {
		return err
	}
	m.say("storm")
	var s storms
	for range m.cfg.Rounds {
		if err := m.stormOnce(ctx, &s); err != nil {
			return err
		}
	}
	m.row(fmt.Sprintf("from SIGKILL to ready again with %d tunnels", m.cfg.Tunnels), "s", s.ready...)
	m.row("  from SIGKILL to all tunnels carrying again, without a word of a client", "s", s.alive...)
	m.row(fmt.Sprintf("storm of %d clients: the last one served (at most 60)", m.cfg.Tunnels), "s", s.last...)
	m.row("  the median client", "s", s.median...)
	m.row("  last to median", "", s.fairness...)
	m.row("  order of service to order of arrival, rank correlation", "", s.order...)
	m.row("  datagrams sent again, for each client", "", s.resent...)
	m.row("  sessions for each client", "", s.attempts...)
	return nil
}

// storms are the figures by round.
type storms struct{ ready, alive, last, median, fairness, order, resent, attempts []float64 }

func (m *brokers) stormOnce(ctx context.Context, s *storms) error {
	start := time.Now()
	if err := m.kill(ctx); err != nil {
		return err
	}
	if err := m.start(ctx); err != nil {
		return err
	}
	s.ready = append(s.ready, time.Since(start).Seconds())
	took, err := m.allAlive(ctx, start)
	if err != nil {
		return err
	}
	s.alive = append(s.alive, took.Seconds())
	return m.comeBack(ctx, s)
}

// aliveTime is how long the tunnels of the run before may take to carry packets.
const aliveTime = 2 * time.Minute

// allAlive sends through those tunnels that have not carried a packet yet until there
// are none.
func (m *brokers) allAlive(ctx context.Context, start time.Time) (time.Duration, error) {
	before := make([]int64, len(m.live))
	for i, t := range m.live {
		before[i] = t.Received.Load()
	}
	for time.Since(start) < aliveTime {
		var rest []*load.Tunnel
		for i, t := range m.live {
			if t.Received.Load() == before[i] {
				rest = append(rest, t)
			}
		}
		if len(rest) == 0 {
			return time.Since(start), nil
		}
		_, err := m.crowd.Send(ctx, load.Traffic{
			To: worldAddr, Tunnels: rest, Packets: len(rest), Rate: costRate, Settle: 10 * time.Millisecond,
		})
		if err != nil {
			return 0, err
		}
	}
	return 0, fmt.Errorf("after %v there are tunnels that carry nothing", aliveTime)
}

// comeBack has all clients connect at once.
func (m *brokers) comeBack(ctx context.Context, s *storms) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	resent := m.crowd.Resent.Load()
	begun, served := make([]float64, len(m.live)), make([]float64, len(m.live))
	attempts := 0.
	start := time.Now()
	sessions := make([]load.Session, len(m.live))
	err := load.Each(ctx, len(m.live), len(m.live), func(ctx context.Context, i int) (err error) {
		begun[i] = time.Since(start).Seconds()
		sessions[i], err = m.crowd.Connect(ctx, i, loginOf(i, sasl.ScramSHA256))
		served[i] = time.Since(start).Seconds()
		return err
	})
	if err != nil {
		return err
	}
	for i := range sessions {
		m.live[i] = sessions[i].Tunnel
		attempts += float64(sessions[i].Attempts)
	}
	middle := median(served)
	last := slices.Max(served)
	s.last, s.median = append(s.last, last), append(s.median, middle)
	s.fairness, s.order = append(s.fairness, last/middle), append(s.order, rankCorrelation(begun, served))
	n := float64(len(m.live))
	s.resent, s.attempts = append(s.resent, float64(m.crowd.Resent.Load()-resent)/n), append(s.attempts, attempts/n)
	_, err = m.proven(ctx)
	return err
}
