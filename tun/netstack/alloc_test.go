//go:build !race

package netstack

import (
	"testing"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"sixin4/encap/packet"
)

// The race detector allocates on its own, so that this file is left out there.

// TestReadAllocations: what the link adds to the stack's own memory is nothing.
func TestReadAllocations(t *testing.T) {
	l := newLink(Config{Queue: DefaultQueue})
	p := stack.NewPacketBuffer(stack.PacketBufferOptions{
		ReserveHeaderBytes: packet.Headroom + 60,
		Payload:            buffer.MakeWithData(pattern(60_000)),
	})
	tcp := header.TCP(p.TransportHeader().Push(20))
	tcp.Encode(&header.TCPFields{DataOffset: 20, Flags: header.TCPFlagAck})
	ip := header.IPv6(p.NetworkHeader().Push(40))
	ip.Encode(&header.IPv6Fields{TransportProtocol: protoTCP, PayloadLength: 60_020})
	p.GSOOptions = stack.GSO{Type: stack.GSOTCPv6, NeedsCsum: true, MSS: 1400}

	var list stack.PacketBufferList
	list.PushBack(p)
	r, b := &Reader{l: l}, packet.NewBatch(128)
	read := func() {
		_, _ = l.WritePackets(list)
		if err := r.Read(b); err != nil || b.Len() != 43 {
			t.Fatalf("%d packets, %v", b.Len(), err)
		}
	}
	read()
	read() // both queues have their memory now
	if n := testing.AllocsPerRun(100, read); n != 0 {
		t.Errorf("%v allocations", n)
	}
	if p := &b.Packets[42]; p.Len() != 60+60_000-42*1400 {
		t.Errorf("the last packet has %d bytes", p.Len())
	}
}
