package web

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"
)

const (
	sampleTime = 5 * time.Second
	maxSamples = 361 // half an hour
	graphWidth = 720
	graphHigh  = 220
)

// sample is what was carried at some time.
type sample struct {
	at       time.Time
	up, down uint64 // bytes since the broker started
}

// traffic remembers samples, oldest first. The zero traffic has none.
type traffic struct {
	mu      sync.Mutex
	samples []sample
}

func (t *traffic) add(v sample) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.samples) == maxSamples {
		t.samples = append(t.samples[:0], t.samples[1:]...)
	}
	t.samples = append(t.samples, v)
}

// measure adds samples until ctx ends.
func (s *Site) measure(ctx context.Context) {
	tick := time.NewTicker(sampleTime)
	defer tick.Stop()
	for {
		v := s.config.Backend.Totals()
		s.traffic.add(sample{time.Now(), v.Up.Bytes, v.Down.Bytes})
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// graph is rates over time, as a picture needs them.
type graph struct {
	Width, Height int
	// With room for labels.
	BoxWidth, BoxHeight int
	Up, Down            string // points of polylines, empty when there are none
	Rows                []mark // of the grid, with rates
	Columns             []mark // of the grid, with times
	UpNow, DownNow      string // rates
	UpTop, DownTop      string // the highest
}

// mark is a line of the grid with its label.
type mark struct {
	At    int
	Label string
}

// rate is what was carried in a second, in bits, around some time.
type rate struct {
	at       time.Time
	up, down float64
}

func (t *traffic) rates() []rate {
	t.mu.Lock()
	defer t.mu.Unlock()
	var all []rate
	for i := 1; i < len(t.samples); i++ {
		a, b := t.samples[i-1], t.samples[i]
		seconds := b.at.Sub(a.at).Seconds()
		if seconds <= 0 || b.up < a.up || b.down < a.down {
			continue // the clock was set
		}
		all = append(all, rate{b.at, float64(b.up-a.up) * 8 / seconds, float64(b.down-a.down) * 8 / seconds})
	}
	return all
}

func (t *traffic) graph(now time.Time) graph {
	rates := t.rates()
	var last rate
	var upTop, downTop float64
	for _, r := range rates {
		upTop, downTop, last = max(upTop, r.up), max(downTop, r.down), r
	}
	top := roundUp(max(upTop, downTop))
	g := graph{
		Width: graphWidth, Height: graphHigh, BoxWidth: graphWidth + 8, BoxHeight: graphHigh + 36,
		UpNow: formatRate(last.up), DownNow: formatRate(last.down), UpTop: formatRate(upTop), DownTop: formatRate(downTop),
	}
	const span = sampleTime * (maxSamples - 1)
	var up, down strings.Builder
	for _, r := range rates {
		x := float64(graphWidth) * (1 - float64(now.Sub(r.at))/float64(span))
		fmt.Fprintf(&up, "%.1f,%.1f ", x, graphHigh*(1-r.up/top))
		fmt.Fprintf(&down, "%.1f,%.1f ", x, graphHigh*(1-r.down/top))
	}
	g.Up, g.Down = strings.TrimSpace(up.String()), strings.TrimSpace(down.String())
	for i := range 5 {
		g.Rows = append(g.Rows, mark{graphHigh * i / 4, formatRate(top * float64(4-i) / 4)})
	}
	for i := range 4 {
		g.Columns = append(g.Columns, mark{graphWidth * i / 3, when(i < 3, "%d min ago", 30-10*i)})
	}
	return g
}

// roundUp is the next of 1, 2, 4 and 8 with zeros behind, at least 1000, so that a
// quarter of it is easy to read.
func roundUp(v float64) float64 {
	for unit := 1000.0; ; unit *= 10 {
		for _, n := range []float64{1, 2, 4, 8} {
			if n*unit >= v {
				return n * unit
			}
		}
	}
}

// formatRate is bits a second for people, in units of 1000.
func formatRate(bits float64) string {
	const units = "kMGTP"
	if bits < 999.5 {
		return fmt.Sprintf("%.0f bit/s", bits)
	}
	unit := 0
	for bits /= 1000; bits >= 999.5 && unit < len(units)-1; bits /= 1000 {
		unit++
	}
	text := strings.TrimSuffix(fmt.Sprintf("%.1f", bits), ".0")
	return fmt.Sprintf("%s %cbit/s", text, units[unit])
}
