package keepalive

import (
	"context"
	"errors"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sixin4/encap"
	"sixin4/encap/pathmtu"
	"sixin4/tun/nstest"
)

// TestPaddedInNamespaces: on a real link each size comes back as it was sent, and what the
// interface does not take is refused instead of fragmented.
func TestPaddedInNamespaces(t *testing.T) {
	a, _ := twoLinks(t)
	answered := make(chan encap.TunMTU, 16)
	p, err := NewPadded(PaddedConfig{Interface: "a0", Source: near, To: far, Answered: func(size encap.TunMTU) { answered <- size }})
	if err != nil {
		t.Fatal(err)
	}
	runPadded(t, a, p)
	for _, size := range []encap.TunMTU{MinPadded, 1280, 1281, 1480, 1500} {
		sendPadded(t, p, size)
		if got := nstest.Within(t, limit, "answer", answered); got != size {
			t.Errorf("%d bytes: an answer to %d", size, got)
		}
	}
	if err := p.Send(1501); !errors.Is(err, unix.EMSGSIZE) {
		t.Errorf("1501 bytes on a link of 1500: %v", err)
	}
}

// sendPadded sends as soon as there is a socket.
func sendPadded(t *testing.T, p *Padded, size encap.TunMTU) {
	t.Helper()
	nstest.Eventually(t, limit, "send", func() bool { return p.Send(size) == nil })
}

func runPadded(t *testing.T, ns *nstest.NS, p *Padded) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- ns.Do(func() error { return p.Run(ctx) }) }()
	t.Cleanup(func() {
		cancel()
		if err := nstest.Within(t, limit, "end", done); err != nil {
			t.Error(err)
		}
	})
}

// TestProberInNamespaces: prober and sender together, on a link whose far side takes less
// than the near one and says nothing about it.
func TestProberInNamespaces(t *testing.T) {
	a, b := twoLinks(t)
	// A link lets 4 bytes more in than its MTU, for a VLAN tag.
	if err := b.SetMTU("b0", 1396); err != nil {
		t.Fatal(err)
	}
	var prober *pathmtu.Prober
	p, err := NewPadded(PaddedConfig{Interface: "a0", Source: near, To: far, Answered: func(size encap.TunMTU) { prober.Answered(size) }})
	if err != nil {
		t.Fatal(err)
	}
	found := make(chan encap.TunMTU, 100)
	prober, err = pathmtu.New(pathmtu.Config{
		Sender: p, Ceiling: func() encap.TunMTU { return 1500 }, Found: func(mtu encap.TunMTU) { found <- mtu },
		ProbeTimeout: 50 * time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	runPadded(t, a, p)
	sendPadded(t, p, 1280)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- prober.Run(ctx) }()
	nstest.Eventually(t, limit, "search", func() bool { return prober.Status().Phase == pathmtu.Complete })
	cancel()
	if err := nstest.Within(t, limit, "end", done); err != nil {
		t.Error(err)
	}
	if got := prober.Status().MTU; got != 1400 {
		t.Errorf("found %d, want 1400", got)
	}
}
