package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sixin4/cmd/internal/control"
	"sixin4/encap"
	"sixin4/tun/nstest"
)

// stream is a TCP connection from one namespace to another that carries numbers, each one
// more than the last, until it is told to end.
type stream struct {
	t    *testing.T
	conn *net.TCPConn // of the sender
	got  atomic.Int64 // bytes that arrived as they were sent
	quit chan struct{}
	ends chan error // of sender and receiver
}

// pace is how much is sent at once, and how often: the machine has other things to do.
const (
	piece = 64 << 10
	pause = 5 * time.Millisecond
)

// newStream connects from a to an address in b.
func newStream(t *testing.T, a, b *nstest.NS, to string) *stream {
	t.Helper()
	s := &stream{t: t, quit: make(chan struct{}), ends: make(chan error, 2)}
	at := net.JoinHostPort(to, "7007")
	var l net.Listener
	must(t, b.Do(func() (err error) { l, err = net.Listen("tcp6", at); return err }))
	t.Cleanup(func() { l.Close() })
	go func() { s.ends <- s.receive(l) }()
	must(t, a.Do(func() error {
		c, err := (&net.Dialer{Timeout: patience}).Dial("tcp6", at)
		if err == nil {
			s.conn = c.(*net.TCPConn)
		}
		return err
	}))
	t.Cleanup(func() { s.conn.Close() })
	go func() { s.ends <- s.send() }()
	return s
}

func (s *stream) send() error {
	tick := time.NewTicker(pause)
	defer tick.Stop()
	var n uint64
	buf := make([]byte, 0, piece)
	for {
		select {
		case <-s.quit:
			return s.conn.CloseWrite()
		case <-tick.C:
		}
		for buf = buf[:0]; len(buf) < piece; n++ {
			buf = binary.BigEndian.AppendUint64(buf, n)
		}
		if _, err := s.conn.Write(buf); err != nil {
			return err
		}
	}
}

func (s *stream) receive(l net.Listener) error {
	c, err := l.Accept()
	if err != nil {
		return err
	}
	defer c.Close()
	buf := make([]byte, piece)
	for want := uint64(0); ; {
		if _, err := io.ReadFull(c, buf); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		for b := buf; len(b) > 0; b, want = b[8:], want+1 {
			if got := binary.BigEndian.Uint64(b); got != want {
				return fmt.Errorf("got %d, want %d", got, want)
			}
		}
		s.got.Add(int64(len(buf)))
	}
}

// goesOn waits until more has arrived.
func (s *stream) goesOn() {
	s.t.Helper()
	for range 3 { // what was under way before counts for nothing
		before := s.got.Load()
		nstest.Eventually(s.t, patience, "the transfer goes on", func() bool { return s.got.Load() > before })
	}
}

// stalls waits until TCP has sent something again in vain.
func (s *stream) stalls() {
	s.t.Helper()
	s.backsOff(2)
}

// backsOff waits until TCP has sent something again n times in vain: it waits 200 ms at
// least before the first, and twice as long before each that follows.
func (s *stream) backsOff(n uint8) {
	s.t.Helper()
	raw, err := s.conn.SyscallConn()
	must(s.t, err)
	nstest.Eventually(s.t, patience, "the transfer stalls", func() bool {
		var info *unix.TCPInfo
		err := raw.Control(func(fd uintptr) {
			info, _ = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
		})
		return err == nil && info != nil && info.Backoff >= n
	})
}

// end ends the transfer, all of which must have arrived.
func (s *stream) end() {
	s.t.Helper()
	close(s.quit)
	for range 2 {
		if err := nstest.Within(s.t, patience, "the end of the transfer", s.ends); err != nil {
			s.t.Errorf("the transfer: %v", err)
		}
	}
}

// addsUp checks that nothing was lost without being counted, between the kernel's counters
// of the tunnel's interface in ns and those of the status: packets in are packets out and
// drops. It waits until nothing is under way.
func addsUp(t *testing.T, ns *nstest.NS, link, socket string) {
	t.Helper()
	var why string
	for deadline := time.Now().Add(patience); ; {
		s := ask(t, socket)
		k, err := ns.LinkStats(link)
		must(t, err)
		if why = missing(s, k); why == "" {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: %s", link, why)
		}
	}
}

func missing(s control.Tunnel, k nstest.Stats) string {
	refused := uint64(0)
	for d := range encap.Drops() {
		if d >= encap.DropTunMalformed && d < encap.DropTunDown {
			refused += s.Drops[d.String()]
		}
	}
	w := s.Work
	if in, out := k.TxPackets-w.Split+w.SplitInto, s.Tx.Packets+refused; in != out {
		return fmt.Sprintf("out of the host came %d (%d, of which %d became %d), sent or dropped were %d (%d and %v)",
			in, k.TxPackets, w.Split, w.SplitInto, out, s.Tx.Packets, s.Drops)
	}
	if in, out := s.Rx.Packets-w.Joined+w.JoinedInto+w.ICMPErrors, k.RxPackets; in != out {
		return fmt.Sprintf("from the far end and from us came %d (%d, of which %d became %d, and %d errors), the host got %d",
			in, s.Rx.Packets, w.Joined, w.JoinedInto, w.ICMPErrors, out)
	}
	return ""
}

// freeze stops a process until the returned function is called.
func (p *process) freeze() (thaw func()) {
	p.t.Helper()
	p.signal(syscall.SIGSTOP)
	return func() {
		p.t.Helper()
		p.signal(syscall.SIGCONT)
	}
}
