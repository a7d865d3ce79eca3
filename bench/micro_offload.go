package bench

import (
	"context"
	"encoding/binary"
	"fmt"
	"time"

	"sixin4/encap"
	"sixin4/encap/packet"
	"sixin4/tun"
)

const (
	tcpHeaders = 40 + 20 // bytes of the IPv6 and the TCP header
	microSeg   = microSize - tcpHeaders
	// superSegments packets of microSize are what one read of the TUN brings, and
	// microBatch/superSegments flows fill a batch.
	superSegments = 32
)

// microSegment is segment i of a flow, with headroom in front; the sum of its
// pseudo-header stands where the checksum belongs.
func microSegment(flow, i, payload int) packet.Packet {
	buf := microPacket(microSource, microInner(1))[:packet.Headroom+tcpHeaders]
	buf = append(buf, make([]byte, payload)...)
	b := buf[packet.Headroom:]
	binary.BigEndian.PutUint16(b[4:], uint16(len(b)-40))
	binary.BigEndian.PutUint16(b[40:], uint16(1024+flow))
	binary.BigEndian.PutUint32(b[44:], uint32(i*payload))
	b[53] = 0x10 // ACK
	var p packet.Packet
	p.Set(buf, packet.Headroom, nil)
	sum := packet.Fold(packet.PseudoHeader(b[8:40], 6, len(b)-40))
	binary.BigEndian.PutUint16(b[56:], sum)
	p.Sum = packet.SumPartial
	return p
}

// splitStep cuts one super-packet again and again.
func splitStep(_ context.Context, n int) (time.Duration, error) {
	super := microSegment(0, 0, superSegments*microSeg)
	b := packet.NewBatch(microBatch)
	var s tun.Splitter
	start := time.Now()
	for done := 0; done < n; done += superSegments {
		if !s.Split(b, super.Head(), microSeg) || b.Len() != superSegments {
			return 0, fmt.Errorf("super-packet was cut into %d packets, want %d", b.Len(), superSegments)
		}
	}
	return time.Since(start), nil
}

// joinStep joins a batch of a few flows, one after the other, again and again.
func joinStep(_ context.Context, n int) (time.Duration, error) {
	const flows = microBatch / superSegments
	b := packet.NewBatch(microBatch)
	for flow := range flows {
		for i := range superSegments {
			p := microSegment(flow, i, microSeg)
			encap.CompleteSum(&p)
			*b.Next() = p
		}
	}
	var j tun.Joiner
	start := time.Now()
	for done := 0; done < n; done += microBatch {
		if got := j.Join(b); got != flows {
			return 0, fmt.Errorf("batch became %d packets, want %d", got, flows)
		}
	}
	return time.Since(start), nil
}
