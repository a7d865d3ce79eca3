package tsptest_test

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"sixin4/tsp"
	"sixin4/tsp/sasl"
	"sixin4/tsp/tsptest"
)

var (
	brokerAt = netip.MustParseAddrPort("192.0.2.1:3653")
	clientAt = netip.MustParseAddr("192.0.2.2")
)

// serve runs a broker on a network of its own until the test ends.
func serve(t *testing.T, c tsptest.Config) (*tsptest.Broker, *tsptest.Net) {
	t.Helper()
	n := new(tsptest.Net)
	l, err := n.Listen(brokerAt)
	if err != nil {
		t.Fatal(err)
	}
	p, err := n.ListenPacket(brokerAt)
	if err != nil {
		t.Fatal(err)
	}
	b := tsptest.New(c)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 2)
	go func() { ended <- b.Serve(ctx, l) }()
	go func() { ended <- b.ServePackets(ctx, p) }()
	t.Cleanup(func() {
		cancel()
		if err := errors.Join(<-ended, <-ended); err != nil {
			t.Error(err)
		}
	})
	return b, n
}

// talk walks one session to its end.
func talk(ctx context.Context, conn net.Conn, v tsp.Version, method string) (*tsp.Tunnel, error) {
	var transport tsp.Transport = tsp.NewStream(conn)
	if conn.LocalAddr().Network() == "udp" {
		transport = tsp.NewDatagrams(conn, tsp.DatagramConfig{})
	}
	s := tsp.NewSession(transport)
	if _, err := s.Hello(ctx, v); err != nil {
		return nil, err
	}
	mechanism, err := sasl.NewClient(method, sasl.Credentials{User: "alice", Password: "secret", Server: "192.0.2.1"})
	if err != nil {
		return nil, err
	}
	if err := s.Authenticate(ctx, mechanism); err != nil {
		return nil, err
	}
	t, err := s.Create(ctx, &tsp.Request{Action: tsp.ActionCreate, Type: tsp.V6V4, Client: clientAt, Keepalive: 30 * time.Second})
	if err != nil {
		return nil, err
	}
	return t, s.Accept(ctx)
}

// dialAndTalk is talk with a connection of its own and what a client waits at most.
func dialAndTalk(t *testing.T, n *tsptest.Net, network string, v tsp.Version, method string) (*tsp.Tunnel, error) {
	t.Helper()
	conn, err := n.Dial(t.Context(), network, clientAt, brokerAt)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	return talk(ctx, conn, v, method)
}

var users = map[string]string{"alice": "secret"}

func TestSessions(t *testing.T) {
	methods := map[string]string{sasl.Anonymous: "", sasl.Plain: "alice", sasl.DigestMD5: "alice", sasl.ScramSHA256: "alice"}
	for method, user := range methods {
		for _, network := range []string{"tcp", "udp"} {
			for _, v := range tsp.Versions() {
				t.Run(method+"/"+network+"/"+string(v), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						b, n := serve(t, tsptest.Config{Users: users})
						tunnel, err := dialAndTalk(t, n, network, v, method)
						if err != nil {
							t.Fatal(err)
						}
						got, err := b.AwaitAccept(t.Context(), 1)
						if err != nil || got.Version != v || got.User != user || got.Mechanism != method || got.Network != network ||
							!got.Accepted || got.From.Addr() != clientAt || got.Request.Type != tsp.V6V4 || got.Tunnel.Client6 != tunnel.Client6 {
							t.Errorf("%+v, %v", got, err)
						}
					})
				})
			}
		}
	}
}

// TestFaults goes through every fault at every step, over both transports: a client
// that uses package tsp right has a tunnel where that must work, and none where it
// must not, and never waits longer than it wants to.
func TestFaults(t *testing.T) {
	for _, f := range slices.Concat(tsptest.Faults(), []tsptest.Fault{tsptest.Late(time.Hour)}) {
		for _, network := range []string{"tcp", "udp"} {
			for _, step := range tsptest.Steps() {
				if !f.Fits(step, network) {
					continue
				}
				t.Run(f.Name+"/"+network+"/"+step.String(), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) { oneFault(t, f, step, network) })
				})
			}
		}
	}
}

func oneFault(t *testing.T, f tsptest.Fault, step tsptest.Step, network string) {
	_, n := serve(t, tsptest.Config{Users: users, Faults: f.At(step)})
	start := time.Now()
	tunnel, err := dialAndTalk(t, n, network, tsp.V202, sasl.DigestMD5)
	switch f.Expect(step, network) {
	case tsptest.Works:
		if err != nil {
			t.Error(err)
		}
	case tsptest.Fails:
		if err == nil {
			t.Errorf("got a tunnel: %+v", tunnel)
		}
	}
	if err == nil && tunnel.Check() != nil {
		t.Errorf("%+v: %v", tunnel, tunnel.Check())
	}
	if took := time.Since(start); took > 2*time.Minute {
		t.Errorf("took %v", took)
	}
}

func TestFaultNames(t *testing.T) {
	seen := make(map[string]bool)
	for _, f := range tsptest.Faults() {
		if f.Name == "" || seen[f.Name] {
			t.Errorf("name %q", f.Name)
		}
		seen[f.Name] = true
	}
	if len(seen) < 200 {
		t.Errorf("%d faults", len(seen))
	}
}

// TestOwnNetwork: the offers are good but for the network they are in.
func TestOwnNetwork(t *testing.T) {
	own := netip.MustParsePrefix("2001:db8:7::/64")
	for _, f := range tsptest.OwnNetwork(own) {
		t.Run(f.Name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				_, n := serve(t, tsptest.Config{Users: users, Faults: f.At(tsptest.Create)})
				tunnel, err := dialAndTalk(t, n, "tcp", tsp.V202, sasl.DigestMD5)
				if err != nil {
					t.Fatal(err)
				}
				if err := tunnel.Conflict([]netip.Prefix{own}); !errors.Is(err, tsp.ErrBadTunnel) {
					t.Errorf("%+v: %v", tunnel, err)
				}
			})
		})
	}
}

// TestFaulty: the first sessions are spoilt, the next one is not.
func TestFaulty(t *testing.T) {
	tests := []struct {
		name   string
		config tsptest.Config
		code   tsp.Code
	}{
		{"fault", tsptest.Config{Faults: tsptest.Status("530 Server busy").At(tsptest.Hello)}, tsp.Busy},
		{"refusal", tsptest.Config{Refuse: map[tsptest.Step]tsp.Code{tsptest.Create: tsp.NoTunnels}}, tsp.NoTunnels},
		{"redirect", tsptest.Config{Redirect: map[tsptest.Step][]tsp.Broker{tsptest.Hello: {{Addr: clientAt}}}}, tsp.Redirection},
		{"answer", tsptest.Config{Answer: func(*tsp.Request, netip.Addr) (*tsp.Tunnel, error) { return nil, &tsp.Error{Code: tsp.BadType} }}, tsp.BadType},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tt.config.Faulty = 2
				b, n := serve(t, tt.config)
				for i := range 3 {
					_, err := dialAndTalk(t, n, "udp", tsp.V202, sasl.Anonymous)
					var status *tsp.Error
					if errors.As(err, &status) && status.Code == tt.code != (i < 2 || tt.name == "answer") {
						t.Errorf("session %d: %v", i, err)
					}
				}
				b.Change(func(c *tsptest.Config) { c.Answer = nil })
				if _, err := dialAndTalk(t, n, "tcp", tsp.V202, sasl.Anonymous); err != nil {
					t.Error(err)
				}
				accepts := map[string]int{"answer": 1}[tt.name]
				if accepts == 0 {
					accepts = 2
				}
				if _, err := b.AwaitAccept(t.Context(), accepts); err != nil {
					t.Error(err)
				}
				if len(b.Sessions()) != 4 || len(b.Accepts()) != accepts {
					t.Errorf("%+v", b.Sessions())
				}
			})
		})
	}
}

func TestRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := new(tsptest.Net)
		if _, err := n.Dial(t.Context(), "tcp", clientAt, brokerAt); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Error(err)
		}
		if _, err := dialAndTalk(t, n, "udp", tsp.V202, sasl.Anonymous); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Error(err)
		}
	})
}

func TestEchoAndCancel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, n := serve(t, tsptest.Config{})
		conn, err := n.Dial(t.Context(), "udp", clientAt, brokerAt)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := tsp.NewDatagrams(conn, tsp.DatagramConfig{}).Echo(t.Context()); err != nil || b.Echoes() != 1 || len(b.Sessions()) != 0 {
			t.Errorf("%v, %d echoes, %d sessions", err, b.Echoes(), len(b.Sessions()))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		if _, err := b.AwaitSession(ctx, 1); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
	})
}

// TestGarbage: a client that speaks something else is refused, and the next is served.
func TestGarbage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, n := serve(t, tsptest.Config{})
		for _, network := range []string{"tcp", "udp"} {
			conn, err := n.Dial(t.Context(), network, clientAt, brokerAt)
			if err != nil {
				t.Fatal(err)
			}
			text := []byte("Content-length: many\r\n")
			if network == "udp" {
				text = tsp.Header{Word: 0xf00000f0}.Datagram(text)
			}
			if _, err := conn.Write(text); err != nil {
				t.Error(err)
			}
			answer := make([]byte, 100)
			k, err := conn.Read(answer)
			if refused := strings.Contains(string(answer[:k]), "500 "); refused != (network == "udp") || refused != (err == nil) {
				t.Errorf("%s: %q, %v", network, answer[:k], err)
			}
			conn.Close()
			if _, err := dialAndTalk(t, n, network, tsp.V202, sasl.Anonymous); err != nil {
				t.Errorf("%s: %v", network, err)
			}
		}
		if _, err := b.AwaitAccept(t.Context(), 2); err != nil {
			t.Error(err)
		}
	})
}
