package wire

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"sixin4/encap"
	"sixin4/encap/packet"
	"sixin4/encap/packettest"
	"sixin4/tun/nstest"
)

// TestSwitchLeaksNothing: links that were replaced leave no descriptor behind.
func TestSwitchLeaksNothing(t *testing.T) {
	for _, portable := range []bool{false, true} {
		t.Run(fmt.Sprintf("portable %t", portable), func(t *testing.T) {
			top := pair(t)
			s := NewSwitch()
			w := writerOf(t, s)
			before := 0
			for i := range 100 {
				set(t, s, listen(t, top.A, Config{Local: top.AddrA, Portable: portable, Direct: i%2 == 0}))
				err := top.A.Do(func() error { // the writer is made here
					_, err := w.Write(batchOf(packettest.Outer(outer1, outer2, 1, udp(1))))
					return err
				})
				if err != nil {
					t.Fatal(err)
				}
				if i == 1 {
					before = openFiles(t)
				}
			}
			if after := openFiles(t); after != before {
				t.Errorf("%d descriptors after 2 links, %d after 100", before, after)
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
			if after := openFiles(t); after >= before {
				t.Errorf("%d descriptors open before close, %d after", before, after)
			}
		})
	}
}

// echo sends everything that arrives at c back to where it came from, until c is
// closed.
func echo(t *testing.T, ns *nstest.NS, c *Conn) {
	w := newWriter(t, ns, c)
	var wg sync.WaitGroup
	wg.Go(func() {
		b := packet.NewBatch(BatchSize)
		for c.Reader().Read(b) == nil {
			for i := range b.Packets {
				outer := encap.IPv4(b.Packets[i].Head())
				src, dst := outer.Src4(), outer.Dst4()
				copy(outer[12:], dst[:])
				copy(outer[16:], src[:]) // the sum stays the same
			}
			_, _ = w.Write(b) // what is lost is missed at the other end
		}
	})
	t.Cleanup(func() { c.Close(); wg.Wait() })
}

// loops is what an engine does with a switch: one loop reads, one writes.
type loops struct {
	s     *Switch
	local atomic.Pointer[netip.Addr] // where packets are sent from
	seen  chan netip.Addr            // packets begin to come back to this address
}

// read notes which address is answered, until the switch is closed.
func (l *loops) read() error {
	b := packet.NewBatch(BatchSize)
	var last netip.Addr
	for {
		if err := l.s.Reader().Read(b); err != nil {
			return err
		}
		for i := range b.Packets {
			to := netip.AddrFrom4(encap.IPv4(b.Packets[i].Head()).Dst4())
			if to != last {
				last = to
				l.seen <- to
			}
		}
	}
}

// write keeps sending, whatever becomes of the single packets, until it is told
// that the switch is closed.
func (l *loops) write(w Writer) error {
	for id := uint16(1); ; id = max(id+1, 1) {
		_, err := w.Write(batchOf(packettest.Outer(*l.local.Load(), outer2, id, udp(9))))
		if errors.Is(err, os.ErrClosed) {
			return nil
		}
	}
}

// TestSwitchLocalAddressChanges: both loops of an engine go on while the address
// of the host changes below them, many times, with and without a gap.
func TestSwitchLocalAddressChanges(t *testing.T) {
	top := pair(t)
	// Else the second address goes with the first one.
	change(t, top.A.Sysctl("net/ipv4/conf/all/promote_secondaries", "1"))
	echo(t, top.B, listen(t, top.B, Config{Local: top.AddrB}))
	l := &loops{s: NewSwitch(), seen: make(chan netip.Addr, 100)}
	l.local.Store(&outer1)
	set(t, l.s, listen(t, top.A, Config{Local: outer1}))

	ends := make(chan error, 2)
	go func() { ends <- l.read() }()
	go func() {
		ends <- top.A.Do(func() error { // where the writers are made
			w, err := l.s.NewWriter()
			if err != nil {
				return err
			}
			return l.write(w)
		})
	}()
	if got := within(t, "answer", l.seen); got != outer1 {
		t.Fatalf("answer to %v", got)
	}
	for i := range 20 {
		old := *l.local.Load()
		next := netip.AddrFrom4([4]byte{192, 0, 2, byte(10 + i)})
		if i%2 == 0 { // the address goes before there is another
			set(t, l.s, nil)
			change(t, top.A.DelAddr(top.LinkA, old.String()+"/24"))
			change(t, top.A.AddAddr(top.LinkA, next.String()+"/24"))
			set(t, l.s, listen(t, top.A, Config{Local: next}))
		} else {
			change(t, top.A.AddAddr(top.LinkA, next.String()+"/24"))
			set(t, l.s, listen(t, top.A, Config{Local: next}))
		}
		l.local.Store(&next)
		if got := within(t, "answer", l.seen); got != next {
			t.Fatalf("change %d: answer to %v, want %v", i, got, next)
		}
		if i%2 == 1 {
			change(t, top.A.DelAddr(top.LinkA, old.String()+"/24"))
		}
	}
	if err := l.s.Close(); err != nil {
		t.Error(err)
	}
	for range 2 {
		if err := within(t, "end of a loop", ends); err != nil && !errors.Is(err, os.ErrClosed) {
			t.Errorf("a loop ended: %v", err)
		}
	}
}

func change(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestSwitchOfBadLink: an address that has gone gives no writer, which is the same
// to the packets as no link at all.
func TestSwitchOfBadLink(t *testing.T) {
	top := pair(t)
	s := NewSwitch()
	w := writerOf(t, s)
	set(t, s, listen(t, top.A, Config{Local: top.AddrA}))
	change(t, top.A.DelAddr(top.LinkA, "192.0.2.1/24"))
	err := top.A.Do(func() error {
		_, err := w.Write(batchOf(packettest.Outer(outer1, outer2, 1, udp(1))))
		return err
	})
	if !errors.Is(err, unix.ENETUNREACH) || !errors.Is(err, unix.EADDRNOTAVAIL) {
		t.Errorf("write: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}
