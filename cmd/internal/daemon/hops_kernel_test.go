package daemon

import (
	"errors"
	"net/netip"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"sixin4/cmd/internal/config"
	"sixin4/cmd/internal/exit"
	"sixin4/encap"
	"sixin4/encap/engine"
	"sixin4/encap/kernelpath"
	"sixin4/encap/wire"
)

// fakePath remembers what it was given.
type fakePath struct {
	mu     sync.Mutex
	given  *kernelpath.Flow
	sets   int
	closed bool
	cut    bool // by somebody else
	refuse error
	peers  map[netip.AddrPort]kernelpath.Peer
}

func (p *fakePath) Set(f *kernelpath.Flow) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sets++
	if p.given = f; p.refuse != nil {
		p.given = nil
		return p.refuse
	}
	return nil
}

func (p *fakePath) Intact() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return !p.cut
}

// has returns what was given last, and how often something was.
func (p *fakePath) has() (given *kernelpath.Flow, sets int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.given, p.sets
}

// becomes makes Set fail from now on, or not any more.
func (p *fakePath) becomes(refuse error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refuse = refuse
}

func (p *fakePath) PutPeer(k kernelpath.Peer) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.peers == nil {
		p.peers = make(map[netip.AddrPort]kernelpath.Peer)
	}
	p.peers[k.Remote] = k
	return p.refuse
}

func (p *fakePath) RemovePeer(_, remote netip.AddrPort) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.peers, remote)
	return nil
}

func (p *fakePath) PeerStats(_, remote netip.AddrPort) (kernelpath.Stats, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, ok := p.peers[remote]; !ok {
		return kernelpath.Stats{}, false
	}
	s, _ := p.Stats()
	return s, true
}

func (p *fakePath) Stats() (kernelpath.Stats, error) {
	return kernelpath.Stats{
		Tx: kernelpath.Count{Packets: 1, Bytes: 10}, Rx: kernelpath.Count{Packets: 2, Bytes: 20},
		TxLost: 3, RxLost: 4, LastHeard: time.Unix(100, 0),
	}, nil
}

func (p *fakePath) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed, p.given = true, nil
	return nil
}

// shortened is a follower with a shortcut through a fakePath.
func shortened(c *fakeConn) (*followed, *fakePath, *shortcut) {
	f, path := newFollowed(c), new(fakePath)
	s := &shortcut{
		open: func() (carrier, error) { return path, nil },
		flow: func(hops map[[4]byte]wire.Hop) (*kernelpath.Flow, string) {
			return &kernelpath.Flow{Link: hops[[4]byte{192, 0, 2, 1}].Link}, ""
		},
		watchers: func(carrier, int) ([]string, error) { return nil, nil },
		log:      f.log,
	}
	f.kernel = s
	return f, path, s
}

// TestShortcutChanges: the kernel carries what it may, and the log says each change once.
func TestShortcutChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, path, s := shortened(new(fakeConn))
		var watcher []string
		s.watchers = func(carrier, int) ([]string, error) {
			f.mu.Lock()
			defer f.mu.Unlock()
			return watcher, nil
		}
		check := func(when, use string) {
			t.Helper()
			given, _ := path.has()
			if got := f.inUse(); got != use || (given != nil) != (use == "bpf") {
				t.Errorf("%s: %s with flow %v, want %s", when, got, given, use)
			}
		}
		f.during(t, func() {
			check("at the start", "bpf")
			wait(5 * egressInterval)
			if _, sets := path.has(); sets != 1 {
				t.Errorf("set %d times, though nothing changed", sets)
			}
			f.change(func() { watcher = []string{"a chain at input"} })
			wait(egressInterval)
			check("seen on the way in", "packet")
			f.change(func() { watcher = nil })
			wait(egressInterval)
			check("not any more", "bpf")
			f.change(func() { f.seen = []string{"a chain at output"} })
			wait(egressInterval)
			check("seen on the way out", "raw")
			f.change(func() { f.seen = nil })
			wait(egressInterval)
			check("nor there", "bpf")
			f.change(func() { f.at = nil })
			wait(egressInterval)
			check("without a connection", "packet")
			f.change(func() { f.at = new(fakeConn) })
			wait(egressInterval)
			check("with another", "bpf")
			f.change(func() { f.known = map[[4]byte]wire.Hop{{192, 0, 2, 1}: {Link: 2}} })
			wait(hopInterval)
			if given, _ := path.has(); given == nil || given.Link != 2 {
				t.Errorf("after the way has changed: %v", given)
			}
			s.withdraw()
			check("withdrawn", "packet")
			wait(egressInterval)
			check("and looked again", "bpf")
			path.becomes(errors.New("no memory"))
			s.withdraw()
			wait(egressInterval)
			path.becomes(nil)
			check("refused", "packet")
			wait(egressInterval)
			check("tried again", "bpf")
		})
		if !path.closed || f.inUse() == "bpf" {
			t.Error("the path is not closed at the end")
		}
		const want = `level=INFO msg="packets are handed to the link directly"
level=INFO msg="packets are carried by the kernel"
level=INFO msg="packets are not carried by the kernel any more" reason="seen by a chain at input"
level=INFO msg="packets are carried by the kernel"
level=INFO msg="packets go through the raw socket" reason="seen by a chain at output"
`
		if got := f.out.String(); !strings.HasPrefix(got, want) {
			t.Errorf("log:\n%swant it to begin with\n%s", got, want)
		}
	})
}

// TestShortcutCut: programs that somebody has taken away are put back.
func TestShortcutCut(t *testing.T) {
	f, path, s := shortened(new(fakeConn))
	f.look(true)
	f.look(true)
	if _, sets := path.has(); sets != 1 {
		t.Fatalf("set %d times, want once", sets)
	}
	path.cut = true
	f.look(true)
	if given, sets := path.has(); sets != 2 || given == nil || !s.active() {
		t.Errorf("cut, and set %d times: %+v", sets, given)
	}
}

// TestShortcutRefused: a kernel that cannot is asked once, and that is no news unless it
// was demanded.
func TestShortcutRefused(t *testing.T) {
	for _, tt := range []struct {
		name, level string
		always      bool
	}{{"auto", "DEBUG", false}, {"bpf", "WARN", true}} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f, _, s := shortened(new(fakeConn))
				asked := 0
				s.open = func() (carrier, error) {
					asked++
					return nil, errors.ErrUnsupported
				}
				s.always = tt.always
				f.during(t, func() { wait(10 * egressInterval) })
				if asked != 1 || f.inUse() != "packet" {
					t.Errorf("asked %d times, wire %s", asked, f.inUse())
				}
				want := `level=` + tt.level + ` msg="packets are not carried by the kernel" reason="unsupported operation"`
				if got := f.out.String(); strings.Count(got, want) != 1 || strings.Count(got, "carried") != 1 {
					t.Errorf("log:\n%swant once %s", got, want)
				}
			})
		})
	}
}

// TestShortcutTriedAgain: a kernel that lacked something for a moment is asked again, but
// not all the time.
func TestShortcutTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, path, s := shortened(new(fakeConn))
		asked := 0
		s.open = func() (carrier, error) {
			if asked++; asked == 1 {
				return nil, syscall.ENOMEM
			}
			return path, nil
		}
		f.during(t, func() {
			wait(openRetry - egressInterval)
			if asked != 1 || f.inUse() != "packet" {
				t.Errorf("before it is time: asked %d times, wire %s", asked, f.inUse())
			}
			wait(2 * egressInterval)
			if asked != 2 || f.inUse() != "bpf" {
				t.Errorf("later: asked %d times, wire %s", asked, f.inUse())
			}
		})
	})
}

// TestDemandShortcut: who asked for nothing else ends, with a status that says whether
// trying again is of use.
func TestDemandShortcut(t *testing.T) {
	for err, want := range map[error]int{errors.ErrUnsupported: exit.Unavailable, syscall.ENOMEM: exit.TryAgain} {
		tun := &tunnel{set: settings{Common: config.Common{Wire: config.WireBPF}}}
		tun.short = &shortcut{open: func() (carrier, error) { return nil, err }}
		if got := exit.Code(tun.demandShortcut()); got != want {
			t.Errorf("%v: exit status %d, want %d", err, got, want)
		}
	}
}

// TestShortcutPathLowered: what a path does not carry any more is the engine's at once, and
// the kernel has the new figure before the next look is due.
func TestShortcutPathLowered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, path, s := shortened(new(fakeConn))
		mtu := encap.TunMTU(1480)
		s.flow = func(map[[4]byte]wire.Hop) (*kernelpath.Flow, string) {
			f.mu.Lock()
			defer f.mu.Unlock()
			return &kernelpath.Flow{MTU: mtu}, ""
		}
		tun := &tunnel{short: s, hopper: &f.follower}
		f.during(t, func() {
			_, before := path.has()
			began := time.Now()
			f.change(func() { mtu = 1380 })
			tun.pathLowered()
			synctest.Wait()
			given, sets := path.has()
			if given == nil || given.MTU != 1380 || sets != before+2 || time.Since(began) != 0 {
				t.Errorf("after %v: %+v, set %d times; want 1380 at once, taken away and given", time.Since(began), given, sets-before)
			}
			wait(hopInterval)
			if hopped, _ := f.counts(); hopped != 2 {
				t.Errorf("hops were asked for %d times, want 2: the look that was asked for is none of the regular ones", hopped)
			}
		})
	})
	(&tunnel{}).pathLowered() // with neither is harmless
}

// TestShortcutLate: a flow that was worked out before the tunnel changed is not set.
func TestShortcutLate(t *testing.T) {
	f, path, s := shortened(new(fakeConn))
	flow := s.flow
	s.flow = func(hops map[[4]byte]wire.Hop) (*kernelpath.Flow, string) {
		s.withdraw()
		return flow(hops)
	}
	s.look(s.epoch(), f.known, "")
	if path.given != nil || s.active() {
		t.Errorf("given %v", path.given)
	}
}

// TestShortcutLateHops: nor is one by hops, or with a connection, of the tunnel before.
func TestShortcutLateHops(t *testing.T) {
	f, path, s := shortened(new(fakeConn))
	hops := f.follower.hops
	f.follower.hops = func() map[[4]byte]wire.Hop {
		defer s.withdraw()
		return hops()
	}
	f.look(true)
	if given, _ := path.has(); given != nil || s.active() {
		t.Errorf("given %v", given)
	}
	f.follower.hops = hops
	f.look(true)
	if given, _ := path.has(); given == nil {
		t.Error("nothing given when nothing changed meanwhile")
	}
}

func TestShortcutStats(t *testing.T) {
	_, path, s := shortened(new(fakeConn))
	e := engine.Stats{Tx: engine.Count{Packets: 5, Bytes: 50}}
	p := engine.PeerStats{LastHeard: time.Unix(99, 0)}
	s.addTotals(&e)
	if e.Tx.Packets != 5 {
		t.Errorf("without a path: %+v", e.Tx)
	}
	s.path = path
	s.addTotals(&e)
	s.addPeer(&p)
	if e.Tx != (engine.Count{Packets: 6, Bytes: 60}) || e.Rx != (engine.Count{Packets: 2, Bytes: 20}) ||
		e.Drops[encap.DropSendError] != 3 || e.Drops[encap.DropTunError] != 4 {
		t.Errorf("totals %+v", e)
	}
	if p.Tx != (engine.Count{Packets: 1, Bytes: 10}) || p.LastHeard != time.Unix(100, 0) {
		t.Errorf("peer %+v", p)
	}
	var none *shortcut
	none.addTotals(&e)
	none.withdraw()
	if none.active() || none.close() != nil || e.Tx.Packets != 6 {
		t.Error("no shortcut is not harmless")
	}
}
