package tsp_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"sixin4/tsp"
	"sixin4/tsp/tsptest"
)

// endless is a stream of one piece of text, again and again.
type endless struct {
	text string
	at   int
}

func (e *endless) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = e.text[e.at]
		e.at = (e.at + 1) % len(e.text)
	}
	return len(b), nil
}

func (e *endless) Write(b []byte) (int, error) { return len(b), nil }

// allocated is how many bytes f allocates, kept or not.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

const oneSession = 1 << 20 // bytes: what a session may cost

func TestHostileStream(t *testing.T) {
	tests := []struct{ name, text string }{
		{"line without end", "VERSION=2.0.2 "},
		{"zero bytes", "\x00"},
		{"content length of a gigabyte", "Content-length: 1073741824\r\n"},
		{"content length 2^64", "Content-length: 18446744073709551616\r\n"},
		{"content length below zero", "Content-length: -1\r\n"},
		{"content length 0", "Content-length: 0\r\n"},
		{"content length empty", "Content-length:\r\n"},
		{"content length in words", "Content-length: many\r\n"},
		{"broker list without end", "1200 Redirection\r\n<tunnel action=\"info\"><broker>" + strings.Repeat(" ", 65536)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var err error
			cost := allocated(func() {
				_, err = tsp.NewStream(&endless{text: tt.text}).Call(t.Context(), nil)
			})
			if !errors.Is(err, tsp.ErrMalformed) || cost > oneSession {
				t.Errorf("%v, %d bytes", err, cost)
			}
		})
	}
}

func TestHostileXML(t *testing.T) {
	const start, end = `<tunnel action="info" type="v6v4"`, `</tunnel>`
	fill := func(s string, n int) string { return strings.Repeat(s, n) }
	tests := []struct{ name, doc string }{
		{"a million elements deep", start + ">" + fill("<a>", 1e6)},
		{"as deep as fits", start + ">" + fill("<a>", 500) + fill("</a>", 500) + end},
		{"nine deep", start + ">" + fill("<a>", 8) + fill("</a>", 8) + end},
		{"a million elements", start + ">" + fill("<a/>", 1e6) + end},
		{"elements that fit", start + ">" + fill("<a/>", 3000) + end},
		{"a million attributes", start + fill(` a="b"`, 1e6) + "/>"},
		{"attributes that fit", start + fill(` a="b"`, 2000) + "/>"},
		{"a long attribute", start + ` a="` + fill("b", 1e6) + `"/>`},
		{"long text", start + ">" + fill("b", 5000) + end},
		{"text in pieces", start + ">" + fill("bbbb<?x?>", 1000) + end},
		{"billion laughs", `<!DOCTYPE t [<!ENTITY a "aa"><!ENTITY b "&a;&a;">]>` + start + ">&b;" + end},
		{"a known entity", start + ">&amp;" + end},
		{"a character reference", start + ">&#65;" + end},
		{"a comment", start + "><!-- -->" + end},
		{"CDATA", start + "><![CDATA[x]]>" + end},
		{"invalid UTF-8", start + ">\xff\xfe" + end},
		{"a control character", start + ">\x1b" + end},
		{"a zero byte within", start + ">\x00" + end},
		{"another encoding", `<?xml version="1.0" encoding="utf-16"?>` + start + ">" + end},
		{"two elements", start + ">" + end + start + ">" + end},
		{"text in front", "x" + start + ">" + end},
		{"not closed", start + ">"},
		{"closed by another", start + "></" + fill("x", 9000) + ">"},
		{"no element", "  "},
		{"nothing", ""},
		{"another element", "<broker></broker>"},
		{"another action", `<tunnel action="create"></tunnel>`},
		{"no action", `<tunnel></tunnel>`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var err error
			doc := []byte(tt.doc)
			cost := allocated(func() { _, err = tsp.ParseTunnel(doc) })
			if !errors.Is(err, tsp.ErrMalformed) || cost > oneSession {
				t.Errorf("%v, %d bytes", err, cost)
			}
			if err != nil && (len(err.Error()) > 400 || strings.ContainsAny(err.Error(), "\x00\x1b\r\n")) {
				t.Errorf("not fit for a log: %q", err)
			}
			if tt.name == "another action" || tt.name == "no action" {
				return // for requests, these have their own tests
			}
			var status *tsp.Error
			if _, err := tsp.ParseRequest(doc); !errors.As(err, &status) || status.Code != tsp.BadRequest {
				t.Errorf("request: %v", err)
			}
		})
	}
}

func TestHostileBrokerLists(t *testing.T) {
	list := func(n int) string {
		return `<tunnel action="info"><broker>` + strings.Repeat(`<address type="ipv4">192.0.2.1</address>`, n) + `</broker></tunnel>`
	}
	tests := []struct {
		name, doc string
		ok        bool
	}{
		{"50", list(50), true},
		{"51", list(51), false},
		{"10000", list(10000), false},
		{"none", list(0), false},
		{"no list", "", false},
		{"wrong family", `<tunnel><broker><address type="ipv4">2001:db8::1</address></broker></tunnel>`, false},
		{"mapped", `<tunnel><broker><address type="ipv6">::ffff:192.0.2.1</address></broker></tunnel>`, false},
		{"zone", `<tunnel><broker><address type="ipv6">2001:db8::1%eth0</address></broker></tunnel>`, false},
		{"multicast", `<tunnel><broker><address type="ipv4">224.0.0.1</address></broker></tunnel>`, false},
		{"name of a command", `<tunnel><broker><address type="dn">$(reboot)</address></broker></tunnel>`, false},
		{"type", `<tunnel><broker><address type="x">192.0.2.1</address></broker></tunnel>`, false},
		{"loopback", `<tunnel><broker><address type="ipv6">::1</address><address type="ipv4">127.0.0.1</address></broker></tunnel>`, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := tsp.Redirection.Message(false)
			m.XML = []byte(tt.doc)
			var status *tsp.Error
			if err := m.Err(); !errors.As(err, &status) || status.Code != tsp.Redirection {
				t.Fatal(err)
			}
			if got := len(status.Brokers) > 0; got != tt.ok || errors.Is(status, tsp.ErrMalformed) == tt.ok {
				t.Errorf("%d brokers, %v", len(status.Brokers), status)
			}
		})
	}
}

// TestCutClient: whatever the last byte is that a broker says, the client has an
// error, at once.
func TestCutClient(t *testing.T) {
	eachConnection(t, "client", false, func(t *testing.T, s script, c connection) {
		if strings.HasPrefix(c.want, "status") || s.both {
			return // may be as short as its number; or says nothing that the recorded ones do not
		}
		whole := len(bytes.Join(c.texts(false), nil))
		for cut := range whole {
			near, far := net.Pipe()
			go func() {
				defer far.Close()
				_ = playBroker(&cutConn{Conn: far, left: cut}, c.turns, segments["whole"])
			}()
			k, err := newClientOf(c)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := k.run(t.Context(), tsp.NewStream(near)); err == nil && !strings.HasPrefix(got, "status") {
				t.Errorf("cut at %d of %d: %q", cut, whole, got)
			}
			near.Close()
		}
	})
}

// TestCutServer: nobody who says less than everything gets a tunnel.
func TestCutServer(t *testing.T) {
	eachConnection(t, "broker", false, func(t *testing.T, s script, c connection) {
		whole := bytes.Join(c.texts(true), nil)
		if !bytes.Contains(whole, []byte("accept")) || s.both {
			return
		}
		for cut := range whole {
			r, err := brokerOf(c)
			if err != nil {
				t.Fatal(err)
			}
			b := tsptest.New(r.Config)
			_ = b.ServeConn(t.Context(), readOnly{bytes.NewReader(whole[:cut])}, client) // an error for nearly every cut
			if len(b.Accepts()) != 0 {
				t.Errorf("cut at %d of %d: accepted", cut, len(whole))
			}
		}
	})
}

// cutConn closes after so many written bytes.
type cutConn struct {
	net.Conn
	left int
}

func (c *cutConn) Write(b []byte) (int, error) {
	n := min(len(b), c.left)
	c.left -= n
	if n > 0 {
		if _, err := c.Conn.Write(b[:n]); err != nil {
			return 0, err
		}
	}
	if n < len(b) {
		c.Close()
		return n, net.ErrClosed
	}
	return n, nil
}

type readOnly struct{ io.Reader }

func (readOnly) Write(b []byte) (int, error) { return len(b), nil }

// TestSilence: nothing waits longer than its context, on either side.
func TestSilence(t *testing.T) {
	calls := map[string]func(context.Context, *tsp.Stream) error{
		"call":    func(ctx context.Context, s *tsp.Stream) error { _, err := s.Call(ctx, nil); return err },
		"receive": func(ctx context.Context, s *tsp.Stream) error { _, err := s.Receive(ctx); return err },
		"send":    func(ctx context.Context, s *tsp.Stream) error { return s.Send(ctx, []byte("x")) },
		"tell":    func(ctx context.Context, s *tsp.Stream) error { return s.Tell(ctx, []byte("x")) },
	}
	for name, call := range calls {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				near, far := net.Pipe()
				defer near.Close()
				defer far.Close()
				s := tsp.NewStream(near)
				start := time.Now()
				for range 2 { // the second call must not suffer from the end of the first
					ctx, cancel := context.WithTimeout(t.Context(), time.Second)
					if err := call(ctx, s); !errors.Is(err, context.DeadlineExceeded) {
						t.Error(err)
					}
					cancel()
				}
				if took := time.Since(start); took != 2*time.Second {
					t.Errorf("took %v", took)
				}
			})
		})
	}
}

// TestWrongAnswers: an answer that belongs elsewhere is an error at every step.
func TestWrongAnswers(t *testing.T) {
	const capability = "CAPABILITY TUNNEL=V6UDPV4 AUTH=ANONYMOUS AUTH=DIGEST-MD5 AUTH=SCRAM-SHA-256\r\n"
	frame := func(s string) string { return fmt.Sprintf("Content-length: %d\r\n%s", len(s), s) }
	tests := []struct{ name, method, says string }{
		{"status for capability", "ANONYMOUS", "200 Success\r\n"},
		{"base64 for capability", "ANONYMOUS", "cmVhbG09\r\n"},
		{"capability for status", "ANONYMOUS", capability + capability},
		{"success before proof", "DIGEST-MD5", capability + "200 Success\r\n"},
		{"success before scram", "SCRAM-SHA-256", capability + "200 Success\r\n"},
		{"challenge not base64", "DIGEST-MD5", capability + "realm=x\r\n"},
		{"challenge empty", "DIGEST-MD5", capability + "\r\n"},
		{"mechanism not offered", "PLAIN", capability},
		{"success without tunnel", "ANONYMOUS", capability + "200 Success\r\n200 Success\r\n"},
		{"framed success without tunnel", "ANONYMOUS", capability + "200 Success\r\n" + frame("200 Success\r\n")},
		{"tunnel without status", "ANONYMOUS", capability + "200 Success\r\n" + frame("<tunnel action=\"info\"/>")},
		{"tunnel is a list", "ANONYMOUS", capability + "200 Success\r\n" + frame("200 Success\r\n<tunnel action=\"info\"><broker/></tunnel>")},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := clientFor(tt.method).run(t.Context(), tsp.NewStream(readOnly{strings.NewReader(tt.says)}))
			if err == nil || errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("%q, %v", got, err)
			}
		})
	}
}
