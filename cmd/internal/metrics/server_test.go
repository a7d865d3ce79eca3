package metrics

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// freePort is an address that nobody listens on at the moment.
func freePort(t *testing.T) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return netip.MustParseAddrPort(l.Addr().String())
}

// serve runs a server until the test ends.
func serve(t *testing.T, cfg Config) netip.AddrPort {
	t.Helper()
	cfg.Addr = freePort(t)
	s, err := Listen(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
		for range 2 {
			if err := s.Close(); err != nil {
				t.Errorf("Close: %v", err)
			}
		}
	})
	return cfg.Addr
}

func one(ctx context.Context, p *Page) { p.Gauge("one", "A one.", 1) }
func fine(context.Context) error       { return nil }

// get asks for a page and returns its status, type and text.
func get(t *testing.T, at netip.AddrPort, path string) (int, string, string) {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get("http://" + at.String() + path)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, resp.Header.Get("Content-Type"), string(text)
}

func TestAnswers(t *testing.T) {
	ready := serve(t, Config{Collect: one, Ready: fine, Build: Build{Program: "p"}})
	unfit := serve(t, Config{Collect: one, Ready: func(context.Context) error { return errors.New(`no "network"`) }})
	for _, tt := range []struct {
		name string
		at   netip.AddrPort
		path string
		code int
		kind string
		text string // a part
	}{
		{"metrics", ready, "/metrics", 200, "text/plain; version=0.0.4; charset=utf-8", "\none 1\n"},
		{"build", ready, "/metrics", 200, "text/plain; version=0.0.4; charset=utf-8", `sixin4_build_info{program="p",version="",goversion="go`},
		{"lives", unfit, "/healthz", 200, "text/plain; charset=utf-8", "ok\n"},
		{"ready", ready, "/readyz", 200, "application/json", `{"ready":true}`},
		{"not ready", unfit, "/readyz", 503, "application/json", `{"ready":false,"reason":"no \"network\""}`},
		{"another path", ready, "/metrics/x", 404, "text/plain; charset=utf-8", "not found"},
		{"profiles", ready, "/debug/pprof/", 404, "text/plain; charset=utf-8", "not found"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			code, kind, text := get(t, tt.at, tt.path)
			if code != tt.code || kind != tt.kind || !strings.Contains(text, tt.text) {
				t.Errorf("%d, %s, %q; want %d, %s, %q", code, kind, text, tt.code, tt.kind, tt.text)
			}
		})
	}
}

func TestListenErrors(t *testing.T) {
	taken := serve(t, Config{Collect: one, Ready: fine})
	for _, tt := range []struct{ name, addr, want string }{
		{"taken", taken.String(), "address already in use: another program has this port (ss -lntp shows it); --metrics ADDRESS:PORT takes another"},
		{"of nobody", "203.0.113.9:9641", "cannot assign requested address: no interface of this host has this address; 127.0.0.1 is always there"},
	} {
		_, err := Listen(Config{Addr: netip.MustParseAddrPort(tt.addr)})
		if err == nil || err.Error() != "metrics on "+tt.addr+": "+tt.want {
			t.Errorf("%s: %v, want %s", tt.name, err, tt.want)
		}
	}
}

// answer sends text as it stands and returns the first line that comes back.
func answer(t *testing.T, at netip.AddrPort, text string) string {
	t.Helper()
	c, err := net.Dial("tcp", at.String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.WriteString(c, text); err != nil {
		t.Logf("the server did not want all of it: %v", err)
	}
	line, err := bufio.NewReader(c).ReadString('\n')
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(line)
}

func TestHostileRequests(t *testing.T) {
	at := serve(t, Config{Collect: one, Ready: fine})
	for _, tt := range []struct{ name, request, want string }{
		{"header bomb", "GET /metrics HTTP/1.0\r\nX: " + strings.Repeat("x", 1<<14) + "\r\n\r\n", "HTTP/1.1 431 Request Header Fields Too Large"},
		{"many headers", "GET /metrics HTTP/1.0\r\n" + strings.Repeat("X: y\r\n", 4000) + "\r\n", "HTTP/1.1 431 Request Header Fields Too Large"},
		{"long path", "GET /" + strings.Repeat("x", 1<<14) + " HTTP/1.0\r\n\r\n", "HTTP/1.1 431 Request Header Fields Too Large"},
		{"another method", "POST /metrics HTTP/1.0\r\nContent-Length: 9\r\n\r\n123456789", "HTTP/1.0 405 Method Not Allowed"},
		{"no HTTP", "metrics\r\n\r\n", "HTTP/1.1 400 Bad Request"},
		{"climbing", "GET /../../etc/passwd HTTP/1.0\r\n\r\n", "HTTP/1.0 307 Temporary Redirect"},
		{"all is well after that", "GET /healthz HTTP/1.0\r\n\r\n", "HTTP/1.0 200 OK"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := answer(t, at, tt.request); got != tt.want {
				t.Errorf("answer %q, want %q", got, tt.want)
			}
		})
	}
}

// pipes is a listener whose connections are made by the test, so that synctest sees
// their waiting.
type pipes struct{ conns chan net.Conn }

func (p pipes) Accept() (net.Conn, error) {
	c, ok := <-p.conns
	if !ok {
		return nil, net.ErrClosed
	}
	return c, nil
}

func (p pipes) Close() error   { close(p.conns); return nil }
func (p pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "pipe"} }

// TestSlowClients: who sends nothing, or a byte now and then, or takes nothing of its
// answer, is cut off in time.
func TestSlowClients(t *testing.T) {
	for _, tt := range []struct {
		name  string
		limit time.Duration
		act   func(c net.Conn)
	}{
		{"says nothing", patience, func(net.Conn) {}},
		{"a byte a second, and takes no answer", 3 * patience, func(c net.Conn) {
			for range 60 {
				if _, err := io.WriteString(c, "G"); err != nil {
					return
				}
				time.Sleep(time.Second)
			}
		}},
		{"stops in its headers", patience, func(c net.Conn) { _, _ = io.WriteString(c, "GET /metrics HTTP/1.1\r\nHost: x\r\n") }},
		{"takes nothing", 2 * patience, func(c net.Conn) { _, _ = io.WriteString(c, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n") }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := server(Config{Collect: one, Ready: fine})
				l := pipes{make(chan net.Conn)}
				s.listener = l
				ended := make(chan error, 1)
				ctx, cancel := context.WithCancel(t.Context())
				go func() { ended <- s.Run(ctx) }()
				ours, theirs := net.Pipe()
				closed := &closing{Conn: theirs, at: make(chan time.Time, 1)}
				began := time.Now()
				l.conns <- closed
				go tt.act(ours)
				if took := (<-closed.at).Sub(began); took > tt.limit+time.Second {
					t.Errorf("cut off after %v, want %v", took, tt.limit)
				}
				ours.Close()
				cancel()
				if err := <-ended; err != nil {
					t.Error(err)
				}
				synctest.Wait()
			})
		})
	}
}

// closing tells when the server closes a connection.
type closing struct {
	net.Conn
	at chan time.Time
}

func (c *closing) Close() error {
	select {
	case c.at <- time.Now():
	default:
	}
	return c.Conn.Close()
}

// TestCrowd: the server has so many connections and no more; the others get their turn.
func TestCrowd(t *testing.T) {
	at := serve(t, Config{Collect: one, Ready: fine})
	crowd := make([]net.Conn, 0, 2*maxConns)
	defer func() {
		for _, c := range crowd {
			c.Close()
		}
	}()
	for range 2 * maxConns {
		c, err := net.Dial("tcp", at.String())
		if err != nil {
			t.Fatal(err)
		}
		crowd = append(crowd, c)
	}
	for _, c := range crowd[:maxConns] {
		c.Close() // they make room for the rest
	}
	last := crowd[len(crowd)-1]
	if err := last.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(last, "GET /healthz HTTP/1.0\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(last).ReadString('\n'); err != nil || line != "HTTP/1.0 200 OK\r\n" {
		t.Errorf("%q, %v", line, err)
	}
}

// TestOneAtATime: what is collected is collected for one request at a time.
func TestOneAtATime(t *testing.T) {
	busy := make(chan struct{}, 1)
	at := serve(t, Config{Ready: fine, Collect: func(context.Context, *Page) {
		select {
		case busy <- struct{}{}:
		default:
			t.Error("two at a time")
		}
		_, _ = os.ReadFile("/proc/self/maps") // some work
		<-busy
	}})
	done := make(chan string, 20)
	for range cap(done) {
		go func() { done <- answer(t, at, "GET /metrics HTTP/1.0\r\n\r\n") }()
	}
	for range cap(done) {
		if got := <-done; got != "HTTP/1.0 200 OK" {
			t.Errorf("answer %q", got)
		}
	}
}

// TestPanic: one page that could not be collected does not keep those after it waiting.
func TestPanic(t *testing.T) {
	broken := true
	at := serve(t, Config{Ready: fine, Collect: func(context.Context, *Page) {
		if broken {
			broken = false
			panic("a mistake of the collector")
		}
	}})
	if got := answer(t, at, "GET /metrics HTTP/1.0\r\n\r\n"); strings.Contains(got, "200") {
		t.Errorf("answer %q to a page that could not be collected", got)
	}
	if got := answer(t, at, "GET /metrics HTTP/1.0\r\n\r\n"); got != "HTTP/1.0 200 OK" {
		t.Errorf("answer %q after that", got)
	}
}
