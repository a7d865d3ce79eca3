package broker_test

import (
	"context"
	"math/rand/v2"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"sixin4/tsp"
	"sixin4/tsp/broker"
)

// tap is a socket that keeps what went over it, and knows how much more came back.
type tap struct {
	net.PacketConn
	mu    sync.Mutex
	asked map[string]int // length of the last datagram, by client and header
	in    [][]byte
	worst float64
}

func (p *tap) ReadFrom(b []byte) (int, net.Addr, error) {
	n, from, err := p.PacketConn.ReadFrom(b)
	p.mu.Lock()
	defer p.mu.Unlock()
	if err == nil && n >= tsp.HeaderLen {
		p.in = append(p.in, append([]byte(nil), b[:n]...))
		p.asked[from.String()+string(b[:tsp.HeaderLen])] = n
	}
	return n, from, err
}

func (p *tap) WriteTo(b []byte, to net.Addr) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	asked := p.asked[to.String()+string(b[:tsp.HeaderLen])]
	if asked == 0 {
		panic("an answer that nobody asked for")
	}
	p.worst = max(p.worst, float64(len(b))/float64(asked))
	return p.PacketConn.WriteTo(b, to)
}

// tapped serves another socket of the broker, with a tap.
func (w *world) tapped(at netip.AddrPort) *tap {
	w.t.Helper()
	conn, err := w.net.ListenPacket(at)
	if err != nil {
		w.t.Fatal(err)
	}
	p := &tap{PacketConn: conn, asked: make(map[string]int)}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- w.ServeUDP(ctx, p) }()
	w.t.Cleanup(func() {
		cancel()
		<-ended
	})
	return p
}

// TestReflection: whatever a stranger says, what comes back is at most five times as
// long.
func TestReflection(t *testing.T) {
	other := netip.MustParseAddrPort("192.0.2.1:3654")
	inWorld(t, func(c *broker.Config) {
		c.Redirect = broker.Redirect{Brokers: brokers(50), When: func(*broker.User, netip.AddrPort) bool { return false }}
		c.Realm, c.Merged = strings.Repeat("r", 32), true
		c.Limits.Errors, c.Limits.SessionsPerSource = 1000, 10000
		c.Limits.Datagrams = broker.Rate{PerSecond: 1e6, Burst: 1e6}
		c.Limits.Starts = c.Limits.Datagrams
	}, func(t *testing.T, w *world) {
		p := w.tapped(other)
		conn, err := w.net.Dial(t.Context(), "udp", alice4, other)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		small := frame(`<tunnel action="create" type="v6v4"><client><address type="ipv4">198.51.100.7</address></client></tunnel>`)
		words := []string{
			version, "VERSION=2.0.2\n", "VERSION=2.0.2", "VERSION=1", "ECHO REQUEST", nobody, digestOn, "AUTHENTICATE DIGEST-MD5",
			plainOn, "\x00alice\x00secret", scramOn + b64("n,,n=a,r=b"), b64("x=y"), small, frame(accept), frame(info), frame(destroy),
			"", "x", "Content-length: 1\r\nx", "200", "AUTHENTICATE X",
		}
		random := rand.New(rand.NewPCG(3, 4))
		for n := range uint32(20000) {
			w.SetDraining(random.IntN(50) == 0)
			_, _ = conn.Write(tsp.Header{Word: 0xf0000000 + n}.Datagram([]byte(words[random.IntN(len(words))])))
			synctest.Wait()
			drain(conn)
		}
		if p.worst > 5 || p.worst < 3 {
			t.Errorf("the longest answer was %.2f times as long", p.worst)
		}
		if got := w.pool.counts(); got[0] == 0 || got[1] == 0 {
			t.Errorf("it did not get far: %v", got)
		}
	})
}

// drain forgets what arrived.
func drain(c net.Conn) {
	buf := make([]byte, 2048)
	_ = c.SetReadDeadline(time.Now().Add(-time.Second))
	for {
		if _, err := c.Read(buf); err != nil {
			return
		}
	}
}
