package wire

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"sixin4/encap/packet"
	"sixin4/encap/packettest"
)

// takes writes down what it is given, packet by packet, until it is closed.
type takes struct {
	name   string
	log    *[]string
	closed error
}

func (w *takes) Write(b *packet.Batch) (int, error) {
	*w.log = append(*w.log, fmt.Sprint(w.name, b.Len()))
	if w.closed != nil {
		return 0, w.closed
	}
	return b.Each(func(p *packet.Packet) error {
		if p.Len() > 1000 {
			return errTooLong
		}
		return nil
	})
}

var errTooLong, errClosed = errors.New("too long"), errors.New("closed")

// TestBoth: each packet goes its way, with its own error.
func TestBoth(t *testing.T) {
	raw := packettest.Outer(outer1, outer2, 1, udp(10))
	over := func(size int) []byte {
		b := packettest.Outer(outer1, outer2, 1, udp(size))
		b[9] = 17
		return b
	}
	var log []string
	rawWay, udpWay := &takes{name: "raw", log: &log}, &takes{name: "udp", log: &log}
	packets := make([]packet.Packet, 0, 8)
	for _, p := range [][]byte{raw, raw, over(10), over(2000), over(11), raw, over(12)} {
		packets = append(packets, *newPacket(p))
	}
	w := Both(rawWay, udpWay)
	if n, err := w.Write(&packet.Batch{Packets: packets}); n != 6 || err != errTooLong || packets[3].Err != errTooLong {
		t.Errorf("%d, %v", n, err)
	}
	if want := []string{"raw2", "udp3", "raw1", "udp1"}; !slices.Equal(log, want) {
		t.Errorf("%q, want %q", log, want)
	}
	rawWay.closed = errClosed
	packets[3].Err = nil
	if n, err := w.Write(&packet.Batch{Packets: packets}); n != 3 || err != errClosed {
		t.Errorf("one way closed: %d, %v", n, err)
	}
	for i, want := range []error{errClosed, errClosed, nil, errTooLong, nil, errClosed, nil} {
		if packets[i].Err != want {
			t.Errorf("packet %d: %v, want %v", i, packets[i].Err, want)
		}
	}
}
