package traffic

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"
)

// MinUDPSize is the smallest payload of a UDP run in bytes: a sequence number.
const MinUDPSize = 8

// UDP is a run of equal datagrams at a steady rate.
type UDP struct {
	Rate     float64       // packets per second, greater than 0
	Size     int           // bytes of payload, from MinUDPSize
	Duration time.Duration // greater than 0
}

func (c UDP) check() error {
	if c.Rate <= 0 || c.Duration <= 0 || c.Size < MinUDPSize || c.Size > 65507 {
		return fmt.Errorf("udp: %v packets of %d bytes per second for %v: need a rate, a duration and %d to 65507 bytes",
			c.Rate, c.Size, c.Duration, MinUDPSize)
	}
	return nil
}

// Packets is how many packets the run sends.
func (c UDP) Packets() int { return max(1, int(c.Rate*c.Duration.Seconds())) }

// UDPSent is what the source did.
type UDPSent struct {
	Packets int     `json:"packets"` // handed to the kernel, or refused by it
	Seconds float64 `json:"seconds"` // from the first packet to after the last
}

// UDPReceived is what the sink counted.
type UDPReceived struct {
	Packets   int `json:"packets"`
	Reordered int `json:"reordered"`  // came after a packet that was sent later
	SinkDrops int `json:"sink_drops"` // lost because the sink's own socket was full
}

// UDPResult is both ends of one run.
type UDPResult struct {
	Sent     UDPSent
	Received UDPReceived
}

// Loss is the share of the packets sent that did not come, 0 to 1.
func (r UDPResult) Loss() float64 {
	if r.Sent.Packets == 0 {
		return 0
	}
	return max(0, 1-float64(r.Received.Packets)/float64(r.Sent.Packets))
}

// Offered is the rate that the source really reached, in packets per second.
func (r UDPResult) Offered() float64 { return float64(r.Sent.Packets) / r.Sent.Seconds }

// ListenUDP opens a socket for SinkUDP.
func ListenUDP(addr netip.AddrPort) (*net.UDPConn, error) {
	return net.ListenUDP("udp", net.UDPAddrFromAddrPort(addr))
}

// SinkUDP counts what comes in, until stop is closed and the network has been
// quiet for a tenth of a second. It takes the socket over and closes it.
func SinkUDP(ctx context.Context, conn *net.UDPConn, stop <-chan struct{}) (UDPReceived, error) {
	received, err := sinkUDP(ctx, conn, stop)
	return received, opErr(ctx, "udp sink", errors.Join(err, conn.Close()))
}

// SourceUDP sends one run. A packet that the kernel refuses counts as sent: it
// is lost.
func SourceUDP(ctx context.Context, to netip.AddrPort, cfg UDP) (UDPSent, error) {
	if err := cfg.check(); err != nil {
		return UDPSent{}, err
	}
	conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(to))
	if err != nil {
		return UDPSent{}, opErr(ctx, "udp source", err)
	}
	sent, err := sourceUDP(ctx, conn, cfg)
	return sent, opErr(ctx, "udp source", errors.Join(err, conn.Close()))
}

// The source sends in small bursts, as a timer cannot be met for each packet.
const (
	burstTime = 50 * time.Microsecond
	burstMax  = 32
)

// burst is how many packets are sent in one call.
func (c UDP) burst() int {
	return min(max(1, int(c.Rate*burstTime.Seconds())), burstMax)
}

// sequence is what one sink knows of one run.
type sequence struct {
	next uint64 // one more than the highest number seen
	UDPReceived
}

func (s *sequence) add(number uint64) {
	s.Packets++
	if number < s.next {
		s.Reordered++
		return
	}
	s.next = number + 1
}
