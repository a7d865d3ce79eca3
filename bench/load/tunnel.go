package load

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"sixin4/tsp"
)

// Tunnel is a client's end of a tunnel by protocol 41 (RFC 4213).
type Tunnel struct {
	Client         int
	outer, broker  netip.Addr
	Inner, Server6 netip.Addr

	Proofs   atomic.Int64 // echo requests of the broker, answered
	Received atomic.Int64 // echo replies to what was sent

	proven, answered     chan struct{} // closed with the first of each
	onProven, onAnswered sync.Once
}

// enter makes the tunnel of an offer, in place of the one that a client had.
func (c *Crowd) enter(client int, o *tsp.Tunnel) *Tunnel {
	t := &Tunnel{
		Client: client, outer: c.Addr(client), broker: c.cfg.Server.Addr(), Inner: o.Client6, Server6: o.Server6,
		proven: make(chan struct{}), answered: make(chan struct{}),
	}
	c.slots[client].tunnel.Store(t)
	return t
}

// Proven is closed when the broker was shown that the client is there.
func (t *Tunnel) Proven() <-chan struct{} { return t.proven }

// The headers of what goes through a tunnel.
const (
	outerLen = 20
	innerLen = 40
	icmpLen  = 8

	echoRequest = 128
	echoReply   = 129
	icmpv6      = 58
	protocol41  = 41
)

// receivePackets answers echo requests and counts replies, until the socket is closed.
func (c *Crowd) receivePackets() {
	var replies [][]byte
	for {
		replies = replies[:0]
		err := c.raw.receive(func(p []byte) {
			if r := c.take(p); r != nil {
				replies = append(replies, r)
			}
		})
		_ = c.raw.send(replies) // lost is lost
		if errors.Is(err, net.ErrClosed) {
			return
		}
	}
}

// take looks at a packet, and makes an answer of one that wants one.
func (c *Crowd) take(p []byte) []byte {
	if len(p) < outerLen+innerLen+icmpLen || p[0] != 0x45 || p[outerLen]>>4 != 6 || p[outerLen+6] != icmpv6 {
		return nil
	}
	s := c.at(binary.BigEndian.Uint32(p[16:]))
	if s == nil {
		return nil
	}
	t := s.tunnel.Load()
	inner := p[outerLen:]
	if t == nil || [16]byte(inner[24:40]) != t.Inner.As16() {
		return nil
	}
	switch inner[innerLen] {
	case echoRequest:
		t.Proofs.Add(1)
		t.onProven.Do(func() { close(t.proven) })
		return replied(p)
	case echoReply:
		t.Received.Add(1)
		t.onAnswered.Do(func() { close(t.answered) })
	}
	return nil
}

// replied turns an echo request into its reply (RFC 4443, Section 4.2). It is part of
// the packet.
func replied(p []byte) []byte {
	swap(p[12:16], p[16:20])
	inner := p[outerLen:]
	swap(inner[8:24], inner[24:40])
	inner[innerLen] = echoReply
	// RFC 1624: the checksum of one that is larger by one in its first byte.
	sum := uint32(^binary.BigEndian.Uint16(inner[innerLen+2:])) + (echoReply-echoRequest)<<8
	binary.BigEndian.PutUint16(inner[innerLen+2:], ^uint16(sum+sum>>16))
	return p
}

func swap(a, b []byte) {
	for i := range a {
		a[i], b[i] = b[i], a[i]
	}
}

// request is an echo request through a tunnel, of a length without the outer header.
func (t *Tunnel) request(to netip.Addr, length int, seq uint16) []byte {
	p := make([]byte, outerLen+length)
	p[0], p[8], p[9] = 0x45, 64, protocol41
	binary.BigEndian.PutUint16(p[2:], uint16(len(p)))
	p[6] = 0x40 // don't fragment
	src, dst := t.outer.As4(), t.broker.As4()
	copy(p[12:], src[:])
	copy(p[16:], dst[:])
	inner := p[outerLen:]
	inner[0], inner[6], inner[7] = 0x60, icmpv6, 64
	binary.BigEndian.PutUint16(inner[4:], uint16(length-innerLen))
	from6, to6 := t.Inner.As16(), to.As16()
	copy(inner[8:], from6[:])
	copy(inner[24:], to6[:])
	inner[innerLen] = echoRequest
	binary.BigEndian.PutUint16(inner[innerLen+6:], seq)
	binary.BigEndian.PutUint16(inner[innerLen+2:], checksum(inner))
	return p
}

// checksum is that of the ICMPv6 message in a packet (RFC 8200, Section 8.1).
func checksum(inner []byte) uint16 {
	sum := uint32(icmpv6) + uint32(len(inner)-innerLen)
	for b := inner[8:]; len(b) > 0; b = b[2:] {
		sum += uint32(b[0])<<8 | uint32(b[1])
	}
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	return ^uint16(sum)
}

// Await sends echo requests through a tunnel until one is answered.
func (c *Crowd) Await(ctx context.Context, t *Tunnel, to netip.Addr) error {
	every := time.NewTicker(askEvery)
	defer every.Stop()
	for seq := uint16(0); ; seq++ {
		_ = c.raw.send([][]byte{t.request(to, requestLen, seq)}) // lost is lost
		select {
		case <-t.answered:
			return nil
		case <-every.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

const (
	askEvery   = 5 * time.Millisecond
	requestLen = 64 // without the outer header, in bytes
)

// Traffic is echo requests through many tunnels.
type Traffic struct {
	To      netip.Addr    // whom to ask
	Tunnels []*Tunnel     // in turns
	Packets int           // to send in all
	Rate    float64       // of them per second
	Length  int           // of each in bytes, without the outer header: even, from 48; 0 means 64
	Settle  time.Duration // for the last answers to come; 0 means a second
}

// Carried is what came of it.
type Carried struct {
	Sent, Received int64
	Alive          int // tunnels that carried at least one answer
}

// Loss is the share of requests without an answer.
func (c Carried) Loss() float64 {
	if c.Sent == 0 {
		return 0
	}
	return 1 - float64(c.Received)/float64(c.Sent)
}

// Send sends the requests, evenly in time, and counts the answers.
func (c *Crowd) Send(ctx context.Context, t Traffic) (Carried, error) {
	if t.Length == 0 {
		t.Length = requestLen
	}
	if t.Settle == 0 {
		t.Settle = time.Second
	}
	before := make([]int64, len(t.Tunnels))
	for i, tunnel := range t.Tunnels {
		before[i] = tunnel.Received.Load()
	}
	sent, err := c.pace(ctx, t)
	if err == nil {
		err = pause(ctx, t.Settle)
	}
	r := Carried{Sent: sent}
	for i, tunnel := range t.Tunnels {
		if n := tunnel.Received.Load() - before[i]; n > 0 {
			r.Alive++
			r.Received += n
		}
	}
	return r, err
}

// pace sends what is due every millisecond.
func (c *Crowd) pace(ctx context.Context, t Traffic) (sent int64, err error) {
	packets := make([][]byte, min(len(t.Tunnels), t.Packets))
	for i := range packets {
		packets[i] = t.Tunnels[i].request(t.To, t.Length, 0)
	}
	start := time.Now()
	every := time.NewTicker(time.Millisecond)
	defer every.Stop()
	batch := make([][]byte, 0, batchSize)
	for sent < int64(t.Packets) && err == nil {
		due := min(int64(time.Since(start).Seconds()*t.Rate), int64(t.Packets))
		for sent < due && err == nil {
			batch = batch[:0]
			for range min(int(due-sent), cap(batch)) {
				batch = append(batch, packets[int(sent)%len(packets)])
				sent++
			}
			err = c.raw.send(batch)
		}
		select {
		case <-every.C:
		case <-ctx.Done():
			return sent, context.Cause(ctx)
		}
	}
	return sent, err
}
