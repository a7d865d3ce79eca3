package daemon

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"sixin4/encap/engine"
	"sixin4/encap/kernelpath"
)

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
		{"the engine sent it", 1, false, "failed", true},
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
				one.run(t.Context(), func(_ context.Context, _ netip.Addr, timeout time.Duration) error {
					if asked++; tt.byKernel {
						sent++
					}
					if asked == tt.answered {
						return nil
					}
					time.Sleep(timeout)
					return errors.New("dead")
				}, slog.New(slog.NewTextHandler(&log, nil)))
				if len(got) != 1 || <-got != tt.want {
					t.Errorf("not %s", tt.want)
				}
				if told := strings.Contains(log.String(), "do not arrive"); told != (tt.want == "failed") {
					t.Errorf("log %q", log.String())
				}
				time.Sleep(trialAgain + time.Second)
				if synctest.Wait(); (len(got) != 0) != tt.again {
					t.Errorf("after %v: again %t, want %t", trialAgain, len(got) != 0, tt.again)
				}
			})
		})
	}
}

// TestTrialEnds: one whose tunnel ends has no result.
func TestTrialEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	never := func() { t.Error("a result") }
	one := trial{sent: func() uint64 { return 0 }, waits: trialWaits, passed: never, failed: never, again: never}
	one.run(ctx, func(context.Context, netip.Addr, time.Duration) error {
		cancel()
		return context.Canceled
	}, slog.New(slog.DiscardHandler))
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
	again, look := tun.short.trying.wait(), tun.hopper.again.wait()
	first[0].failed()
	if first[0].again(); !rang(again) || rang(look) || tun.trials.hasPassed(now.session) {
		t.Error("after one that failed there is no other")
	}
	first[0].passed()
	if !rang(look) || !tun.trials.hasPassed(now.session) {
		t.Error("it has passed and nobody looks")
	}
	tun.short.given = &kernelpath.Flow{DstPort: 3653}
	_, list := due("carried", 0, 1)
	if list[0].passed(); !tun.trials.hasPassed(now.session) {
		t.Error("lost by an answer")
	}
	look = tun.hopper.again.wait()
	if list[0].failed(); !rang(look) || tun.trials.hasPassed(now.session) || list[0].again != nil {
		t.Error("nobody answers any more and nobody looks")
	}
	tun.tried(new(sessionConn))
	if list[0].failed(); tun.trials.passed == nil {
		t.Error("a round of the session before ends the one that is")
	}
	tun.short.given = &kernelpath.Flow{}
	due("protocol 41", 0, 0)
}

// TestRound: of a hub's clients those are asked again that are carried and in use.
func TestRound(t *testing.T) {
	s, path, ways, peer, _ := hubShort()
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
	s.with(all, nil, peer)
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
	if again := r.due(tun); len(again) != 0 {
		t.Errorf("not used since, due %+v", again)
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
