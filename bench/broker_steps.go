package bench

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"sixin4/bench/load"
	"sixin4/tsp/sasl"
)

const (
	inFlight = 128              // sessions at a time, of the parts rate, tunnels and leak
	comeTime = 90 * time.Second // for all clients to have shown that they are there
)

// rate is how many sessions, from VERSION to accept, the broker serves when there are
// always some to serve. The clients come in turns.
func (m *brokers) rate(ctx context.Context) error {
	m.say("sessions a second")
	for _, l := range []struct{ name, mechanism string }{
		{"SCRAM-SHA-256", sasl.ScramSHA256}, {"DIGEST-MD5", sasl.DigestMD5},
	} {
		var rounds, cpu []float64
		for range m.cfg.Rounds {
			perSecond, used, err := m.rateOnce(ctx, l.mechanism)
			if err != nil {
				return fmt.Errorf("%s: %w", l.name, err)
			}
			rounds, cpu = append(rounds, perSecond), append(cpu, used)
		}
		m.row("sessions a second over UDP, "+l.name, "1/s", rounds...)
		m.row("  CPU of tspd for each", "ms", cpu...)
	}
	return nil
}

func (m *brokers) rateOnce(ctx context.Context, mechanism string) (perSecond, cpu float64, err error) {
	before, err := m.proc.Usage()
	if err != nil {
		return 0, 0, err
	}
	var done atomic.Int64
	start := time.Now()
	end := start.Add(m.sizes.rateTime)
	err = load.Each(ctx, m.cfg.Tunnels*1000, inFlight, func(ctx context.Context, i int) error {
		if done.Load() > 0 && time.Now().After(end) {
			return errEnough
		}
		client := i % m.cfg.Tunnels
		_, err := m.crowd.Connect(ctx, client, loginOf(client, mechanism))
		if err == nil {
			done.Add(1)
		}
		return err
	})
	took := time.Since(start)
	if !errors.Is(err, errEnough) {
		return 0, 0, err
	}
	after, err := m.proc.Usage()
	n := float64(done.Load())
	return n / took.Seconds(), milliseconds(after.CPU-before.CPU) / n, err
}

// errEnough ends a part when its time is over.
var errEnough = errors.New("enough")

// tunnels brings all of them up and sends through all of them.
func (m *brokers) tunnels(ctx context.Context) error {
	if err := m.bringUp(ctx); err != nil {
		return err
	}
	if err := m.carry(ctx, "all tunnels"); err != nil {
		return err
	}
	state, err := processOf(m.proc.PID())
	if err != nil {
		return err
	}
	usage, err := m.proc.Usage()
	if err != nil {
		return err
	}
	m.row(fmt.Sprintf("memory of tspd with %d tunnels (less than 1024)", m.cfg.Tunnels), "MiB", state.rss/(1<<20))
	m.row("  the most since its start", "MiB", float64(usage.PeakRSS)/(1<<20))
	return nil
}

// carry sends ten packets through each tunnel that is up.
func (m *brokers) carry(ctx context.Context, what string) error {
	before, err := m.dropsNow()
	if err != nil {
		return err
	}
	r, err := m.crowd.Send(ctx, load.Traffic{
		To: worldAddr, Tunnels: m.live, Packets: 10 * len(m.live), Rate: m.sizes.carryRate, Settle: m.sizes.settle,
	})
	if err != nil {
		return err
	}
	m.row("tunnels that carry traffic, "+what, "", float64(r.Alive))
	m.row("  packets lost, there and back", "%", 100*r.Loss())
	after, err := m.dropsNow()
	if err == nil && r.Loss() > 0 {
		m.note("%s: of %d packets there and back were lost %d: %v", what, r.Sent, r.Sent-r.Received, after.since(before))
	}
	return err
}

// bringUp has every client connect, unless that was done before, and show that it is
// there.
func (m *brokers) bringUp(ctx context.Context) error {
	if len(m.live) > 0 {
		return nil
	}
	m.say("%d tunnels", m.cfg.Tunnels)
	m.live = make([]*load.Tunnel, m.cfg.Tunnels)
	start := time.Now()
	err := load.Each(ctx, m.cfg.Tunnels, inFlight, func(ctx context.Context, i int) error {
		s, err := m.crowd.Connect(ctx, i, loginOf(i, sasl.ScramSHA256))
		m.live[i] = s.Tunnel
		return err
	})
	if err != nil {
		return err
	}
	up := time.Since(start)
	n, err := m.proven(ctx)
	if err != nil {
		return err
	}
	m.say("  up after %v, %d shown to be there after %v", up.Round(time.Millisecond), n, time.Since(start).Round(time.Millisecond))
	return nil
}

// proven waits for the clients to have shown that they are there, and counts them.
func (m *brokers) proven(ctx context.Context) (n int, err error) {
	late := time.NewTimer(comeTime)
	defer late.Stop()
	for i, t := range m.live {
		select {
		case <-t.Proven():
		case <-late.C:
			return i, fmt.Errorf("client %d was not asked whether it is there for %v", i, comeTime)
		case <-ctx.Done():
			return i, context.Cause(ctx)
		}
	}
	return len(m.live), nil
}

const costRate = 20_000. // packets a second

// cost compares what a packet costs the broker with one peer that sends and with many,
// in turns: slices of a second, whose order turns around each time, so that what else
// the machine does hits both. The table of peers is the same.
func (m *brokers) cost(ctx context.Context) error {
	if err := m.bringUp(ctx); err != nil {
		return err
	}
	m.say("cost of a packet")
	var one, all, ratios []float64
	for i := range m.sizes.slices * m.cfg.Rounds {
		a, b, err := m.costPair(ctx, i%2 == 1)
		if err != nil {
			return err
		}
		one, all, ratios = append(one, a), append(all, b), append(ratios, b/a)
	}
	m.row("CPU of tspd for a million packets each way, one tunnel sends", "s", one...)
	m.row(fmt.Sprintf("  %d tunnels send in turns", m.cfg.Tunnels), "s", all...)
	m.row("  many to one, slice by slice (at most 1.1)", "", ratios...)
	m.row("  a quarter of the slices is below", "", quantile(ratios, 0.25))
	m.row("  a quarter of the slices is above", "", quantile(ratios, 0.75))
	return nil
}

// costPair is the cost with one tunnel that sends, and with all.
func (m *brokers) costPair(ctx context.Context, allFirst bool) (one, all float64, err error) {
	if allFirst {
		all, err = m.costOf(ctx, m.live)
	}
	if err == nil {
		one, err = m.costOf(ctx, m.live[:1])
	}
	if err == nil && !allFirst {
		all, err = m.costOf(ctx, m.live)
	}
	return one, all, err
}

// costSettle is how long the last answers of a slice may take.
const costSettle = 200 * time.Millisecond

// costOf is seconds for a million packets that come and are answered.
func (m *brokers) costOf(ctx context.Context, senders []*load.Tunnel) (float64, error) {
	before, err := cpuOf(m.proc.PID())
	if err != nil {
		return 0, err
	}
	r, err := m.crowd.Send(ctx, load.Traffic{
		To: worldAddr, Tunnels: senders, Packets: m.sizes.packets, Rate: costRate, Settle: costSettle,
	})
	if err != nil {
		return 0, err
	}
	after, err := cpuOf(m.proc.PID())
	if err != nil || r.Received == 0 {
		return 0, fmt.Errorf("%d of %d packets came back: %w", r.Received, r.Sent, err)
	}
	return (after - before).Seconds() / float64(r.Received) * 1e6, nil
}
