package bench

import (
	"context"
	"fmt"

	"sixin4/bench/traffic"
)

// lossAllowed is the share of packets that a loss-free rate may lose. RFC 2544
// allows none, which on a machine that is shared would measure its neighbours.
const lossAllowed = 0.001

// udp searches the highest rate for payloads of size bytes. Later rounds start
// where the one before ended.
func (p *pair) udp(size int) probe {
	row := rowSpec{fmt.Sprintf("UDP %d B, loss up to %.1f %%", size, lossAllowed*100), "kpackets/s", true}
	return probe{
		rows: []rowSpec{row},
		run: func(ctx context.Context, c *column) ([]float64, error) {
			rate, err := p.udpRate(ctx, c, row.name, size)
			return []float64{rate / 1000}, err
		},
	}
}

// udpRate returns the highest rate, in packets per second, that was really sent
// and lost no more than allowed.
func (p *pair) udpRate(ctx context.Context, c *column, row string, size int) (float64, error) {
	s := search{start: 20_000, min: 100, max: 5e6, fine: p.cfg.fine}
	if g := c.guess[row]; g > 0 {
		s.start = g
	}
	var best trial
	_, err := s.run(func(rate float64) (bool, error) {
		t, err := p.udpTrial(ctx, c, traffic.UDP{Rate: rate, Size: size, Duration: p.cfg.Duration / 4})
		if t.offered > best.offered {
			best = t
		}
		return t.passed, err
	})
	if err != nil || best.offered == 0 {
		return 0, err
	}
	c.remember(row, min(max(best.offered, s.min), s.max))
	if !best.passed {
		p.note(fmt.Sprintf("%s, %s: the source found no time to send faster; nothing was lost", row, c.name))
	}
	return best.offered, nil
}

// trial is one rate that was tried.
type trial struct {
	offered float64 // the rate that was sent, if no more than allowed was lost; else 0
	passed  bool    // and it is the rate that was to be tried
}

// trials is how often a rate is tried before it counts as failed: a hiccup of
// the machine is not the tunnel's.
const trials = 2

// reach is the share of the wanted rate that the source must have sent at.
const reach = 0.97

func (p *pair) udpTrial(ctx context.Context, c *column, cfg traffic.UDP) (best trial, err error) {
	for range trials {
		r, err := p.runner().UDP(ctx, c.from, c.to, c.addr, cfg)
		if err != nil {
			return trial{}, err
		}
		if r.Loss() > lossAllowed {
			continue
		}
		best = trial{offered: max(best.offered, r.Offered()), passed: r.Offered() >= reach*cfg.Rate}
		if best.passed {
			return best, nil
		}
	}
	return best, nil
}
