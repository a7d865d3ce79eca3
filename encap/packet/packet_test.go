package packet_test

import (
	"bytes"
	"errors"
	"testing"

	"sixin4/encap/packet"
)

// numbered returns n bytes that count from first.
func numbered(first, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(first + i)
	}
	return b
}

// split returns a packet of the bytes 0, 1, 2, ..., head of them in its head.
func split(head, payload int) *packet.Packet {
	p := new(packet.Packet)
	buf := append(make([]byte, packet.Headroom), numbered(0, head)...)
	if payload > 0 {
		p.Set(buf, packet.Headroom, numbered(head, payload))
	} else {
		p.Set(buf, packet.Headroom, nil)
	}
	return p
}

func equal(t *testing.T, p *packet.Packet, want []byte) {
	t.Helper()
	if got := p.AppendTo(nil); !bytes.Equal(got, want) || p.Len() != len(want) {
		t.Errorf("% x of length %d, want % x", got, p.Len(), want)
	}
}

func TestSetForgetsTheLastPacket(t *testing.T) {
	p := packet.Packet{Payload: []byte{1}, Seg: 1400, Sum: packet.SumPartial, Mark: 7, Err: errors.New("x")}
	p.Set(make([]byte, 50), 40, nil)
	if p.Seg != 0 || p.Sum != packet.SumFull || p.Mark != 0 || p.Err != nil || p.Payload != nil || len(p.Head()) != 10 {
		t.Errorf("%+v", p)
	}
}

func TestPushAndPull(t *testing.T) {
	p := split(10, 5)
	front := p.Push(20)
	if len(front) != 20 || p.Len() != 35 || p.Off != packet.Headroom-20 {
		t.Fatalf("pushed %d bytes, length %d, offset %d", len(front), p.Len(), p.Off)
	}
	copy(front, numbered(100, 20))
	equal(t, p, append(numbered(100, 20), numbered(0, 15)...))
	p.Pull(20)
	equal(t, p, numbered(0, 15))
	p.Pull(10)
	equal(t, p, numbered(10, 5))
	if len(p.Head()) != 0 {
		t.Errorf("% x is left in the head", p.Head())
	}
}

// TestPushTakesAllHeadroom: the promise to every writer, and the panic behind it.
func TestPushTakesAllHeadroom(t *testing.T) {
	p := split(10, 0)
	p.Push(packet.Headroom)
	if p.Off != 0 || p.Len() != 10+packet.Headroom {
		t.Errorf("offset %d, length %d", p.Off, p.Len())
	}
	defer func() {
		if recover() == nil {
			t.Error("one byte more was there")
		}
	}()
	p.Push(1)
}

func TestTrim(t *testing.T) {
	for n := range 16 {
		p := split(10, 5)
		p.Trim(n)
		equal(t, p, numbered(0, n))
		if n <= 10 && p.Payload != nil {
			t.Errorf("cut to %d bytes: a payload of %d", n, len(p.Payload))
		}
		p = split(15, 0)
		p.Trim(n)
		equal(t, p, numbered(0, n))
	}
}

// TestTrimLeavesTheBytes: a view is cut, not the array another packet may share.
func TestTrimLeavesTheBytes(t *testing.T) {
	p := split(10, 5)
	payload := p.Payload
	p.Trim(11)
	if !bytes.Equal(payload, numbered(10, 5)) {
		t.Errorf("% x", payload)
	}
}

func TestAppendTo(t *testing.T) {
	got := split(3, 2).AppendTo([]byte("before"))
	if want := append([]byte("before"), 0, 1, 2, 3, 4); !bytes.Equal(got, want) {
		t.Errorf("% x", got)
	}
}

func TestBatch(t *testing.T) {
	b := packet.NewBatch(3)
	if b.Len() != 0 || b.Full() {
		t.Errorf("new: %d packets, full %v", b.Len(), b.Full())
	}
	for i := range 3 {
		p := b.Next()
		if p == nil || b.Len() != i+1 || b.Full() != (i == 2) || p != &b.Packets[i] {
			t.Fatalf("packet %d: %p, length %d, full %v", i, p, b.Len(), b.Full())
		}
		p.Set(numbered(i, 5), 0, nil)
	}
	if b.Next() != nil || b.Len() != 3 {
		t.Errorf("a fourth packet; length %d", b.Len())
	}
	equal(t, &b.Packets[1], numbered(1, 5))
	b.Reset()
	if b.Len() != 0 || b.Full() || b.Next() != &b.Packets[:1][0] {
		t.Errorf("after Reset: %d packets", b.Len())
	}
	if empty := packet.NewBatch(0); !empty.Full() || empty.Next() != nil {
		t.Error("a batch of none has room")
	}
}

func TestBatchEach(t *testing.T) {
	b := packet.NewBatch(3)
	for range 3 {
		b.Next().Set(make([]byte, 60), packet.Headroom, nil)
	}
	first, second := errors.New("first"), errors.New("second")
	errs := []error{nil, first, second}
	i := -1
	n, err := b.Each(func(*packet.Packet) error { i++; return errs[i] })
	if n != 1 || err != first {
		t.Errorf("wrote %d, %v; want 1 and the first error", n, err)
	}
	for i := range errs {
		if b.Packets[i].Err != errs[i] {
			t.Errorf("packet %d: %v, want %v", i, b.Packets[i].Err, errs[i])
		}
	}
}

func TestBatchFail(t *testing.T) {
	b := packet.NewBatch(2)
	for range 2 {
		b.Next().Set(make([]byte, 60), packet.Headroom, nil)
	}
	own, all := errors.New("own"), errors.New("all")
	b.Packets[0].Err = own
	b.Fail(all)
	if b.Packets[0].Err != own || b.Packets[1].Err != all {
		t.Errorf("errors %v and %v, want the packet's own and the one for all", b.Packets[0].Err, b.Packets[1].Err)
	}
}
