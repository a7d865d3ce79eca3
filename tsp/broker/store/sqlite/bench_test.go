package sqlite

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sixin4/tsp/broker/store"
	"sixin4/tsp/broker/store/storetest"
)

// session is what one session costs: a lease found or made, and activated.
func session(b *testing.B, s store.Store, userID string) store.Lease {
	w := store.Want{UserID: userID}
	if userID == "" {
		w.Expires = time.Now().Add(time.Hour)
	}
	l, err := s.Reserve(b.Context(), w)
	if err == nil {
		l, err = s.Activate(b.Context(), store.Activation{
			ID: l.ID, Epoch: l.Epoch, Outer: netip.MustParseAddrPort("192.0.2.1:1"), Expires: w.Expires,
		})
	}
	if err != nil {
		b.Error(err)
	}
	return l
}

// crowd calls f with 0 to n-1, 100 at a time.
func crowd(n int, f func(int)) {
	var next atomic.Int64
	var wg sync.WaitGroup
	for range 100 {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				f(i)
			}
		})
	}
	wg.Wait()
}

// BenchmarkSession is Reserve and Activate, each on the disk when it returns: of a
// new lease or of one that is there, one client after the other or 128 at a time.
func BenchmarkSession(b *testing.B) {
	for _, clients := range []int{1, 128} {
		for _, fresh := range []bool{true, false} {
			b.Run(fmt.Sprintf("clients=%d/new=%v", clients, fresh), func(b *testing.B) {
				s := open(b, filepath.Join(b.TempDir(), "tspd.db"), store.Config{Pool: storetest.Pool})
				users := make([]string, 1000)
				crowd(len(users), func(i int) {
					u, err := s.AddUser(b.Context(), store.User{Name: fmt.Sprint(i)})
					if err != nil {
						b.Error(err)
					}
					users[i] = u.ID
					session(b, s, u.ID)
				})
				var next atomic.Int64
				b.SetParallelism(max(clients/2, 1)) // times the number of processors
				b.ResetTimer()
				one := func() {
					user := ""
					if !fresh {
						user = users[int(next.Add(1))%len(users)]
					}
					session(b, s, user)
				}
				if clients == 1 {
					for range b.N {
						one()
					}
				} else {
					b.RunParallel(func(pb *testing.PB) {
						for pb.Next() {
							one()
						}
					})
				}
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "sessions/s")
			})
		}
	}
}

// BenchmarkTouch is what a broker with 20 000 tunnels does every minute.
func BenchmarkTouch(b *testing.B) {
	s := open(b, filepath.Join(b.TempDir(), "tspd.db"), store.Config{Pool: storetest.Pool})
	var mu sync.Mutex
	var seen []store.Seen
	crowd(20_000, func(int) {
		l := session(b, s, "")
		mu.Lock()
		defer mu.Unlock()
		seen = append(seen, store.Seen{ID: l.ID, Epoch: l.Epoch, At: time.Now(), Expires: time.Now().Add(time.Hour)})
	})
	for b.Loop() {
		if lost, err := s.Touch(b.Context(), seen); err != nil || len(lost) > 0 {
			b.Fatal(len(lost), err)
		}
	}
}
