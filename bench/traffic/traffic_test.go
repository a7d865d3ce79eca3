package traffic

import (
	"context"
	"errors"
	"io/fs"
	"net/netip"
	"slices"
	"testing"
	"time"

	"sixin4/bench/child"
)

var (
	loopback4 = netip.MustParseAddr("127.0.0.1")
	loopback6 = netip.MustParseAddr("::1")
)

func TestRunnerTCP(t *testing.T) {
	cfg := TCP{Streams: 3, Warmup: 10 * time.Millisecond, Duration: 100 * time.Millisecond}
	got, err := testRunner(t).TCP(t.Context(), child.Here{}, child.Here{}, loopback4, cfg)
	if err != nil {
		t.Fatal(err)
	}
	if got.Bytes <= 0 || got.Total < got.Bytes || got.Seconds < cfg.Duration.Seconds() {
		t.Errorf("got %+v, want bytes, as many or more in all, in %v or longer", got, cfg.Duration)
	}
}

func TestRunnerUDP(t *testing.T) {
	cfg := UDP{Rate: 2000, Size: 64, Duration: 100 * time.Millisecond}
	got, err := testRunner(t).UDP(t.Context(), child.Here{}, child.Here{}, loopback4, cfg)
	if err != nil {
		t.Fatal(err)
	}
	if got.Sent.Packets < 1 || got.Sent.Packets > cfg.Packets() || got.Received.Packets != got.Sent.Packets {
		t.Errorf("sent %d of %d, received %d: loopback loses none", got.Sent.Packets, cfg.Packets(), got.Received.Packets)
	}
	if got.Received.Reordered != 0 || got.Received.SinkDrops != 0 || got.Loss() != 0 {
		t.Errorf("got %+v, want no loss and no reordering", got.Received)
	}
}

func TestRunnerPing(t *testing.T) {
	for _, to := range []netip.Addr{loopback4, loopback6} {
		t.Run(to.String(), func(t *testing.T) {
			got, err := SendPing(t.Context(), to, Ping{Count: 1})
			if errors.Is(err, fs.ErrPermission) {
				t.Skip("needs CAP_NET_RAW")
			}
			if err != nil {
				t.Fatal(err)
			}
			got, err = testRunner(t).Ping(t.Context(), child.Here{}, to, Ping{Count: 5})
			if err != nil {
				t.Fatal(err)
			}
			if got.Sent != 5 || got.Received != 5 || got.Median <= 0 || got.P99 < got.Median {
				t.Errorf("got %+v, want five answers", got)
			}
		})
	}
}

func TestRunnerSaysWhy(t *testing.T) {
	cfg := TCP{Streams: 1, Duration: time.Second}
	far := netip.MustParseAddr("203.0.113.1") // not an address of this host
	_, err := testRunner(t).TCP(t.Context(), child.Here{}, child.Here{}, far, cfg)
	if err == nil || !slices.ContainsFunc([]string{"cannot assign", "assign requested"}, func(s string) bool {
		return contains(err, s)
	}) {
		t.Errorf("error %v, want what the child said", err)
	}
}

func TestSinkEndsWithContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	listener, err := ListenTCP(netip.AddrPortFrom(loopback4, 0))
	if err != nil {
		t.Fatal(err)
	}
	_, err = SinkTCP(ctx, listener, TCP{Streams: 1, Duration: time.Hour})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("tcp sink: %v, want %v", err, context.Canceled)
	}
	conn, err := ListenUDP(netip.AddrPortFrom(loopback4, 0))
	if err != nil {
		t.Fatal(err)
	}
	_, err = SinkUDP(ctx, conn, nil)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("udp sink: %v, want %v", err, context.Canceled)
	}
}

func TestSequence(t *testing.T) {
	for _, test := range []struct {
		name              string
		numbers           []uint64
		packets, reorders int
	}{
		{"in order", []uint64{0, 1, 2}, 3, 0},
		{"with a gap", []uint64{0, 5, 6}, 3, 0},
		{"one late", []uint64{0, 2, 1, 3}, 4, 1},
		{"all late", []uint64{3, 2, 1, 0}, 4, 3},
	} {
		t.Run(test.name, func(t *testing.T) {
			var s sequence
			for _, n := range test.numbers {
				s.add(n)
			}
			if s.Packets != test.packets || s.Reordered != test.reorders {
				t.Errorf("got %+v, want %d packets, %d reordered", s.UDPReceived, test.packets, test.reorders)
			}
		})
	}
}

func TestPercentile(t *testing.T) {
	var hundred []time.Duration
	for i := range 100 {
		hundred = append(hundred, time.Duration(i+1)*time.Microsecond)
	}
	for _, test := range []struct {
		name  string
		times []time.Duration
		p     int
		want  float64
	}{
		{"median of 100", hundred, 50, 50},
		{"p99 of 100", hundred, 99, 99},
		{"p100 of 100", hundred, 100, 100},
		{"p99 of 1", hundred[:1], 99, 1},
		{"p0", hundred, 0, 1},
		{"median of 3", hundred[:3], 50, 2},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := percentile(test.times, test.p); got != test.want {
				t.Errorf("got %v, want %v", got, test.want)
			}
		})
	}
}

func TestEchoMessage(t *testing.T) {
	var m [pingSize]byte
	echo4.message(m[:], 0x1234, 0x0102)
	// 0x0800 + 0x1234 + 0x0102 = 0x1b36, complemented.
	want := []byte{8, 0, 0xe4, 0xc9, 0x12, 0x34, 1, 2}
	if !slices.Equal(m[:8], want) {
		t.Errorf("got % x, want % x", m[:8], want)
	}
	reply := append([]byte{0x46, 23: 0}, 0, 0, 0, 0, 0x12, 0x34, 1, 2) // options in the IPv4 header
	if !echo4.answers(reply, 0x1234, 0x0102) {
		t.Error("the answer is not taken for one")
	}
	if echo4.answers(reply, 0x1234, 0x0103) || echo4.answers(reply[:30], 0x1234, 0x0102) || echo6.answers(nil, 0, 0) {
		t.Error("another answer, a short one or none is taken for one")
	}
}

func TestUDPConfig(t *testing.T) {
	for _, test := range []struct {
		name           string
		cfg            UDP
		packets, burst int
	}{
		{"slow", UDP{Rate: 10, Duration: time.Second}, 10, 1},
		{"less than one", UDP{Rate: 1, Duration: time.Millisecond}, 1, 1},
		{"fast", UDP{Rate: 100_000, Duration: time.Second / 2}, 50_000, 5},
		{"very fast", UDP{Rate: 10_000_000, Duration: time.Second}, 10_000_000, burstMax},
	} {
		t.Run(test.name, func(t *testing.T) {
			if p, b := test.cfg.Packets(), test.cfg.burst(); p != test.packets || b != test.burst {
				t.Errorf("got %d packets in bursts of %d, want %d of %d", p, b, test.packets, test.burst)
			}
		})
	}
}
