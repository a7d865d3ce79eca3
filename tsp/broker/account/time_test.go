package account

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"sixin4/tsp/sasl"
)

// slow are accounts of which each look-up takes some time.
type slow struct {
	takes time.Duration
	users Accounts
}

func (s slow) Lookup(ctx context.Context, name string) (*User, error) {
	select {
	case <-time.After(s.takes):
		return s.users.Lookup(ctx, name)
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// TestEvenTime: how long a look-up takes does not show in how long the answer does.
func TestEvenTime(t *testing.T) {
	const unit = 5 * time.Millisecond
	for _, mechanism := range []string{sasl.ScramSHA256, sasl.DigestMD5} {
		for _, tt := range []struct{ takes, want time.Duration }{
			{0, unit}, {time.Millisecond, unit}, {unit - 1, unit},
			{unit + 1, 2 * unit}, {17 * time.Millisecond, 20 * time.Millisecond},
		} {
			for _, name := range []string{"alice", "nobody"} {
				t.Run(fmt.Sprintf("%s/%v/%s", mechanism, tt.takes, name), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						v := verifier(t, slow{tt.takes, people()}, Limits{LookupTime: unit})
						v.wait = sleep // by the clock of the test
						start := time.Now()
						_, _, _ = try(t, v, Source{Datagram: true}, mechanism, name, "not the password")
						if took := time.Since(start); took != tt.want {
							t.Errorf("took %v, want %v", took, tt.want)
						}
					})
				})
			}
		}
	}
}

// TestEvenTimeEnds: who is cancelled does not wait.
func TestEvenTimeEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := verifier(t, people(), Limits{LookupTime: time.Hour})
		v.wait = sleep // by the clock of the test
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		l, err := v.Start(sasl.ScramSHA256, Source{})
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		_, _, _ = l.Next(ctx, []byte("n,,n=alice,r=abc"))
		if took := time.Since(start); took != time.Second {
			t.Errorf("took %v", took)
		}
	})
}
