package daemon

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"sixin4/encap/engine"
	"sixin4/encap/kernelpath"
)

// answers is a far end that answers at once.
func answers(context.Context, netip.Addr, time.Duration) error { return nil }

// TestTrialRun: a trial passes when a request that the kernel has sent is answered.
func TestTrialRun(t *testing.T) {
	for _, tt := range []struct {
		name     string
		answered int // the request that is, from 1; 0: none
		byKernel bool
		want     string
		again    bool
	}{
		{"the first is answered", 1, true, "passed", false},
		{"the last is answered", 3, true, "passed", false},
		{"too late", 4, true, "failed", true},
		{"none is", 0, true, "failed", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var sent uint64
				got := make(chan string, 9)
				note := func(s string) func() { return func() { got <- s } }
				one := trial{
					sent: func() uint64 { return sent }, waits: trialWaits,
					passed: note("passed"), failed: note("failed"), again: note("again"),
				}
				asked := 0
				var log bytes.Buffer
				how := one.run(t.Context(), func(_ context.Context, _ netip.Addr, timeout time.Duration) error {
					if asked++; tt.byKernel {
						sent++
					}
					if asked == tt.answered {
						return nil
					}
					time.Sleep(timeout)
					return errors.New("dead")
				}, answers, slog.New(slog.NewTextHandler(&log, nil)))
				if (how == hasPassed) != (tt.want == "passed") || how == inVain || len(got) != 1 || <-got != tt.want {
					t.Errorf("%d, not %s", how, tt.want)
				}
				if told := strings.Contains(log.String(), "do not arrive"); told != (tt.want == "failed") {
					t.Errorf("log %q", log.String())
				}
				go one.repeat(t.Context(), how)
				time.Sleep(trialAgain - time.Second)
				if synctest.Wait(); len(got) != 0 {
					t.Error("again too early")
				}
				time.Sleep(2 * time.Second)
				if synctest.Wait(); (len(got) != 0) != tt.again {
					t.Errorf("after %v: again %t, want %t", trialAgain, len(got) != 0, tt.again)
				}
			})
		})
	}
}

// TestTrialUnknown: one whose tunnel ends has no result, nor one of which the kernel has
// sent nothing, whether that was answered or not.
func TestTrialUnknown(t *testing.T) {
	never := func() { t.Error("a result") }
	one := trial{sent: func() uint64 { return 0 }, waits: trialWaits, passed: never, failed: never, again: never}
	for _, answer := range []error{nil, errors.New("dead")} {
		synctest.Test(t, func(t *testing.T) {
			asked := 0
			if one.run(t.Context(), func(context.Context, netip.Addr, time.Duration) error {
				asked++
				return answer
			}, answers, slog.New(slog.DiscardHandler)) != inVain || asked != mostUnsent {
				t.Errorf("answered with %v: known after %d requests", answer, asked)
			}
		})
	}
	var sent uint64
	one.sent = func() uint64 { sent++; return sent }
	silent := func(context.Context, netip.Addr, time.Duration) error { return errors.New("dead") }
	if one.run(t.Context(), silent, silent, slog.New(slog.DiscardHandler)) != inVain {
		t.Error("known of a far end that answers nobody")
	}
	ctx, cancel := context.WithCancel(t.Context())
	if one.run(ctx, func(context.Context, netip.Addr, time.Duration) error {
		cancel()
		return context.Canceled
	}, answers, slog.New(slog.DiscardHandler)) != inVain {
		t.Error("known when all ends")
	}
}

// TestTrialLate: a trial whose first requests the kernel did not send goes on with others.
func TestTrialLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var sent uint64
		asked, passed := 0, false
		one := trial{sent: func() uint64 { return sent }, waits: trialWaits, passed: func() { passed = true }, failed: func() { t.Error("failed") }}
		one.run(t.Context(), func(context.Context, netip.Addr, time.Duration) error {
			if asked++; asked > 3 {
				sent++
			}
			return nil
		}, answers, slog.New(slog.DiscardHandler))
		if !passed || asked != 4 {
			t.Errorf("passed %t after %d requests", passed, asked)
		}
	})
}

// TestTrialsDeaf: when no socket can be opened to hear the answers, trials are due again.
func TestTrialsDeaf(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tun, _ := carriedTunnel()
		tun.name, tun.env.Logger = "no such interface", slog.New(slog.DiscardHandler)
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		begin := tun.beginTrials(ctx, &running)
		var unknown atomic.Int32
		one := trial{
			from: netip.MustParseAddr("2001:db8::2"), to: netip.MustParseAddr("2001:db8::1"), waits: trialWaits,
			sent: func() uint64 { return 0 }, passed: func() { t.Error("passed") }, failed: func() { t.Error("failed") },
			again: func() { unknown.Add(1) },
		}
		for range 3 {
			begin([]trial{one})
		}
		time.Sleep(trialPause + time.Second)
		if synctest.Wait(); unknown.Load() != 3 {
			t.Errorf("%d of 3 trials are due again", unknown.Load())
		}
		cancel()
		running.Wait()
	})
}

// carriedTunnel is a tunnel with one far end that the kernel can carry.
func carriedTunnel() (*tunnel, *shape) {
	now := &shape{
		session: new(sessionConn), addresses: []netip.Prefix{netip.MustParsePrefix("2001:db8::2/128")},
		peers: []PlannedPeer{{
			Remote: netip.MustParseAddr("192.0.2.2"), port: 3653, merged: true, inner: netip.MustParseAddr("2001:db8::1"),
		}},
	}
	t := &tunnel{short: &shortcut{log: slog.New(slog.DiscardHandler)}, hopper: new(follower)}
	t.now.Store(now)
	return t, now
}

// rang reports whether a bell has been rung since wait.
func rang(wait <-chan struct{}) bool {
	select {
	case <-wait:
		return true
	default:
		return false
	}
}

// TestOnlyTrial: of a tunnel with one far end a trial is due while the kernel carries nothing
// else, and in each round from then on.
func TestOnlyTrial(t *testing.T) {
	tun, now := carriedTunnel()
	r := &round{}
	tun.short.path = new(fakePath)
	due := func(when string, trials, rounds int) (a, b []trial) {
		t.Helper()
		if a, b = tun.dueTrials(), r.due(tun); len(a) != trials || len(b) != rounds {
			t.Fatalf("%s: %d trials and %d in a round are due, want %d and %d", when, len(a), len(b), trials, rounds)
		}
		return a, b
	}
	due("the kernel has nothing", 0, 0)
	tun.short.given = &kernelpath.Flow{DstPort: 3653, Trial: true}
	first, _ := due("on trial", 1, 0)
	if first[0].to != now.peers[0].inner || first[0].from != now.addresses[0].Addr() {
		t.Errorf("asks %v from %v", first[0].to, first[0].from)
	}
	due("under way", 0, 0)
	again, look := tun.short.trying.wait(), tun.hopper.again.wait()
	first[0].failed()
	if first[0].again(); !rang(again) || rang(look) || tun.trials.hasPassed(now.session) {
		t.Error("after one that failed there is no other")
	}
	first, _ = due("again", 1, 0)
	first[0].again()
	first, _ = due("after nothing was found out", 1, 0)
	other := *now
	other.session = new(sessionConn)
	tun.now.Store(&other)
	if first[0].passed(); rang(look) || tun.trials.hasPassed(now.session) || tun.trials.hasPassed(other.session) {
		t.Error("passed for another session")
	}
	due("another session", 1, 0)
	first[0].again()
	due("that of before ends late", 0, 0)
	tun.now.Store(now)
	first, _ = due("the session of before", 1, 0)
	first[0].passed()
	if !rang(look) || !tun.trials.hasPassed(now.session) {
		t.Error("it has passed and nobody looks")
	}
	tun.short.given = &kernelpath.Flow{DstPort: 3653}
	_, list := due("carried", 0, 1)
	due("carried, and nothing sent since but the request", 0, 0)
	if list[0].passed(); !tun.trials.hasPassed(now.session) {
		t.Error("lost by an answer")
	}
	look = tun.hopper.again.wait()
	if list[0].failed(); !rang(look) || tun.trials.hasPassed(now.session) || list[0].again != nil {
		t.Error("nobody answers any more and nobody looks")
	}
	tun.short.given = &kernelpath.Flow{DstPort: 3653, Trial: true}
	due("lost", 1, 0)
	tun.trials.passed = new(sessionConn)
	if list[0].failed(); tun.trials.passed == nil {
		t.Error("a round of the session before ends the one that is")
	}
	tun.short.given = &kernelpath.Flow{}
	due("protocol 41", 0, 0)
}

// TestRound: of a hub's clients those are asked again that are carried and in use.
func TestRound(t *testing.T) {
	s, path, ways, rove, _ := hubShort()
	tun, _ := carriedTunnel()
	tun.short, tun.set.hub = s, true
	var all []PlannedPeer
	stats := make(map[engine.End]engine.PeerStats)
	use := func(i int, packets uint64) {
		p := stats[all[i].at()]
		p.LastHeard, p.Tx.Packets = time.Now(), packets
		stats[all[i].at()] = p
	}
	for i := range 4 {
		all = append(all, aClient(byte(i+1)))
		ways[all[i].Remote] = 7
	}
	s.with(all, nil)
	rove()
	for _, one := range s.untried(netip.IPv6Loopback()) {
		if one.outer != all[3].at().AddrPort {
			one.passed()
		}
	}
	r := &round{at: time.Now(), stats: func(at engine.End) (engine.PeerStats, bool) { return stats[at], true }}
	use(0, 1) // in use
	use(2, 0) // only heard
	use(3, 1) // on trial
	stats[all[1].at()] = engine.PeerStats{LastHeard: time.Now().Add(-time.Hour), Tx: engine.Count{Packets: 1}}
	list := r.due(tun)
	if len(list) != 1 || list[0].outer != all[0].at().AddrPort || list[0].to != all[0].inner {
		t.Fatalf("due %+v", list)
	}
	use(0, 2) // by the request, which was answered
	if again := r.due(tun); len(again) != 0 {
		t.Errorf("not used since, due %+v", again)
	}
	use(0, 3)
	if again := r.due(tun); len(again) != 1 {
		t.Errorf("used since, due %+v", again)
	}
	onTrial := func() bool { return path.peers[all[0].at().AddrPort].Trial }
	if list[0].passed(); onTrial() {
		t.Error("on trial again by an answer")
	}
	if list[0].failed(); !onTrial() || len(s.untried(netip.IPv6Loopback())) != 1 {
		t.Error("nobody answers any more and there is no trial")
	}
	s.without([]engine.End{all[0].at()}, nil)
	if list[0].failed(); len(path.peers) != 3 || len(s.untried(netip.IPv6Loopback())) != 0 {
		t.Error("lost after it has gone")
	}
}
