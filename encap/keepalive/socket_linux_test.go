package keepalive

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sixin4/tun/nstest"
)

// twoLinks is two hosts with two links between them: A has 2001:db8::1 on a0 and
// 2001:db8:1::1 on a1, B the same with 2 at the end.
func twoLinks(t *testing.T) (a, b *nstest.NS) {
	t.Helper()
	a, b = nstest.Open(t), nstest.Open(t)
	for _, step := range []error{
		nstest.Link(a, "a0", b, "b0"), nstest.Link(a, "a1", b, "b1"),
		a.AddAddr("a0", "2001:db8::1/64"), b.AddAddr("b0", "2001:db8::2/64"),
		a.AddAddr("a1", "2001:db8:1::1/64"), b.AddAddr("b1", "2001:db8:1::2/64"),
	} {
		if step != nil {
			t.Fatal(step)
		}
	}
	return a, b
}

// start runs a prober in ns until the test ends. What Run returns comes out of the
// channel.
func start(t *testing.T, ns *nstest.NS, cfg Config) (*Prober, context.CancelFunc, <-chan error) {
	t.Helper()
	p, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended, done := make(chan error, 1), make(chan struct{})
	go func() {
		defer close(done)
		ended <- ns.Do(func() error { return p.Run(ctx) })
	}()
	t.Cleanup(func() { cancel(); <-done })
	return p, cancel, ended
}

func answered(p *Prober, n uint64) func() bool {
	return func() bool { return p.Stats().Answered >= n }
}

func TestSocketAnswered(t *testing.T) {
	a, b := twoLinks(t)
	change := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	change(a.AddAddr("a0", "fe80::aaaa/64"))
	change(b.AddAddr("b0", "fe80::bbbb/64"))
	tests := []struct {
		name, link, from, to string
	}{
		{"loopback", "lo", "::1", "::1"},
		{"link", "a0", "2001:db8::1", "2001:db8::2"},
		{"other link", "a1", "2001:db8:1::1", "2001:db8:1::2"},
		{"link-local addresses", "a0", "fe80::aaaa", "fe80::bbbb"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p, cancel, ended := start(t, a, Config{
				Interface: tt.link, Source: netip.MustParseAddr(tt.from), To: netip.MustParseAddr(tt.to),
				Interval: time.Millisecond,
			})
			nstest.Eventually(t, limit, "answers", answered(p, 3))
			if s := p.Stats(); s.RTT <= 0 || s.LastAnswer.IsZero() || s.Sent < 3 {
				t.Errorf("%+v", s)
			}
			cancel()
			if err := nstest.Within(t, limit, "end", ended); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestSocketIsBoundToInterface: the routes lead to the target and back, but by
// another interface.
func TestSocketIsBoundToInterface(t *testing.T) {
	a, _ := twoLinks(t)
	p, _, ended := start(t, a, Config{
		Interface: "a1", Source: netip.MustParseAddr("2001:db8:1::1"), To: far,
		Interval: time.Millisecond, Timeout: 50 * time.Millisecond, Losses: 2,
	})
	if err := nstest.Within(t, limit, "end", ended); !errors.Is(err, ErrDead) {
		t.Errorf("%v, %+v; want %v", err, p.Stats(), ErrDead)
	}
	if s := p.Stats(); s.Sent != 2 || s.Answered != 0 {
		t.Errorf("%+v", s)
	}
}

// TestSocketLosesTarget: a link that goes down, at either end, or is taken away,
// means that the far end does not answer.
func TestSocketLosesTarget(t *testing.T) {
	tests := []struct {
		name string
		lose func(a, b *nstest.NS) error
	}{
		{"the far end goes down", func(_, b *nstest.NS) error { return b.SetDown("b0") }},
		{"the interface goes down", func(a, _ *nstest.NS) error { return a.SetDown("a0") }},
		{"the interface is removed", func(a, _ *nstest.NS) error { return a.DelLink("a0") }},
		{"the source address is removed", func(a, _ *nstest.NS) error { return a.DelAddr("a0", "2001:db8::1/64") }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a, b := twoLinks(t)
			p, _, ended := start(t, a, Config{
				Interface: "a0", Source: near, To: far,
				Interval: time.Millisecond, Timeout: 300 * time.Millisecond,
			})
			nstest.Eventually(t, limit, "answers", answered(p, 3))
			if err := tt.lose(a, b); err != nil {
				t.Fatal(err)
			}
			if err := nstest.Within(t, limit, "end", ended); !errors.Is(err, ErrDead) {
				t.Errorf("run returned %v", err)
			}
		})
	}
}

// TestSocketFilter: the socket brings nothing but echo replies, of its interface.
func TestSocketFilter(t *testing.T) {
	a, b := twoLinks(t)
	open := func(ns *nstest.NS, link, from, to string) (c conn) {
		t.Helper()
		err := ns.Do(func() (err error) {
			c, err = openSocket(Config{Interface: link, Source: netip.MustParseAddr(from), To: netip.MustParseAddr(to)}, anyID)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.close() })
		return c
	}
	at := open(a, "a0", "2001:db8::1", "2001:db8::2")
	by0 := open(b, "b0", "2001:db8::2", "2001:db8::1")
	for kind := range 256 {
		if kind == typeReply {
			continue
		}
		if err := by0.send(appendMessage(nil, byte(kind), 1, 1, make([]byte, 16))); err != nil {
			t.Fatal(err)
		}
	}
	want := appendMessage(nil, typeReply, 0x1234, 0x5678, make([]byte, 16))
	if err := by0.send(want); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 100)
	n, from, err := at.receive(buf, time.Now().Add(limit))
	if err != nil || n != len(want) || buf[0] != typeReply || string(buf[4:n]) != string(want[4:]) || from != far {
		t.Errorf("received % x from %v, %v", buf[:n], from, err)
	}
}

func TestSocketReceive(t *testing.T) {
	ns := nstest.Open(t)
	err := ns.Do(func() error {
		c, err := openSocket(Config{Interface: "lo", Source: netip.IPv6Loopback(), To: netip.IPv6Loopback()}, anyID)
		if err != nil {
			return err
		}
		if _, _, err := c.receive(make([]byte, 10), time.Now()); !isTimeout(err) {
			t.Errorf("at the deadline: %v", err)
		}
		for range 2 {
			if err := c.close(); err != nil {
				t.Errorf("close: %v", err)
			}
		}
		if _, _, err := c.receive(make([]byte, 10), time.Now().Add(time.Hour)); err == nil || isTimeout(err) {
			t.Errorf("after close: %v", err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestSocketErrorsNameTheCause(t *testing.T) {
	ns := nstest.Open(t)
	tests := []struct {
		name, link, from string
		cause            error
		want             string
	}{
		{"no such interface", "six0", "::1", unix.ENODEV, "keepalive: open ICMPv6 socket on ::1: bind to interface six0: no such device"},
		{"nobody's address", "lo", "2001:db8::1", unix.EADDRNOTAVAIL, "keepalive: open ICMPv6 socket on 2001:db8::1: bind: cannot assign requested address: no interface of this host has that address"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p, err := New(Config{Interface: tt.link, Source: netip.MustParseAddr(tt.from), To: far})
			if err != nil {
				t.Fatal(err)
			}
			err = ns.Do(func() error { return p.Run(t.Context()) })
			if !errors.Is(err, tt.cause) || err.Error() != tt.want {
				t.Errorf("got  %v\nwant %s", err, tt.want)
			}
		})
	}
}

func TestSocketWithoutCapability(t *testing.T) {
	nstest.Need(t)
	p, err := New(Config{Interface: "lo", Source: netip.IPv6Loopback(), To: netip.IPv6Loopback()})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // for ever: the thread ends with its rights
		header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var none [2]unix.CapUserData
		if err := unix.Capset(&header, &none[0]); err != nil {
			done <- err
			return
		}
		done <- p.Run(t.Context())
	}()
	want := "keepalive: open ICMPv6 socket: socket: operation not permitted: this needs the capability CAP_NET_RAW (run as root, or the container with --cap-add NET_RAW)"
	if err := nstest.Within(t, limit, "run", done); err == nil || err.Error() != want || !errors.Is(err, unix.EPERM) {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}

// TestSocketBesideOthers: somebody else's echo replies, however many, do not keep
// ours out.
func TestSocketBesideOthers(t *testing.T) {
	a, b := twoLinks(t)
	var flood conn
	err := b.Do(func() (err error) {
		flood, err = openSocket(Config{Interface: "b0", Source: far, To: near}, anyID)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	defer flood.close()
	var stop atomic.Bool
	done := make(chan struct{})
	go func() {
		defer close(done)
		message := appendMessage(nil, typeReply, 1, 1, make([]byte, 1000))
		for !stop.Load() {
			_ = flood.send(message) // what is lost is no matter
		}
	}()
	defer func() { stop.Store(true); <-done }()
	p, _, _ := start(t, a, Config{Interface: "a0", Source: near, To: far, Interval: 5 * time.Millisecond})
	nstest.Eventually(t, limit, "answers", answered(p, 5))
}

func isTimeout(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }
