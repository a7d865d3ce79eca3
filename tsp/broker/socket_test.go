package broker_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"sixin4/tsp"
	"sixin4/tsp/broker"
	"sixin4/tsp/broker/account"
)

var loopback = netip.MustParseAddr("127.0.0.1")

// onLoopback serves both transports on real sockets.
func onLoopback(t testing.TB) (tcp, udp string) {
	t.Helper()
	p := &pool{offer: func(ctx context.Context, a broker.Ask) (*broker.Grant, error) {
		g, err := goodGrant(ctx, a)
		g.Tunnel.Server4 = netip.MustParseAddr("127.0.0.2")
		return g, err
	}}
	s, err := broker.New(broker.Config{
		Provisioner: p, Accounts: everybody(), Anonymous: true, Realm: realm,
		Logins: account.Limits{Iterations: iterations},
		Limits: broker.Limits{
			Starts: broker.Rate{PerSecond: 1e6, Burst: 1e6}, Datagrams: broker.Rate{PerSecond: 1e6, Burst: 1e6},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 2)
	go func() { ended <- s.ServeTCP(ctx, l) }()
	go func() { ended <- s.ServeUDP(ctx, c) }()
	t.Cleanup(func() {
		cancel()
		if err := errors.Join(<-ended, <-ended); err != nil {
			t.Error(err)
		}
	})
	return l.Addr().String(), c.LocalAddr().String()
}

func dial(t testing.TB, network, to string) talk {
	t.Helper()
	c, err := net.Dial(network, to)
	if err != nil {
		t.Fatal(err)
	}
	var transport tsp.Transport = tsp.NewStream(c)
	if network == "udp" {
		transport = tsp.NewDatagrams(c.(*net.UDPConn), tsp.DatagramConfig{})
	}
	return talk{tsp.NewSession(transport), transport, c}
}

func TestSockets(t *testing.T) {
	defer goleak.VerifyNone(t)
	t.Run("both", func(t *testing.T) {
		tcp, udp := onLoopback(t)
		for _, to := range [][2]string{{"tcp", tcp}, {"udp", udp}} {
			for _, l := range logins() {
				k := dial(t, to[0], to[1])
				if _, err := k.run(t.Context(), l, request(tsp.V6V4, loopback)); err != nil {
					t.Errorf("%s, %s: %v", to[0], l.method, err)
				}
				k.Close()
			}
		}
	})
}

// TestLastWord: a client that has said more than was read gets the last word all the
// same.
func TestLastWord(t *testing.T) {
	defer goleak.VerifyNone(t)
	tests := []struct {
		name, says string
		want       tsp.Code
	}{
		{"malformed", version + "Content-length: 0\r\n", tsp.BadRequest},
		{"one error too many", version + strings.Repeat("AUTHENTICATE X\r\n", 5), tsp.AuthFailed},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tcp, _ := onLoopback(t)
			k := dial(t, "tcp", tcp)
			defer k.Close()
			_ = k.SetDeadline(time.Now().Add(time.Minute))
			if _, err := k.Write([]byte(tt.says + strings.Repeat("x", 20000))); err != nil {
				t.Fatal(err)
			}
			said, err := io.ReadAll(k)
			if err != nil || !strings.HasSuffix(string(said), tt.want.String()+"\r\n") {
				t.Errorf("%q, %v", said, err)
			}
		})
	}
}

// BenchmarkSession is a whole session over the loopback interface, the client's part
// counted.
func BenchmarkSession(b *testing.B) {
	tcp, udp := onLoopback(b)
	for _, to := range [][2]string{{"tcp", tcp}, {"udp", udp}} {
		for _, l := range []login{anonymous, logins()[2]} {
			b.Run(to[0]+"/"+l.method, func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					k := dial(b, to[0], to[1])
					if _, err := k.run(context.Background(), l, request(tsp.V6V4, loopback)); err != nil {
						b.Fatal(err)
					}
					k.Close()
				}
			})
		}
	}
}
