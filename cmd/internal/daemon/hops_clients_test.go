package daemon

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"sixin4/encap/engine"
	"sixin4/encap/kernelpath"
)

// hubEnd is where the clients of a hub send to.
var hubEnd = netip.MustParseAddrPort("192.0.2.200:3653")

// aClient is a hub's peer that the kernel may carry packets for.
func aClient(n byte) PlannedPeer {
	inner := netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 15: n})
	return PlannedPeer{
		Remote: netip.AddrFrom4([4]byte{192, 0, 2, n}), port: 4000, local: hubEnd, merged: true,
		inner: inner, Prefixes: []netip.Prefix{single(inner)},
	}
}

// TestSuits: who may be sent what the kernel sends.
func TestSuits(t *testing.T) {
	net := netip.MustParsePrefix
	for _, tt := range []struct {
		name string
		edit func(p *PlannedPeer)
		want bool
	}{
		{"a client", func(*PlannedPeer) {}, true},
		{"with a network", func(p *PlannedPeer) { p.Prefixes = append(p.Prefixes, net("2001:db8:1::/48")) }, true},
		{"of old", func(p *PlannedPeer) { p.merged = false }, false},
		{"of protocol 41", func(p *PlannedPeer) { p.port = 0 }, false},
		{"unproven", func(p *PlannedPeer) { p.unproven = true }, false},
		{"without a prefix", func(p *PlannedPeer) { p.Prefixes = nil }, false},
		{"with three", func(p *PlannedPeer) {
			p.Prefixes = append(p.Prefixes, net("2001:db8:1::/48"), net("2001:db8:2::/48"))
		}, false},
		{"with everything", func(p *PlannedPeer) { p.Prefixes = []netip.Prefix{everything} }, false},
		{"with link-local", func(p *PlannedPeer) { p.Prefixes = []netip.Prefix{net("fe80::/10")} }, false},
	} {
		p := aClient(1)
		tt.edit(&p)
		if got := p.suits(); got != tt.want {
			t.Errorf("%s: %t", tt.name, got)
		}
	}
}

// hubShort is a shortcut of a hub with a path, and ways to its clients that a test may change.
func hubShort() (s *shortcut, path *fakePath, ways map[netip.Addr]int, rove func(), log *bytes.Buffer) {
	log, path, ways = new(bytes.Buffer), new(fakePath), make(map[netip.Addr]int)
	s = &shortcut{
		path: path, given: &kernelpath.Flow{},
		log: slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	find := func(p PlannedPeer) (kernelpath.Peer, error) {
		link := ways[p.Remote]
		if link == 0 {
			return kernelpath.Peer{}, errors.New("no way")
		}
		return kernelpath.Peer{Local: p.local, Remote: p.at().AddrPort, Prefixes: p.Prefixes, Link: link, MTU: 1472}, nil
	}
	rove = func() { s.rove(context.Background(), func() finder { return find }) }
	return s, path, ways, rove, log
}

// TestClients: the kernel has those that suit and to whom a way leads, by the link that it
// leads over now.
func TestClients(t *testing.T) {
	s, path, ways, rove, _ := hubShort()
	one, two, three := aClient(1), aClient(2), aClient(3)
	ways[one.Remote], ways[two.Remote] = 7, 8
	check := func(when string, links []int, have ...PlannedPeer) {
		t.Helper()
		got, _ := s.links()
		same := len(path.peers) == len(have)
		for _, p := range have {
			same = same && path.peers[p.at().AddrPort].Link == ways[p.Remote]
		}
		if !same || !slices.Equal(got, links) {
			t.Errorf("%s: links %v, the kernel has %v", when, got, path.peers)
		}
	}
	unproven := two
	unproven.unproven = true
	s.with([]PlannedPeer{one, unproven, three}, nil)
	rove()
	check("one suits, one is unproven, one has no way", []int{7}, one)
	s.without(nil, []PlannedPeer{two})
	s.with([]PlannedPeer{two}, nil)
	rove()
	check("and is proven", []int{7, 8}, one, two)
	ways[one.Remote], ways[three.Remote] = 9, 9
	rove()
	if links, _ := s.links(); !slices.Equal(links, []int{7, 8}) {
		t.Errorf("ways have changed and nobody has told: links %v", links)
	}
	s.roam()
	rove()
	check("ways are looked for anew", []int{8, 9}, one, two, three)
	delete(ways, three.Remote)
	s.roam()
	rove()
	check("one has gone", []int{8, 9}, one, two)
	s.with([]PlannedPeer{one, two}, []engine.Refusal{{Peer: engine.Peer{Remote: one.Remote, Port: one.port}}})
	rove()
	check("the engine has refused one", []int{8}, two)
	s.with([]PlannedPeer{one}, nil)
	rove()
	check("and takes it again", []int{8, 9}, one, two)
	other := one
	other.Prefixes = append([]netip.Prefix{netip.MustParsePrefix("2001:db8:77::/48")}, one.Prefixes...)
	s.with([]PlannedPeer{other}, nil)
	check("one is about to have other prefixes", []int{8}, two)
	rove()
	check("and has them", []int{8, 9}, one, two)
	if got := path.peers[one.at().AddrPort]; len(got.Prefixes) != 2 || !got.Trial {
		t.Errorf("with other prefixes the kernel has %+v", got)
	}
	denied := one
	denied.merged = false
	s.without([]engine.End{two.at()}, []PlannedPeer{denied})
	s.with([]PlannedPeer{denied}, nil)
	rove()
	if links, all := s.links(); len(links) != 0 || len(path.peers) != 0 || all != 1 {
		t.Errorf("one is gone and one takes nothing merged any more: links %v, the kernel has %v", links, path.peers)
	}
}

// TestClientsOfNewPath: a path that is opened later gets those that there are.
func TestClientsOfNewPath(t *testing.T) {
	s, path, ways, rove, _ := hubShort()
	s.path, s.given = nil, nil
	s.open = func() (carrier, error) { return path, nil }
	p := aClient(1)
	ways[p.Remote] = 7
	s.with([]PlannedPeer{p}, nil)
	rove()
	if !s.opened() || path.peers[p.at().AddrPort].Link != 7 {
		t.Errorf("the path has %v", path.peers)
	}
}

// TestClientsRefused: what the kernel has no room for is the engine's, and the log says so
// once for all.
func TestClientsRefused(t *testing.T) {
	s, path, ways, rove, log := hubShort()
	path.becomes(errors.New("no room"))
	for n := range byte(3) {
		p := aClient(n + 1)
		ways[p.Remote] = 7
		s.with([]PlannedPeer{p}, nil)
		rove()
	}
	if links, all := s.links(); len(links) != 0 || all != 3 || strings.Count(log.String(), "level=WARN") != 1 || strings.Count(log.String(), "no room") != 3 {
		t.Errorf("links %v, log:\n%s", links, log)
	}
	path.becomes(nil)
	rove()
	if len(path.peers) != 0 {
		t.Errorf("told again at once: %v", path.peers)
	}
	s.retry()
	if rove(); len(path.peers) != 3 {
		t.Errorf("there is room now, and the kernel has %v", path.peers)
	}
}

// TestRove: after a change of the network ways are asked for by what links are then, and
// what was found out about a client that is another by now is not told.
func TestRove(t *testing.T) {
	s, path, _, _, _ := hubShort()
	one, two := aClient(1), aClient(2)
	s.with([]PlannedPeer{one, two}, nil)
	begun, asked := 0, 0
	s.rove(t.Context(), func() finder {
		begun++
		return func(p PlannedPeer) (kernelpath.Peer, error) {
			switch asked++; asked {
			case 1:
				s.roam()
			case 2:
				s.without([]engine.End{p.at()}, nil)
			}
			return kernelpath.Peer{Local: p.local, Remote: p.at().AddrPort, Prefixes: p.Prefixes, Link: begun, MTU: 1472}, nil
		}
	})
	links, _ := s.links()
	if begun != 2 || len(path.peers) != 1 || !slices.Equal(links, []int{2}) {
		t.Errorf("%d finders, the kernel has %v", begun, path.peers)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	s.roam()
	s.rove(ctx, func() finder { t.Error("looks for ways when all ends"); return nil })
}

// TestClientStats: what the kernel carried for a client is added to what the engine did.
func TestClientStats(t *testing.T) {
	s, _, ways, rove, _ := hubShort()
	p := aClient(1)
	ways[p.Remote] = 7
	s.with([]PlannedPeer{p}, nil)
	rove()
	got := engine.PeerStats{Remote: p.Remote, Port: p.port, Tx: engine.Count{Packets: 5, Bytes: 50}, LastHeard: time.Unix(99, 0)}
	s.addClient(&got)
	if got.Tx != (engine.Count{Packets: 6, Bytes: 60}) || got.LastHeard != time.Unix(100, 0) {
		t.Errorf("%+v", got)
	}
	read := func() uint64 {
		got := engine.PeerStats{Remote: p.Remote, Port: p.port}
		s.addClient(&got)
		return got.Tx.Packets
	}
	delete(ways, p.Remote)
	s.roam()
	if rove(); read() != 1 {
		t.Errorf("taken from the kernel, %d packets are counted, want those of before", read())
	}
	ways[p.Remote] = 8
	s.roam()
	if rove(); read() != 2 {
		t.Errorf("told again, %d packets are counted, want 2", read())
	}
	for _, other := range []engine.PeerStats{{Remote: p.Remote}, {Remote: p.Remote, Port: 4001}, {Remote: p.Remote, Port: p.port, Socket: 1}} {
		before := other.Tx
		if s.addClient(&other); other.Tx != before {
			t.Errorf("%v port %d socket %d is another: %+v", other.Remote, other.Port, other.Socket, other.Tx)
		}
	}
	s.without([]engine.End{p.at()}, nil)
	if read() != 0 {
		t.Errorf("gone, and %d packets are counted", read())
	}
}

// TestClientTrial: a client's packets follow when its trial has passed, and a client that
// is elsewhere has another trial.
func TestClientTrial(t *testing.T) {
	s, path, ways, rove, _ := hubShort()
	from := netip.MustParseAddr("2001:db8::ff")
	p := aClient(1)
	ways[p.Remote] = 7
	s.with([]PlannedPeer{p}, nil)
	rove()
	onTrial := func() bool { return path.peers[p.at().AddrPort].Trial }
	s.given = nil
	if len(s.untried(from)) != 0 {
		t.Error("a trial is due before the kernel has the hub")
	}
	s.given = &kernelpath.Flow{Hub: &kernelpath.Hub{}}
	due := s.untried(from)
	if len(due) != 1 || due[0].to != p.inner || due[0].from != from || due[0].sent() != 1 || !onTrial() || s.active() {
		t.Fatalf("due %+v, active %t, the kernel has %+v", due, s.active(), path.peers)
	}
	if len(s.untried(from)) != 0 {
		t.Error("a trial is due twice")
	}
	ways[p.Remote] = 9
	s.roam()
	rove()
	if due = s.untried(from); len(due) != 1 || !onTrial() {
		t.Errorf("by another link while on trial: due %+v", due)
	}
	rung := s.trying.wait()
	due[0].failed()
	due[0].again()
	select {
	case <-rung:
	default:
		t.Error("nobody is told that a trial is due again")
	}
	if due = s.untried(from); len(due) != 1 || !onTrial() {
		t.Fatalf("after one that failed: due %+v", due)
	}
	due[0].passed()
	if onTrial() || len(s.untried(from)) != 0 || !s.active() {
		t.Errorf("after one that passed: active %t, the kernel has %+v", s.active(), path.peers)
	}
	ways[p.Remote] = 8
	s.roam()
	rove()
	if onTrial() || path.peers[p.at().AddrPort].Link != 8 {
		t.Errorf("by another link: the kernel has %+v", path.peers)
	}
	s.without([]engine.End{p.at()}, nil)
	p.port++
	s.with([]PlannedPeer{p}, nil)
	rove()
	if due = s.untried(from); len(due) != 1 || !onTrial() {
		t.Errorf("at another port: due %+v", due)
	}
	s.without([]engine.End{p.at()}, nil)
	due[0].passed()
	if len(path.peers) != 0 {
		t.Errorf("passed after it has gone: the kernel has %+v", path.peers)
	}
	s.with([]PlannedPeer{p}, nil)
	rove()
	due[0].passed()
	due[0].again()
	if !onTrial() || len(s.untried(from)) != 1 {
		t.Errorf("the trial of one that went and came back ends its new one: the kernel has %+v", path.peers)
	}
}
