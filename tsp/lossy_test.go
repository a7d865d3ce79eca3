package tsp_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"sixin4/tsp"
	"sixin4/tsp/sasl"
)

var client = netip.MustParseAddrPort("192.0.2.2:40000")

// datagramBroker is a broker on a UDP port, with one client.
type datagramBroker struct {
	b       *broker
	replies *tsp.Replies
	owed    [][]byte // answers that the client has not fetched yet
	ran     int      // messages that were run
}

func newDatagramBroker(b *broker) *datagramBroker {
	return &datagramBroker{b: b, replies: tsp.NewReplies(tsp.RepliesConfig{})}
}

// answer is the datagram that answers one, nil for none.
func (d *datagramBroker) answer(from netip.AddrPort, datagram []byte) []byte {
	h, text, err := tsp.ParseHeader(datagram)
	if err != nil {
		return nil
	}
	if tsp.IsEcho(text) {
		return h.Datagram(tsp.Success.Message(false).Bytes())
	}
	switch verdict, old := d.replies.Check(time.Now(), from, h, text); verdict {
	case tsp.Duplicate:
		return old
	case tsp.Fresh:
		d.ran++
		return d.replies.Answer(from, h, d.run(text))
	default:
		return nil
	}
}

func (d *datagramBroker) run(text []byte) []byte {
	m, err := tsp.ParseMessage(text)
	if err != nil {
		return tsp.BadRequest.Message(false).Bytes()
	}
	if len(text) > 0 {
		d.owed = d.b.answers(m)
	}
	if len(d.owed) == 0 {
		return nil
	}
	first := d.owed[0]
	d.owed = d.owed[1:]
	return first
}

func (d *datagramBroker) serve(conn *packetPipe) {
	buf := make([]byte, 4096)
	for {
		n, err := conn.Read(buf)
		if err != nil {
			return
		}
		if answer := d.answer(client, buf[:n]); answer != nil {
			conn.Write(answer)
		}
	}
}

var aliceKeys = sync.OnceValue(func() sasl.ScramKeys {
	keys, err := sasl.NewScramKeys("alice", "secret", []byte("sixteen byte salt"), 4096)
	if err != nil {
		panic(err)
	}
	return keys
})

func offerForAll() *broker {
	return &broker{
		version:   tsp.V202,
		offer:     tsp.Capability{Tunnels: []tsp.Type{tsp.V6V4, tsp.V6UDPV4}, Auths: []string{sasl.Anonymous, sasl.Plain, sasl.DigestMD5, sasl.ScramSHA256}},
		realm:     "example",
		tunnel:    goodTunnel(),
		scramKeys: aliceKeys(),
	}
}

func goodTunnel() *tsp.Tunnel {
	return &tsp.Tunnel{
		Type: tsp.V6UDPV4, Lifetime: 86400 * time.Second,
		Server4: netip.MustParseAddr("192.0.2.1"), Server6: netip.MustParseAddr("2001:db8:aa::1"),
		Client4: netip.MustParseAddr("192.0.2.2"), Client6: netip.MustParseAddr("2001:db8:aa::2"),
		DNS:       []netip.Addr{netip.MustParseAddr("2001:db8::53")},
		Keepalive: 30 * time.Second, KeepaliveTo: netip.MustParseAddr("2001:db8:aa::1"),
	}
}

func clientFor(method string) clientOf {
	return clientOf{
		version: tsp.V202, mechanism: method,
		credentials: sasl.Credentials{User: "alice", Password: "secret", Server: "192.0.2.1"},
		request: &tsp.Request{
			Action: tsp.ActionCreate, Type: tsp.V6UDPV4,
			Client: netip.MustParseAddr("192.0.2.2"), Keepalive: 30 * time.Second,
		},
	}
}

// TestBadPath: on a path that loses, copies, delays and reorders, a session ends with
// a tunnel or with ErrNoAnswer, and the broker never runs anything twice.
func TestBadPath(t *testing.T) {
	methods := map[string]int{sasl.Anonymous: 4, sasl.Plain: 5, sasl.DigestMD5: 6, sasl.ScramSHA256: 6}
	tunnels := 0
	for method, messages := range methods {
		for seed := range uint64(40) {
			synctest.Test(t, func(t *testing.T) {
				bad := &path{random: rand.New(rand.NewPCG(seed, 1)), loss: 0.25, copy: 0.25, delay: 3 * time.Second}
				near, far := newPacketPipe(bad)
				server := newDatagramBroker(offerForAll())
				done := make(chan struct{})
				go func() { server.serve(far); close(done) }()
				got, err := clientFor(method).run(t.Context(), tsp.NewDatagrams(near, tsp.DatagramConfig{}))
				time.Sleep(time.Minute) // what is late arrives late
				far.Close()
				<-done
				if server.ran > messages || server.b.accepted > 1 || server.b.created > 1 {
					t.Errorf("%s seed %d: %d messages run, %d tunnels", method, seed, server.ran, server.b.created)
				}
				switch {
				case err == nil && got == summary(goodTunnel()) && server.b.accepted == 1:
					tunnels++
				case !errors.Is(err, tsp.ErrNoAnswer):
					t.Errorf("%s seed %d: %q, %v", method, seed, got, err)
				}
			})
		}
	}
	if tunnels < 120 {
		t.Errorf("%d tunnels of 160", tunnels)
	}
}

func TestCancelDatagrams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, _ := newPacketPipe(new(path))
		ctx, cancel := context.WithTimeout(t.Context(), 1500*time.Millisecond)
		defer cancel()
		start := time.Now()
		_, err := tsp.NewDatagrams(near, tsp.DatagramConfig{}).Call(ctx, tsp.V202.Line())
		if !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, tsp.ErrNoAnswer) {
			t.Error(err)
		}
		if took := time.Since(start); took != 1500*time.Millisecond {
			t.Errorf("took %v", took)
		}
	})
}
