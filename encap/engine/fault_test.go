package engine

import (
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"sixin4/encap"
	"sixin4/encap/packet"
	"sixin4/encap/packettest"
)

var (
	errOther   = errors.New("something else")
	errWrapped = fmt.Errorf("sendmmsg: %w", syscall.ENOBUFS)
	errNet     = &net.OpError{Op: "write", Net: "ip4:41", Err: os.NewSyscallError("sendto", syscall.EPERM)}
)

var wireFaults = []struct {
	err  error
	drop encap.Drop
}{
	{syscall.ENOBUFS, encap.DropSendNoBufs}, {syscall.ENOMEM, encap.DropSendNoBufs}, {errWrapped, encap.DropSendNoBufs},
	{syscall.EMSGSIZE, encap.DropSendMsgSize},
	{syscall.EPERM, encap.DropSendPerm}, {syscall.EACCES, encap.DropSendPerm}, {errNet, encap.DropSendPerm},
	{syscall.ENETUNREACH, encap.DropSendUnreachable}, {syscall.EHOSTUNREACH, encap.DropSendUnreachable},
	{syscall.ENETDOWN, encap.DropSendUnreachable}, {syscall.EHOSTDOWN, encap.DropSendUnreachable}, {syscall.EADDRNOTAVAIL, encap.DropSendUnreachable},
	{syscall.EIO, encap.DropSendError}, {syscall.EINVAL, encap.DropSendError}, {errOther, encap.DropSendError},
}

var tunFaults = []struct {
	err  error
	drop encap.Drop
}{
	{syscall.EIO, encap.DropTunDown}, {&os.PathError{Op: "write", Path: "tun", Err: syscall.EIO}, encap.DropTunDown},
	{syscall.EINVAL, encap.DropTunError}, {syscall.ENOBUFS, encap.DropTunError}, {syscall.EPERM, encap.DropTunError},
	{syscall.EMSGSIZE, encap.DropTunError}, {packet.ErrMalformed, encap.DropTunError}, {errOther, encap.DropTunError},
}

// fault is one way for an error to reach the engine, both ways alike.
type fault struct {
	*rig
	target *packettest.Queue                     // whose writes fail
	header int                                   // bytes in front of the inner packet there
	send   func(packets ...[]byte) [][]byte      // and what comes out
	wrap   func(i int) []byte                    // packet number i as it is sent
	count  func() (passed Count, dropped uint64) // as the engine counted
	failed func(i int) error                     // the error of packet number i
}

func newFault(t *testing.T, wire bool) *fault {
	f := &fault{rig: newRig(t, Config{}, hostTable())}
	f.failed = func(int) error { return nil }
	lane := f.lanes[0]
	if wire {
		lane, f.target, f.header, f.send = f.lanes[1], f.toWire, 20, f.out
		f.wrap = func(i int) []byte { return udp(host6, other6, i, 100) }
	} else {
		f.target, f.send = f.toTUN, f.in
		f.wrap = func(i int) []byte { return wrapped(peer4, udp(other6, host6, i, 100)) }
	}
	f.count = func() (Count, uint64) { return lane.total.load(), dropped(lane) }
	f.target.Fail = func(b []byte) error { return f.failed(numberOf(b[f.header:])) }
	f.start(t)
	return f
}

// batch sends packets 0 to 9, those in bad with an error, and checks that exactly
// the others arrived, in order.
func (f *fault) batch(t *testing.T, err error, bad ...int) {
	t.Helper()
	f.failed = func(i int) error {
		if slices.Contains(bad, i) {
			return err
		}
		return nil
	}
	var packets [][]byte
	var want, got []int
	for i := range 10 {
		packets = append(packets, f.wrap(i))
		if !slices.Contains(bad, i) {
			want = append(want, i)
		}
	}
	for _, b := range f.send(packets...) {
		got = append(got, numberOf(b[f.header:]))
	}
	if !slices.Equal(got, want) {
		t.Errorf("with %v for %d: %d arrived", err, bad, got)
	}
}

// TestOnePacketFails: each error for chosen packets of a batch is counted under its
// reason, neighbours arrive, it is logged once when it begins and once when it is
// over, and the engine carries on.
func TestOnePacketFails(t *testing.T) {
	run := func(name string, wire bool, err error, d encap.Drop) {
		bubble(t, fmt.Sprintf("%s/%v", name, err), func(t *testing.T) {
			f := newFault(t, wire)
			f.batch(t, nil)
			f.batch(t, err, 0, 4, 9)
			f.batch(t, err, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9)
			f.batch(t, nil)
			f.batch(t, err, 5)
			wantDrops(t, f.Engine, map[encap.Drop]uint64{d: 14})
			if c, n := f.count(); c != (Count{36, 3600}) || n != 14 {
				t.Errorf("%+v passed, %d dropped", c, n)
			}
			bad, good := "WARN packets are being lost: "+d.String(), "INFO packets pass again: "+d.String()
			f.wantLog(t, bad)
			<-time.After(10*time.Second + time.Millisecond)
			f.batch(t, nil)
			f.batch(t, nil)
			f.wantLog(t, good)
			f.batch(t, err, 3)
			f.wantLog(t, bad)
		})
	}
	for _, c := range wireFaults {
		run("queue full, device gone: wire", true, c.err, c.drop)
	}
	for _, c := range tunFaults {
		run("queue full, device gone: TUN", false, c.err, c.drop)
	}
}

func (f *fault) wantLog(t *testing.T, want ...string) {
	t.Helper()
	if got := f.log.take(); !slices.Equal(got, want) {
		t.Errorf("logged %q, want %q", got, want)
	}
}

// TestFailuresThatComeAndGo within ten seconds are one state, however long that
// lasts; two reasons are two states.
func TestFailuresThatComeAndGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFault(t, true)
		const lost, again = "WARN packets are being lost: ", "INFO packets pass again: "
		f.batch(t, syscall.ENOBUFS, 1)
		f.wantLog(t, lost+"send-nobufs")
		for range 20 {
			<-time.After(9 * time.Second)
			f.batch(t, nil)
			f.batch(t, syscall.ENOBUFS, 7)
		}
		f.wantLog(t)
		f.batch(t, syscall.EPERM, 2)
		f.wantLog(t, lost+"send-eperm")
		<-time.After(6 * time.Second)
		f.batch(t, syscall.EPERM, 2)
		<-time.After(6 * time.Second)
		f.batch(t, nil)
		f.wantLog(t, again+"send-nobufs")
		<-time.After(6 * time.Second)
		f.batch(t, nil)
		f.wantLog(t, again+"send-eperm")
		wantDrops(t, f.Engine, map[encap.Drop]uint64{encap.DropSendNoBufs: 21, encap.DropSendPerm: 2})
	})
}

// TestTwoReasonsInOneBatch are counted and logged apart.
func TestTwoReasonsInOneBatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFault(t, true)
		f.failed = func(i int) error { return []error{nil, syscall.EMSGSIZE, syscall.EHOSTUNREACH}[i%3] }
		var packets [][]byte
		for i := range 9 {
			packets = append(packets, f.wrap(i))
		}
		if got := f.send(packets...); len(got) != 3 {
			t.Errorf("%d arrived", len(got))
		}
		wantDrops(t, f.Engine, map[encap.Drop]uint64{encap.DropSendMsgSize: 3, encap.DropSendUnreachable: 3})
		f.wantLog(t, "WARN packets are being lost: send-emsgsize", "WARN packets are being lost: send-unreachable")
	})
}

// TestAnswerFails: an ICMPv6 error that cannot be delivered is not counted as
// sent, and harms nothing else.
func TestAnswerFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Config{}, hubTable(1))
		bad := true
		r.toTUN.Fail = func([]byte) error {
			if bad {
				return syscall.EIO
			}
			return nil
		}
		r.start(t)
		for range 3 {
			if sent := r.out(echo(host6, other6), udp(host6, h0, 1, 100), echo(host6, other6)); len(sent) != 1 {
				t.Errorf("%d sent", len(sent))
			}
		}
		if n := r.Stats().ICMPErrors; n != 0 {
			t.Errorf("%d errors counted", n)
		}
		bad = false
		r.out(echo(host6, other6))
		equalPackets(t, "answer", drain(r.toTUN), unreachable(echo(host6, other6)))
		wantDrops(t, r.Engine, map[encap.Drop]uint64{encap.DropNoPeer: 7})
		if s := r.Stats(); s.ICMPErrors != 1 || s.Tx.Packets != 3 {
			t.Errorf("%+v", s)
		}
	})
}

// mute is a writer that fails as a whole and marks no packet.
type mute struct{ err error }

func (m mute) Write(*packet.Batch) (int, error) { return 0, m.err }

// TestWriterThatMarksNothing: what a closed writer did not take is not counted as
// sent, and that it is closed is not logged as a loss.
func TestWriterThatMarksNothing(t *testing.T) {
	for _, c := range []struct {
		err  error
		logs int
	}{{os.ErrClosed, 0}, {syscall.ENETDOWN, 2}} {
		bubble(t, c.err.Error(), func(t *testing.T) {
			r := newRig(t, Config{}, hostTable())
			r.lanes[0].Out, r.lanes[1].Out = mute{c.err}, mute{c.err}
			r.start(t)
			r.out(echo(host6, other6), echo(host6, other6))
			r.in(wrapped(peer4, echo(other6, host6)))
			s := r.Stats()
			if s.Tx != (Count{}) || s.Rx != (Count{}) || dropped(r.lanes[0]) != 1 || dropped(r.lanes[1]) != 2 || !s.Peers[0].LastHeard.IsZero() {
				t.Errorf("%+v", s)
			}
			if lines := r.log.take(); len(lines) != c.logs {
				t.Errorf("logged %q", lines)
			}
		})
	}
}
