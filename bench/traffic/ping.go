package traffic

import (
	"context"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"time"
)

// Ping is a series of echo requests, one at a time.
type Ping struct {
	Count    int           // 1 to 65535
	Interval time.Duration // from one answer to the next request
	Timeout  time.Duration // for each answer; 0 is one second
}

// PingResult is what came back.
type PingResult struct {
	Sent     int     `json:"sent"`
	Received int     `json:"received"`
	Median   float64 `json:"median_us"` // round trip in microseconds
	P99      float64 `json:"p99_us"`
}

// SendPing sends echo requests to an address of either family from a raw ICMP
// socket, which needs CAP_NET_RAW. That nothing came back at all is an error.
func SendPing(ctx context.Context, to netip.Addr, cfg Ping) (PingResult, error) {
	if cfg.Count < 1 || cfg.Count > math.MaxUint16 || cfg.Interval < 0 {
		return PingResult{}, fmt.Errorf("ping: %d requests every %v: need 1 to %d", cfg.Count, cfg.Interval, math.MaxUint16)
	}
	if cfg.Timeout <= 0 {
		cfg.Timeout = time.Second
	}
	times, err := sendPing(ctx, to, cfg)
	if err != nil {
		return PingResult{}, opErr(ctx, fmt.Sprintf("ping %v", to), err)
	}
	if len(times) == 0 {
		return PingResult{}, fmt.Errorf("ping %v: no answer to %d requests", to, cfg.Count)
	}
	slices.Sort(times)
	return PingResult{
		Sent: cfg.Count, Received: len(times),
		Median: percentile(times, 50), P99: percentile(times, 99),
	}, nil
}

// percentile is the nearest-rank percentile of sorted times, in microseconds.
func percentile(sorted []time.Duration, p int) float64 {
	rank := (len(sorted)*p + 99) / 100
	return float64(sorted[max(rank, 1)-1]) / float64(time.Microsecond)
}

// echo numbers of ICMP (RFC 792) and ICMPv6 (RFC 4443, Sections 4.1 and 4.2).
type echo struct {
	request, reply byte
	skip           func(packet []byte) int // header that the socket delivers in front
}

var (
	echo4 = echo{request: 8, reply: 0, skip: func(p []byte) int { return int(p[0]&15) * 4 }}
	echo6 = echo{request: 128, reply: 129, skip: func([]byte) int { return 0 }}
)

// pingSize is ping(8)'s usual ICMP message: 8 bytes of header and 56 of data.
const pingSize = 64

// message makes an echo request. The checksum is that of ICMP for IPv4 (RFC
// 1071); for ICMPv6 the kernel writes its own over it.
func (e echo) message(buf []byte, id, seq uint16) {
	clear(buf)
	buf[0] = e.request
	buf[4], buf[5] = byte(id>>8), byte(id)
	buf[6], buf[7] = byte(seq>>8), byte(seq)
	sum := checksum(buf)
	buf[2], buf[3] = byte(sum>>8), byte(sum)
}

// answers reports whether what a raw socket delivered answers that request.
func (e echo) answers(packet []byte, id, seq uint16) bool {
	if len(packet) < 1 || len(packet) < e.skip(packet)+8 {
		return false
	}
	m := packet[e.skip(packet):]
	return m[0] == e.reply && m[4] == byte(id>>8) && m[5] == byte(id) &&
		m[6] == byte(seq>>8) && m[7] == byte(seq)
}

func checksum(b []byte) uint16 {
	var sum uint32
	for i := 0; i < len(b)-1; i += 2 {
		sum += uint32(b[i])<<8 | uint32(b[i+1])
	}
	sum = sum>>16 + sum&0xffff
	return ^uint16(sum>>16 + sum)
}
