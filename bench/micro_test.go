package bench

import (
	"context"
	"errors"
	"testing"
)

func TestMicro(t *testing.T) {
	steps, err := microSteps()
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range steps {
		t.Run(s.name, func(t *testing.T) {
			took, err := s.run(t.Context(), 2*microBatch)
			if err != nil || took <= 0 {
				t.Errorf("took %v, error %v", took, err)
			}
		})
	}
	if len(steps) < 5 {
		t.Errorf("%d steps", len(steps))
	}
}

func TestMicroReport(t *testing.T) {
	s := &step{name: "encap", bytes: 1000, nanoseconds: []float64{10, 30, 20}, allocs: []float64{0, 0.001, 2}}
	r := microReport([]*step{s}, 3)
	cells := r.Tables[0].Rows[0].Cells
	if got := cells[0].Figure.Median; got != 20 {
		t.Errorf("time %v, want the median 20", got)
	}
	if got := cells[1].Figure.Max; got != 800 {
		t.Errorf("throughput %v, want 800 Gbit/s for 8000 bits in 10 ns", got)
	}
	if got := cells[2].Figure.Rounds; got[1] != 0 || got[2] != 2 {
		t.Errorf("allocations %v, want the start of a run left out and 2 shown", got)
	}
}

func TestMicroEndsWithContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Micro(ctx, MicroConfig{Quick: true, Rounds: 1}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want %v", err, context.Canceled)
	}
}
