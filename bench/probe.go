package bench

import (
	"context"
	"slices"
	"time"

	"sixin4/bench/traffic"
)

// rowSpec names a row of the table.
type rowSpec struct {
	name, unit string
	rate       bool // more is better
}

// probe measures some rows of one column at once. It returns a value for each of
// them, or only for the first ones where the others do not apply.
type probe struct {
	key     string // what PairConfig.Rows calls it
	streams bool   // it is of TCP streams, which can go through a proxy
	first   int    // its first row's place in the table
	rows    []rowSpec
	run     func(context.Context, *column) ([]float64, error)
}

// PairRows returns what PairConfig.Rows may name.
func PairRows() []string { return append(slices.Clone(usualRows), "flood") }

// usualRows are measured when none are named.
var usualRows = []string{"tcp1", "tcp4", "udp64", "udp1400", "ping"}

// addProbes sets what is measured, and the order of the table.
func (p *pair) addProbes() {
	p.probes = []probe{p.tcp(1, "TCP 1 stream"), p.tcp(4, "TCP 4 streams"), p.udp(64), p.udp(1400), p.ping(), p.flooded()}
	for i, key := range PairRows() {
		p.probes[i].key = key
	}
	p.probes = slices.DeleteFunc(p.probes, func(probe probe) bool { return !slices.Contains(p.cfg.Rows, probe.key) })
	p.idle, p.load = rss("peak RSS, idle"), rss("peak RSS, after load")
	for i := range p.probes {
		p.add(&p.probes[i])
	}
	p.add(&p.idle)
	p.add(&p.load)
}

func (p *pair) add(probe *probe) {
	probe.first = len(p.rows)
	p.rows = append(p.rows, probe.rows...)
}

func (p *pair) runner() traffic.Runner {
	return traffic.Runner{Command: []string{p.self, command, hiddenTraffic}}
}

// costBytes is the least that must have been carried to say what a gigabyte
// costs: the kernel tells processor time in hundredths of a second.
const costBytes = 10_000_000

func (p *pair) tcp(streams int, name string) probe {
	cfg := traffic.TCP{Streams: streams, Warmup: p.cfg.Duration / 4, Duration: p.cfg.Duration}
	return probe{
		streams: true,
		rows:    []rowSpec{{name, "Gbit/s", true}, {name + ", tunnel CPU", "s/GB", false}},
		run: func(ctx context.Context, c *column) ([]float64, error) {
			var r traffic.TCPResult
			cfg := cfg
			cfg.Via = c.via
			cpu, err := c.cost(func() (err error) {
				r, err = p.runner().TCP(ctx, c.from, c.to, c.addr, cfg)
				return err
			})
			if err != nil {
				return nil, err
			}
			values := []float64{r.BitsPerSecond() / 1e9}
			if len(c.procs) > 0 && r.Total >= costBytes {
				values = append(values, cpu.Seconds()/(float64(r.Total)/1e9))
			}
			return values, nil
		},
	}
}

func (p *pair) ping() probe {
	const interval = 5 * time.Millisecond
	cfg := traffic.Ping{Count: max(5, int(p.cfg.Duration/(2*interval))), Interval: interval}
	return probe{
		rows: []rowSpec{{"ping, idle, median", "us", false}, {"ping, idle, 99 %", "us", false}},
		run: func(ctx context.Context, c *column) ([]float64, error) {
			r, err := p.runner().Ping(ctx, c.from, c.addr, cfg)
			return []float64{r.Median, r.P99}, err
		},
	}
}

func rss(name string) probe {
	return probe{
		rows: []rowSpec{{name, "MiB", false}},
		run: func(_ context.Context, c *column) ([]float64, error) {
			if len(c.procs) == 0 {
				return nil, nil
			}
			u, err := c.usage()
			return []float64{float64(u.PeakRSS) / (1 << 20)}, err
		},
	}
}
