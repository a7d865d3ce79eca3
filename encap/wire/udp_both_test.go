package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
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

// TestBoth: each packet goes its way, by the socket that has its source, with its own error.
func TestBoth(t *testing.T) {
	var log []string
	ways := make(map[string]*takes)
	for _, name := range []string{"raw", "udp", "port", "addr"} {
		ways[name] = &takes{name: name, log: &log}
	}
	w := Both(ways["raw"], UDPWay{netip.AddrPortFrom(outer1, 3653), ways["udp"]},
		UDPWay{netip.AddrPortFrom(outer1, 443), ways["port"]}, UDPWay{netip.AddrPortFrom(outer2, 3653), ways["addr"]})
	write := func(b *packet.Batch, n int, err error, want ...string) {
		t.Helper()
		log = nil
		if got, e := w.Write(b); got != n || e != err || !slices.Equal(log, want) {
			t.Errorf("%d by %q, %v, want %d by %q, %v", got, log, e, n, want, err)
		}
	}
	raw := packettest.Outer(outer1, outer2, 1, udp(10))
	over := func(size int) []byte { return overUDPFrom(outer1, 3653, size) }
	b := mixed(raw, raw, over(10), over(2000), over(11), raw, over(12))
	write(b, 6, errTooLong, "raw2", "udp3", "raw1", "udp1")
	if b.Packets[3].Err != errTooLong {
		t.Errorf("the long one: %v", b.Packets[3].Err)
	}
	other := overUDPFrom(outer1, 443, 10)
	write(mixed(over(10), other, other, overUDPFrom(outer2, 3653, 10), raw), 5, nil, "udp1", "port2", "addr1", "raw1")
	stray := mixed(overUDPFrom(outer2, 443, 10), over(10))
	write(stray, 1, errNoSocket, "udp1")
	if stray.Packets[0].Err != errNoSocket || stray.Packets[1].Err != nil {
		t.Errorf("from where no socket is: %v, then %v", stray.Packets[0].Err, stray.Packets[1].Err)
	}
	ways["raw"].closed = errClosed
	b.Packets[3].Err = nil
	write(b, 3, errClosed, "raw2", "udp3", "raw1", "udp1")
	for i, want := range []error{errClosed, errClosed, nil, errTooLong, nil, errClosed, nil} {
		if b.Packets[i].Err != want {
			t.Errorf("packet %d: %v, want %v", i, b.Packets[i].Err, want)
		}
	}
}

// overUDPFrom is a packet whose outer header says UDP, from an address and port.
func overUDPFrom(src netip.Addr, port uint16, size int) []byte {
	return packettest.Outer(src, outer2, 1, udp(size), func(b []byte) {
		b[9] = 17
		binary.BigEndian.PutUint16(b[20:], port)
	})
}

func mixed(list ...[]byte) *packet.Batch {
	b := new(packet.Batch)
	for _, p := range list {
		b.Packets = append(b.Packets, *newPacket(p))
	}
	return b
}

// TestBothAllocates: nothing, however many ways the packets of a batch go.
func TestBothAllocates(t *testing.T) {
	b := mixed(packettest.Outer(outer1, outer2, 1, udp(10)))
	var ways []UDPWay
	for port := range uint16(4) {
		ways = append(ways, UDPWay{netip.AddrPortFrom(outer1, port+1), all{}})
		b.Packets = append(b.Packets, mixed(overUDPFrom(outer1, port+1, 10)).Packets...)
	}
	w := Both(all{}, ways...)
	n := testing.AllocsPerRun(100, func() {
		if sent, err := w.Write(b); sent != b.Len() || err != nil {
			t.Error(sent, err)
		}
	})
	if n != 0 {
		t.Errorf("%v allocations a batch, want none", n)
	}
}

// all takes everything.
type all struct{}

func (all) Write(b *packet.Batch) (int, error) { return b.Len(), nil }
