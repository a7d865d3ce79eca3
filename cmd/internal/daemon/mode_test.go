package daemon

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"sixin4/encap/keepalive"
)

// TestTrial: protocol 41 is blamed for silence only when this host could reach the broker all
// the time.
func TestTrial(t *testing.T) {
	dead := fmt.Errorf("asked: %w", keepalive.ErrDead)
	for _, tt := range []struct {
		name    string
		trouble []string // that is noted after each half second, empty for none
		answers int      // which try is answered, 0: none is
		tries   int
		want    error
	}{
		{"answered", nil, 1, 1, nil},
		{"eaten", nil, 0, 1, errEaten},
		{"an outage that lasts longer than the try", []string{"down", "down", "down", "down", "down", "down", ""}, 2, 2, nil},
		{"an outage within the try", []string{"down", "down", ""}, 2, 2, nil},
		{"silence after an outage", []string{"down", ""}, 0, 2, keepalive.ErrDead},
		{"two outages", []string{"down", "", "", "", "", "down", ""}, 3, 3, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := &negotiated{tunnel: newTunnel(settings{}, Env{})}
				n.looked.Store(true)
				over := make(chan struct{})
				go func() {
					defer close(over)
					for _, trouble := range tt.trouble {
						time.Sleep(500 * time.Millisecond)
						n.noteTrouble(trouble)
						n.looks.ring()
					}
				}()
				tries := 0
				err := n.onTrial(t.Context(), func(context.Context) error {
					if tries++; tries == tt.answers {
						return nil
					}
					time.Sleep(trialTime)
					return dead
				})
				if tries != tt.tries || !errors.Is(err, tt.want) || errors.Is(err, errEaten) != (tt.want == errEaten) {
					t.Errorf("%d tries, %v; want %d, %v", tries, err, tt.tries, tt.want)
				}
				<-over
			})
		})
	}
}

// TestTrialEnds: who waits for a way to the broker ends with its context.
func TestTrialEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &negotiated{tunnel: newTunnel(settings{}, Env{})}
		n.looked.Store(true)
		n.noteTrouble("down")
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		err := n.onTrial(ctx, func(context.Context) error { return keepalive.ErrDead })
		if err != nil || ctx.Err() == nil {
			t.Errorf("%v, context %v; want no error at its end", err, ctx.Err())
		}
	})
}
