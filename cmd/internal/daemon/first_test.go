package daemon

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"sixin4/encap"
	"sixin4/encap/keepalive"
	"sixin4/tsp"
	"sixin4/tsp/client"
)

// TestFirstAnswer: requests are sent ever more rarely, and any of them may be answered until
// the end.
func TestFirstAnswer(t *testing.T) {
	const ms = time.Millisecond
	for _, tt := range []struct {
		name    string
		answers int           // which request is answered, 0: none
		after   time.Duration // and when
		sent    string
		took    time.Duration
		err     error
	}{
		{"the first", 1, 5 * ms, "[0s]", 5 * ms, nil},
		{"the third", 3, 5 * ms, "[0s 20ms 60ms]", 65 * ms, nil},
		{"the first, late", 1, 500 * ms, "[0s 20ms 60ms 140ms 300ms]", 500 * ms, nil},
		{"none", 0, 0, "[0s 20ms 60ms 140ms 300ms 620ms]", time.Second, keepalive.ErrDead},
		{"too late", 1, 2 * time.Second, "[0s 20ms 60ms 140ms 300ms 620ms]", time.Second, keepalive.ErrDead},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				begun := time.Now()
				var (
					mu   sync.Mutex
					sent []time.Duration
				)
				send := func() int {
					mu.Lock()
					defer mu.Unlock()
					sent = append(sent, time.Since(begun))
					return len(sent)
				}
				err := firstAnswer(t.Context(), time.Second, func(ctx context.Context) bool {
					if send() == tt.answers {
						return waited(ctx, tt.after)
					}
					<-ctx.Done()
					return false
				})
				if took := time.Since(begun); fmt.Sprint(sent) != tt.sent || took != tt.took || !errors.Is(err, tt.err) {
					t.Errorf("sent at %v, ended after %v with %v; want %s, %v, %v", sent, took, err, tt.sent, tt.took, tt.err)
				}
			})
		})
	}
}

// TestFirstAnswerStopped: the end of the context is no silence of the far end.
func TestFirstAnswerStopped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		err := firstAnswer(ctx, time.Second, func(ctx context.Context) bool { <-ctx.Done(); return false })
		if !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, keepalive.ErrDead) {
			t.Errorf("ended with %v", err)
		}
	})
}

// slowBroker is the session of a tunnel in UDP whose broker drops what comes before a moment.
type slowBroker struct {
	net.Conn
	questions *questions
	from      time.Time // zero: for ever
}

func (c *slowBroker) Write(b []byte) (int, error) {
	if !c.from.IsZero() && !time.Now().Before(c.from) {
		reply := encap.IPv6(slices.Clone(b))
		copy(reply[8:24], b[24:40])
		copy(reply[24:40], b[8:24])
		c.questions.replied(reply, len(reply))
	}
	return len(b), nil
}

// TestReadyByAnswer: a tunnel is ready when the far end answers, or after a second; at once
// when this end of it is another host, and not at all when there is another session.
func TestReadyByAnswer(t *testing.T) {
	type welcome func(context.Context, *client.Lease) error
	ready := func(n *negotiated) welcome {
		n.looked.Store(true)
		return func(ctx context.Context, l *client.Lease) error {
			if err := n.welcome(ctx, l); err != nil || ctx.Err() != nil {
				return err
			}
			stop := n.readyByWay(ctx)
			synctest.Wait()
			stop()
			return nil
		}
	}
	connect := func(q *questions, first func(), proxy bool) welcome {
		n := &negotiated{tunnel: newTunnel(settings{}, Env{}), kinds: &chooser{}, questions: q, first: first}
		n.cfg.Proxy = proxy
		return ready(n)
	}
	away := func(q *questions, first func(), _ bool) welcome {
		n := &negotiated{tunnel: newTunnel(settings{}, Env{}), kinds: &chooser{}, questions: q, first: first}
		n.trouble.Store(new("no route"))
		return ready(n)
	}
	proxy := func(q *questions, first func(), _ bool) welcome {
		p := &proxied{questions: q, first: first}
		return func(ctx context.Context, l *client.Lease) error { p.welcome(ctx, l); return nil }
	}
	const never = time.Duration(-1)
	for _, tt := range []struct {
		name    string
		begin   func(q *questions, first func(), proxy bool) welcome
		answers time.Duration // from when on
		other   bool          // the end is another host
		stop    time.Duration // when there is another session
		want    time.Duration
	}{
		{"connect, known after 10 ms", connect, 10 * time.Millisecond, false, time.Hour, 20 * time.Millisecond},
		{"connect, known after 200 ms", connect, 200 * time.Millisecond, false, time.Hour, 300 * time.Millisecond},
		{"connect, no answer", connect, never, false, time.Hour, readyTime},
		{"connect, no answer and no way", away, never, false, time.Hour, never},
		{"connect, the end is another host", connect, never, true, time.Hour, 0},
		{"connect, another session", connect, never, false, readyTime / 2, never},
		{"proxy, known after 10 ms", proxy, 10 * time.Millisecond, false, time.Hour, 20 * time.Millisecond},
		{"proxy, no answer", proxy, never, false, time.Hour, readyTime},
		{"proxy, another session", proxy, never, false, readyTime / 2, never},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				begun, after := time.Now(), never
				c := &slowBroker{questions: newQuestions()}
				if tt.answers != never {
					c.from = begun.Add(tt.answers)
				}
				ctx, cancel := context.WithTimeout(t.Context(), tt.stop)
				defer cancel()
				err := tt.begin(c.questions, sync.OnceFunc(func() { after = time.Since(begun) }), tt.other)(ctx, &client.Lease{
					Conn: c,
					Tunnel: &tsp.Tunnel{
						Type: tsp.V6UDPV4, Client6: netip.MustParseAddr("2001:db8::2"), Server6: netip.MustParseAddr("2001:db8::1"),
					},
				})
				synctest.Wait()
				if after != tt.want || err != nil {
					t.Errorf("ready after %v, %v; want %v", after, err, tt.want)
				}
			})
		})
	}
}
