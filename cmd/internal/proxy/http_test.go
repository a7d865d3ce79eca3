package proxy

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
)

// webFar is a web server behind the tunnel that tells what it was asked.
func (w *world) webFar(t testing.TB) {
	t.Helper()
	w.serveFar(t, 80, func(c net.Conn) {
		r, err := http.ReadRequest(bufio.NewReader(c))
		if err != nil {
			return
		}
		body, _ := io.ReadAll(r.Body)
		text := fmt.Sprintf("%s %s host=%s proxy=%q forwarded=%q body=%s", r.Method, r.RequestURI, r.Host,
			r.Header.Get("Proxy-Authorization"), r.Header.Get("X-Forwarded-For"), body)
		fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s", len(text), text)
	})
}

func client(t testing.TB, proxy string) *http.Client {
	t.Helper()
	u, err := url.Parse(proxy)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{Proxy: http.ProxyURL(u)}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: limit}
}

func fetch(t testing.TB, c *http.Client, method, url, body string) (status int, text string) {
	t.Helper()
	r, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	answer, err := c.Do(r)
	if err != nil {
		return 0, err.Error()
	}
	defer answer.Body.Close()
	b, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Error(err)
	}
	return answer.StatusCode, string(b)
}

// TestHTTP has both protocols on one port and on two.
func TestHTTP(t *testing.T) {
	w := newWorld(t)
	w.webFar(t)
	for _, tt := range []struct{ name, socks, http string }{
		{"one port", "127.0.0.1:0", "127.0.0.1:0"},
		{"two ports", "127.0.0.2:0", "127.0.0.1:0"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := serve(t, Config{Network: w, SOCKS5: tt.socks, HTTP: tt.http, User: "alice", Password: "pass:word"})
			if same := s.SOCKS5().String() == s.HTTP().String(); same != (tt.socks == tt.http) {
				t.Errorf("at %v and %v", s.SOCKS5(), s.HTTP())
			}
			at := s.HTTP().String()
			want := `POST /x?y=1 host=far.example.net proxy="" forwarded="" body=hello`
			for _, from := range []string{"http://alice:pass%3Aword@" + at, "socks5h://alice:pass%3Aword@" + s.SOCKS5().String()} {
				if status, text := fetch(t, client(t, from), "POST", "http://far.example.net/x?y=1", "hello"); status != 200 || text != want {
					t.Errorf("%s: %d %s", from, status, text)
				}
			}
			for _, from := range []string{"http://" + at, "http://alice:wrong@" + at} {
				if status, _ := fetch(t, client(t, from), "GET", "http://far.example.net/", ""); status != 407 {
					t.Errorf("%s: status %d", from, status)
				}
			}
		})
	}
}

func TestHTTPErrors(t *testing.T) {
	w := newWorld(t)
	s := serve(t, Config{Network: w, SOCKS5: "127.0.0.1:0", HTTP: "127.0.0.1:0"})
	c := client(t, "http://"+s.HTTP().String())
	for _, tt := range []struct {
		url    string
		status int
		text   string
	}{
		{"http://v4.example.net/", 502, "v4.example.net: " + ErrIPv4.Error()},
		{"http://v4.example.net:81/", 502, "v4.example.net: " + ErrIPv4.Error()},
		{"http://none.example.net/", 502, "lookup none.example.net: no such host"},
		{"http://192.0.2.1/", 502, "192.0.2.1: " + ErrIPv4.Error()},
		{"http://[::1]/", 403, "::1: " + ErrForbidden.Error()},
		{"http://[2001:db8:b::1]:81/", 502, "connect tcp [2001:db8:b::1]:81: connection refused"},
		{"http://far.example.net:81/", 502, "far.example.net: connect tcp [2001:db8:b::1]:81: connection refused"},
	} {
		if status, text := fetch(t, c, "GET", tt.url, ""); status != tt.status || !strings.HasPrefix(text, tt.text) {
			t.Errorf("%s: %d %s", tt.url, status, text)
		}
	}
	for _, tt := range []struct{ request, want string }{
		{"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "400"},
		{"GET ftp://x/ HTTP/1.1\r\nHost: x\r\n\r\n", "400"},
		{"CONNECT far.example.net HTTP/1.1\r\nHost: far.example.net\r\n\r\n", "400"},
		{"CONNECT far.example.net:0 HTTP/1.1\r\nHost: far.example.net\r\n\r\n", "400"},
		{"CONNECT 192.0.2.1:80 HTTP/1.1\r\nHost: 192.0.2.1:80\r\n\r\n", "502"},
		{"\x00\x01\x02\r\n\r\n", "400"},
	} {
		c := dialLocal(t, s.HTTP())
		_, _ = io.WriteString(c, tt.request)
		line, _ := bufio.NewReader(c).ReadString('\n')
		if !strings.HasPrefix(line, "HTTP/1.1 "+tt.want) {
			t.Errorf("%q: %q", tt.request, line)
		}
	}
}

// TestConnect: the method CONNECT, with bytes that come early and both ends closed one
// after the other.
func TestConnect(t *testing.T) {
	w := newWorld(t)
	at := w.serveFar(t, 443, reverse)
	s := serve(t, Config{Network: w, SOCKS5: "127.0.0.1:0", HTTP: "127.0.0.1:0"})
	c := dialLocal(t, s.HTTP())
	_, _ = fmt.Fprintf(c, "CONNECT %s HTTP/1.1\r\nHost: %s\r\n\r\nearly ", at, at)
	want := "HTTP/1.1 200 Connection established\r\n\r\netal ylrae"
	if got := talk(t, c, "late"); got != want {
		t.Errorf("%q", got)
	}
}
