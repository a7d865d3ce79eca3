package broker_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"sixin4/tsp"
	"sixin4/tsp/broker"
	"sixin4/tsp/broker/account"
	"sixin4/tsp/sasl"
)

// TestTwoBrokers: a datagram forged in the name of a broker does not make two of them
// talk for ever.
func TestTwoBrokers(t *testing.T) {
	other := netip.MustParseAddrPort("192.0.2.1:3654")
	for _, text := range []string{version, "x", "", "200 Success\r\n", "ECHO REQUEST", frame(accept), nobody} {
		t.Run(fmt.Sprintf("%q", text), func(t *testing.T) {
			inWorld(t, nil, func(t *testing.T, w *world) {
				p := w.tapped(other)
				to := net.UDPAddrFromAddrPort(here)
				p.mu.Lock()
				for n := range uint32(16) { // allow the forger what the tap forbids
					h := tsp.Header{Word: 0xf00000f0 + n}.Datagram(nil)
					p.asked[to.String()+string(h)] = 1 << 20
				}
				p.mu.Unlock()
				_, _ = p.WriteTo(tsp.Header{Word: 0xf00000f0}.Datagram([]byte(text)), to)
				pass(10 * time.Minute)
				if len(p.in) > 3 {
					t.Errorf("%d datagrams came back", len(p.in))
				}
			})
		})
	}
}

// TestForgedFailures: what is said in the name of a source that hears nothing does not
// keep it from logging in, but over the same forgeable way.
func TestForgedFailures(t *testing.T) {
	inWorld(t, func(c *broker.Config) {
		c.Limits.Datagrams = broker.Rate{PerSecond: 1e6, Burst: 1e6}
		c.Limits.Starts = broker.Rate{PerSecond: 1e6, Burst: 1e6}
	}, func(t *testing.T, w *world) {
		for range 100 {
			conn := w.dial("udp", alice4)
			for n, text := range []string{version, plainOn, "\x00alice\x00wrong"} {
				_, _ = conn.Write(tsp.Header{Word: 0xf00000f0 + uint32(n)}.Datagram([]byte(text)))
				synctest.Wait()
			}
			conn.Close()
			conn = w.dial("udp", alice4)
			for n, text := range []string{version, scramOn + b64("n,,n=alice,r=x") + "\r\n", b64("c=biws,r=x,p=x")} {
				_, _ = conn.Write(tsp.Header{Word: 0xf00000f0 + uint32(n)}.Datagram([]byte(text)))
				synctest.Wait()
			}
			conn.Close()
		}
		for _, network := range []string{"tcp", "udp"} {
			for _, l := range logins() {
				if network == "udp" && l.method == sasl.Plain {
					continue
				}
				w.good(network, l)
			}
		}
		if err := w.talk("udp", alice4).in(t.Context(), tsp.V202, logins()[1]); code(err) != tsp.Busy {
			t.Errorf("PLAIN over UDP: %v", err)
		}
	})
}

// TestGuessing: many wrong passwords from many sources, and the user of the account
// gets in from another.
func TestGuessing(t *testing.T) {
	for _, network := range []string{"tcp", "udp"} {
		t.Run(network, func(t *testing.T) {
			inWorld(t, nil, func(t *testing.T, w *world) {
				for i := range 500 {
					k := w.talk(network, address(i%20))
					ctx, cancel := context.WithTimeout(t.Context(), time.Second)
					_, err := k.Hello(ctx, tsp.V202)
					for n := 0; err == nil && n < 5; n++ {
						var c sasl.Client
						if c, err = sasl.NewClient(sasl.DigestMD5, sasl.Credentials{User: "alice", Password: fmt.Sprint(i, n)}); err != nil {
							t.Fatal(err)
						}
						if failed := k.Authenticate(ctx, c); code(failed) == 0 {
							err = failed
						}
					}
					cancel()
					k.Close()
				}
				s := w.Stats()
				if refused, waited := s.AuthFailures[sasl.DigestMD5], s.Codes[tsp.Busy]; refused < 200 || refused > 400 || waited < 2000 {
					t.Errorf("%d wrong passwords were checked, %d were not", refused, waited)
				}
				for _, l := range logins() {
					w.good("tcp", l)
					w.good("udp", l)
				}
			})
		})
	}
}

// TestHears: a Provisioner is told who has shown to have an address, and who only says so
// in a datagram.
func TestHears(t *testing.T) {
	inWorld(t, nil, func(t *testing.T, w *world) {
		plain := login{sasl.Plain, "alice", "secret"}
		var want []bool
		for _, l := range []login{anonymous, plain, byScram} {
			for _, network := range []string{"tcp", "udp"} {
				w.good(network, l)
				want = append(want, network == "tcp" || l == byScram)
			}
		}
		var got []bool
		w.pool.mu.Lock()
		defer w.pool.mu.Unlock()
		for _, a := range w.pool.asks {
			got = append(got, a.Hears)
		}
		if !slices.Equal(got, want) {
			t.Errorf("hears: %v, want %v", got, want)
		}
	})
}

// TestFailuresElsewhere: wrong passwords of this account and source that were tried
// elsewhere count here.
func TestFailuresElsewhere(t *testing.T) {
	logins := account.Limits{Iterations: iterations, LookupTime: -1, Failures: account.Rate{PerSecond: 1. / 20, Burst: 3}}
	shared := account.NewFailures(logins)
	change := func(c *broker.Config) { c.Failures, c.Logins = shared, logins }
	inWorld(t, change, func(t *testing.T, w *world) {
		pages, err := account.New(account.Config{Accounts: everybody(), Limits: logins, Failures: shared})
		if err != nil {
			t.Fatal(err)
		}
		for range logins.Failures.Burst {
			l, err := pages.Start(sasl.Plain, account.Source{Addr: alice4})
			if err == nil {
				_, _, err = l.Next(t.Context(), []byte("alice\x00wrong"))
			}
			if !errors.Is(err, sasl.ErrAuth) {
				t.Fatal(err)
			}
		}
		if err := w.talk("tcp", alice4).in(t.Context(), tsp.V202, byScram); code(err) != tsp.Busy {
			t.Errorf("%v, want status %d", err, tsp.Busy)
		}
		if err := w.talk("tcp", mob4).in(t.Context(), tsp.V202, byScram); err != nil {
			t.Errorf("from elsewhere: %v", err)
		}
	})
}
