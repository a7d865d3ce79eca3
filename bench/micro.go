package bench

import (
	"context"
	"fmt"
	"io"
	"runtime"
	"time"
)

// MicroConfig says how Micro measures. The zero value takes about ten seconds.
type MicroConfig struct {
	Rounds   int       // 0 is 5, or 3 with Quick
	Quick    bool      // shorter and coarser: about a second
	Progress io.Writer // gets a line per round; nil is none
}

// target is how long one measurement of one step should take.
func (c MicroConfig) target() time.Duration {
	if c.Quick {
		return 20 * time.Millisecond
	}
	return 200 * time.Millisecond
}

// step is one part of the packet's way, by itself.
type step struct {
	name  string
	bytes int // of the packet that goes through it
	// run takes n packets through the step, n being a multiple of the batch size,
	// and returns how long that took.
	run func(ctx context.Context, n int) (time.Duration, error)
	// n is how many packets take about the target time.
	n int

	nanoseconds, allocs []float64 // per packet, by round
}

// Micro measures the steps of the packet's way in this process: no kernel, no
// privilege. Its errors are those of ctx and defects.
func Micro(ctx context.Context, cfg MicroConfig) (Report, error) {
	rounds := 5
	if cfg.Quick {
		rounds = 3
	}
	if cfg.Rounds > 0 {
		rounds = cfg.Rounds
	}
	if cfg.Progress == nil {
		cfg.Progress = io.Discard
	}
	steps, err := microSteps()
	if err != nil {
		return Report{}, fmt.Errorf("bench micro: %w", err)
	}
	for round := range rounds {
		fmt.Fprintf(cfg.Progress, "round %d of %d\n", round+1, rounds)
		for _, s := range steps {
			if err := s.measure(ctx, cfg.target()); err != nil {
				return Report{}, fmt.Errorf("bench micro: %s: %w", s.name, err)
			}
		}
	}
	return microReport(steps, rounds), nil
}

// measure adds one round.
func (s *step) measure(ctx context.Context, target time.Duration) error {
	if s.n == 0 {
		if err := s.calibrate(ctx, target); err != nil {
			return err
		}
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	took, err := s.run(ctx, s.n)
	if err != nil {
		return err
	}
	runtime.ReadMemStats(&after)
	s.nanoseconds = append(s.nanoseconds, float64(took)/float64(s.n))
	s.allocs = append(s.allocs, float64(after.Mallocs-before.Mallocs)/float64(s.n))
	return ctx.Err()
}

// calibrate finds n by doubling, which also warms everything up.
func (s *step) calibrate(ctx context.Context, target time.Duration) error {
	for s.n = microBatch; ; s.n *= 2 {
		took, err := s.run(ctx, s.n)
		if err == nil {
			err = ctx.Err()
		}
		if err != nil || took >= target {
			return err
		}
	}
}

func microReport(steps []*step, rounds int) Report {
	t := Table{Title: "Steps of the packet's way", Columns: []string{"time, ns/packet", "throughput, Gbit/s", "allocations/packet"}}
	for _, s := range steps {
		time := newFigure("ns/packet", s.nanoseconds)
		rate := newFigure("Gbit/s", perSecond(s.nanoseconds, s.bytes))
		allocs := newFigure("per packet", wholeAllocs(s.allocs))
		t.Rows = append(t.Rows, Row{Name: s.name, Cells: []Cell{{Figure: &time}, {Figure: &rate}, {Figure: &allocs}}})
	}
	return Report{
		Title:   "The packet's way in this process, without the kernel",
		Machine: thisMachine(),
		Settings: []string{
			fmt.Sprintf("%d rounds in turns, batches of %d packets; each figure: median (least-greatest)", rounds, microBatch),
		},
		Tables: []Table{t},
	}
}

func perSecond(nanoseconds []float64, bytes int) []float64 {
	rates := make([]float64, len(nanoseconds))
	for i, ns := range nanoseconds {
		rates[i] = float64(bytes) * 8 / ns
	}
	return rates
}

// wholeAllocs forgets what the runtime, and starting the step, allocates once:
// less than one allocation in a hundred packets.
func wholeAllocs(perPacket []float64) []float64 {
	whole := make([]float64, len(perPacket))
	for i, a := range perPacket {
		if a >= 0.01 {
			whole[i] = a
		}
	}
	return whole
}
