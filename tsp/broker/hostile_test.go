package broker_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"sixin4/tsp"
	"sixin4/tsp/broker"
)

// good is a well-behaved client that gets its tunnel in under a second.
func (w *world) good(network string, l login) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), time.Second)
	defer cancel()
	if _, err := w.talk(network, alice4).run(ctx, l, request(tsp.V6V4, alice4)); err != nil {
		w.t.Errorf("a good client over %s: %v", network, err)
	}
}

// address is the n-th of many.
func address(n int) netip.Addr {
	return netip.AddrFrom4([4]byte{10, byte(n >> 16), byte(n >> 8), byte(n)})
}

// TestSilence: 10 000 connections that say nothing cost little, and go.
func TestSilence(t *testing.T) {
	const conns = 10_000
	for _, sources := range []int{1, conns} {
		t.Run(fmt.Sprintf("%d sources", sources), func(t *testing.T) {
			inWorld(t, func(c *broker.Config) {
				c.Limits.Starts = broker.Rate{PerSecond: 1, Burst: conns}
			}, func(t *testing.T, w *world) {
				before := memory()
				for i := range conns {
					w.dial("tcp", address(i%sources))
				}
				synctest.Wait()
				s := w.Stats()
				if want := min(sources*64, conns); s.Conns != want || s.Drops[broker.DropConns] != uint64(conns-want) {
					t.Errorf("%+v", s)
				}
				// Both ends and their pipe are in this; a connection in the kernel is not.
				if cost := (memory() - before) / conns; cost > 24<<10 {
					t.Errorf("%d bytes for a connection", cost)
				}
				w.good("tcp", byScram)
				w.good("udp", byScram)
				pass(16 * time.Second)
				if s := w.Stats(); s.Conns != 0 {
					t.Errorf("%d connections are left", s.Conns)
				}
			})
		})
	}
}

// memory is what is in use, stacks too.
func memory() int {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int(m.HeapInuse + m.StackInuse)
}

// drip writes a byte a second until it is refused or has no more.
func drip(c net.Conn, text string) {
	for _, b := range []byte(text) {
		if _, err := c.Write([]byte{b}); err != nil {
			return
		}
		<-time.After(time.Second)
	}
}

// TestByteASecond: slow clients end, good ones do not notice them.
func TestByteASecond(t *testing.T) {
	inWorld(t, nil, func(t *testing.T, w *world) {
		var dripping sync.WaitGroup
		for i := range 500 {
			c := w.dial("tcp", address(i))
			dripping.Go(func() { drip(c, strings.Repeat("V", 100)) })
			go func() {
				buf := make([]byte, 64)
				for {
					if _, err := c.Read(buf); err != nil {
						return
					}
				}
			}()
		}
		pass(5 * time.Second)
		w.good("tcp", byScram)
		w.good("udp", anonymous)
		dripping.Wait()
		pass(time.Minute)
		if s := w.Stats(); s.Conns != 0 || s.Drops[broker.DropSlow] != 500 {
			t.Errorf("%+v", s)
		}
	})
}

// garbage is what no client says.
func garbage() map[string]string {
	random := rand.New(rand.NewPCG(1, 2))
	noise := make([]byte, 4000)
	for i := range noise {
		noise[i] = byte(random.Uint32())
	}
	bomb := `<!DOCTYPE t [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]><tunnel action="create">&b;</tunnel>`
	return map[string]string{
		"noise":                string(noise),
		"zero bytes":           strings.Repeat("\x00", 5000),
		"a long line":          strings.Repeat("A", 10000),
		"another protocol":     "GET / HTTP/1.1\r\nHost: broker.example.net\r\n\r\n",
		"huge length":          "Content-length: 99999999999999999999\r\n<tunnel/>",
		"length of a gigabyte": "Content-length: 1073741824\r\n<tunnel/>",
		"negative length":      "Content-length: -1\r\n<tunnel/>",
		"no length":            "Content-length:\r\n<tunnel/>",
		"bomb":                 frame(bomb),
		"deep":                 frame(strings.Repeat("<a>", 3000)),
		"many attributes":      frame("<tunnel " + strings.Repeat(`a="" `, 2000) + "/>"),
		"many elements":        frame(`<tunnel action="create">` + strings.Repeat("<a/>", 3000) + "</tunnel>"),
		"instructions":         frame(strings.Repeat("<?a?>", 1000) + "<tunnel/>"),
		"no UTF-8":             frame("<tunnel action=\"\xff\xfe\"/>"),
		"escape sequences":     "VERSION=\x1b[2J\x1b]0;x\x07\r\n",
		"a status":             "200 Success\r\n",
		"an offer":             frame("200 Success\r\n<tunnel action=\"info\"/>"),
	}
}

// TestGarbage: at every state, over both transports, nothing comes of it.
func TestGarbage(t *testing.T) {
	before := map[string][]string{
		"greeting": nil, "login": {version}, "proving": {version, digestOn}, "command": {version, nobody},
		"offered": {version, nobody, create(`"60"`, `"60"`)},
	}
	for _, network := range []string{"tcp", "udp"} {
		for state, says := range before {
			for name, text := range garbage() {
				t.Run(network+"/"+state+"/"+name, func(t *testing.T) {
					inWorld(t, nil, func(t *testing.T, w *world) {
						w.pool.offer = func(ctx context.Context, a broker.Ask) (*broker.Grant, error) {
							a.Request.Router = nil
							return goodGrant(ctx, a)
						}
						k := w.talk(network, alice4)
						k.says(t, says)
						w.throw(k, text)
						pass(5 * time.Minute)
						if got := w.pool.counts(); got[1] != 0 || got[0] != got[2] {
							t.Errorf("asked, accepted, freed, kept: %v", got)
						}
						if s := w.Stats(); s.Conns != 0 {
							t.Errorf("%d connections are left", s.Conns)
						}
						w.good(network, byScram)
					})
				})
			}
		}
	}
}

// throw writes what nobody understands, and reads what comes back.
func (w *world) throw(k talk, text string) {
	go func() {
		buf := make([]byte, 1024)
		for {
			if _, err := k.Read(buf); err != nil {
				return
			}
		}
	}()
	if _, stream := k.transport.(*tsp.Stream); stream {
		_, _ = k.Write([]byte(text))
		return
	}
	for n := range uint32(3) {
		_, _ = k.Write(tsp.Header{Word: 0xf00000f8 + n}.Datagram([]byte(text)))
	}
	w.t.Cleanup(func() { k.Close() })
}

// TestLittleEndian: the oldest clients write the sequence the other way round, and are
// as safe from their own repetitions.
func TestLittleEndian(t *testing.T) {
	inWorld(t, nil, func(t *testing.T, w *world) {
		conn := w.dial("udp", alice4)
		buf := make([]byte, 2048)
		r, _ := request(tsp.V6V4, alice4).Message()
		for n, text := range []string{"VERSION=2.0.0\r\n", nobody + "\x00", string(r.Bytes()), frame(accept)} {
			for again := range uint32(3) {
				h := make([]byte, 8)
				binary.LittleEndian.PutUint32(h, 0xf0000000+uint32(n))
				binary.BigEndian.PutUint32(h[4:], again)
				_, _ = conn.Write(append(h, text...))
				synctest.Wait()
				got, err := conn.Read(buf)
				if err != nil || string(buf[:8]) != string(h) {
					t.Fatalf("% x, %v, want % x", buf[:got], err, h)
				}
			}
		}
		if got := w.pool.counts(); got != [4]int{1, 1, 0, 0} {
			t.Errorf("asked, accepted, freed, kept: %v", got)
		}
	})
}

// TestSamePort: a client that starts anew on the port of an old session is not taken
// for a late datagram.
func TestSamePort(t *testing.T) {
	tests := []struct {
		name   string
		finish bool
		after  time.Duration
		within time.Duration
	}{
		{"behind accept", true, 10 * time.Millisecond, 0},
		{"behind create, at once", false, 10 * time.Millisecond, 5 * time.Second},
		{"behind create, later", false, 4123 * time.Millisecond, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			inWorld(t, nil, func(t *testing.T, w *world) {
				conn := w.dial("udp", alice4)
				session := func() talk {
					d := tsp.NewDatagrams(conn.(tsp.DatagramConn), tsp.DatagramConfig{})
					return talk{tsp.NewSession(d), d, conn}
				}
				k := session()
				if err := k.in(t.Context(), tsp.V202, byScram); err != nil {
					t.Fatal(err)
				}
				if _, err := k.Create(t.Context(), request(tsp.V6V4, alice4)); err != nil {
					t.Fatal(err)
				}
				if tt.finish {
					if err := k.Accept(t.Context()); err != nil {
						t.Fatal(err)
					}
				}
				pass(tt.after)
				begin := time.Now()
				if _, err := session().run(t.Context(), byScram, request(tsp.V6V4, alice4)); err != nil {
					t.Error(err)
				}
				if took := time.Since(begin); took > tt.within {
					t.Errorf("took %v", took)
				}
			})
		})
	}
}

// TestBlockedProvisioner: a store that hangs holds up those who wait for it, each of
// them not longer than a message may take, and nobody else.
func TestBlockedProvisioner(t *testing.T) {
	for _, network := range []string{"tcp", "udp"} {
		t.Run(network, func(t *testing.T) {
			inWorld(t, nil, func(t *testing.T, w *world) {
				w.pool.offer = func(ctx context.Context, a broker.Ask) (*broker.Grant, error) {
					if a.User == nil {
						<-ctx.Done()
						return nil, ctx.Err()
					}
					return goodGrant(ctx, a)
				}
				stuck := make(chan error)
				go func() {
					_, err := w.talk(network, mob4).run(t.Context(), anonymous, request(tsp.V6V4, mob4))
					stuck <- err
				}()
				pass(time.Second)
				w.good(network, byScram)
				if err := <-stuck; code(err) != tsp.Busy {
					t.Error(err)
				}
			})
		})
	}
}
