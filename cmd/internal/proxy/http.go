package proxy

import (
	"context"
	"encoding/base64"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"strings"
	"time"
)

// statuses are what HTTP clients are told (RFC 9110, Section 15).
var statuses = map[kind]int{
	general:     http.StatusBadGateway,
	refused:     http.StatusBadGateway,
	unreachable: http.StatusBadGateway,
	noRoute:     http.StatusBadGateway,
	tooLate:     http.StatusGatewayTimeout,
	notIPv6:     http.StatusBadGateway,
	forbidden:   http.StatusForbidden,
}

// maxHeader bounds what a client may send before its request is known, in bytes.
const maxHeader = 64 << 10

// newTransport is what plain requests leave by until ctx ends.
func (s *Server) newTransport(ctx context.Context) *http.Transport {
	return &http.Transport{
		DialContext: func(dialing context.Context, network, address string) (net.Conn, error) {
			host, port, err := splitHostPort(address)
			if err != nil {
				return nil, err
			}
			dialing, cancel := context.WithCancel(dialing) // which goes on without its request
			defer cancel()
			defer context.AfterFunc(ctx, cancel)()
			return s.dial(dialing, network, host, port)
		},
		DisableCompression:  true, // what the client asked for is what it gets
		IdleConnTimeout:     idleTime,
		MaxIdleConnsPerHost: 8,
	}
}

// httpServer is the HTTP proxy until ctx ends.
func (s *Server) httpServer(ctx context.Context, transport http.RoundTripper) *http.Server {
	quiet := slog.NewLogLogger(s.log.Handler(), slog.LevelDebug)
	forward := &httputil.ReverseProxy{
		Rewrite:       func(r *httputil.ProxyRequest) { r.Out.Host = r.In.Host },
		Transport:     transport,
		FlushInterval: -1,
		BufferPool:    pool{},
		ErrorHandler:  s.httpError,
		ErrorLog:      quiet,
	}
	return &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			visit, ok := r.Context().Value(visitKey{}).(*peeked)
			if !ok || !visit.begin() {
				return
			}
			defer visit.end()
			defer func() {
				if e := recover(); e != nil { // what the client got is not whole, and only its end may say so
					setLinger(visit)
					panic(e)
				}
			}()
			s.httpRequest(ctx, w, r, forward)
		}),
		ReadHeaderTimeout: handshakeTime,
		IdleTimeout:       idleTime,
		MaxHeaderBytes:    maxHeader,
		BaseContext:       func(net.Listener) context.Context { return ctx },
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, visitKey{}, c)
		},
		ErrorLog: quiet,
	}
}

// visitKey is the connection of a request in its context.
type visitKey struct{}

// httpRequest answers one request.
func (s *Server) httpRequest(ctx context.Context, w http.ResponseWriter, r *http.Request, forward http.Handler) {
	switch {
	case !s.httpAllowed(r):
		w.Header().Set("Proxy-Authenticate", `Basic realm="sixin4"`)
		http.Error(w, "user and password of the proxy are needed", http.StatusProxyAuthRequired)
	case r.Method == http.MethodConnect:
		s.httpConnect(ctx, w, r)
	case r.URL.Scheme != "http" || r.URL.Host == "":
		http.Error(w, "this is a proxy: set it as http_proxy; requests need a whole http:// address", http.StatusBadRequest)
	default:
		forward.ServeHTTP(w, r)
	}
}

// httpAllowed reports whether a request shows the right user and password.
func (s *Server) httpAllowed(r *http.Request) bool {
	if s.cfg.User == "" {
		return true
	}
	scheme, code, _ := strings.Cut(r.Header.Get("Proxy-Authorization"), " ")
	both, err := base64.StdEncoding.DecodeString(strings.TrimSpace(code))
	user, password, ok := strings.Cut(string(both), ":")
	return s.allowed(user, password) && ok && err == nil && strings.EqualFold(scheme, "Basic")
}

// hostname is where a request goes, without the port.
func hostname(r *http.Request) string {
	if host, _, err := net.SplitHostPort(r.Host); err == nil {
		return host
	}
	return strings.Trim(r.Host, "[]")
}

func (s *Server) httpError(w http.ResponseWriter, r *http.Request, err error) {
	s.log.Debug("http", "to", r.Host, "error", err)
	http.Error(w, about(hostname(r), err), statuses[kindOf(err)])
}

// httpConnect is the method CONNECT.
func (s *Server) httpConnect(ctx context.Context, w http.ResponseWriter, r *http.Request) {
	host, port, err := splitHostPort(r.Host)
	if err != nil {
		http.Error(w, "CONNECT needs HOST:PORT", http.StatusBadRequest)
		return
	}
	to, err := s.dial(ctx, "tcp", host, port)
	if err != nil {
		s.httpError(w, r, err)
		return
	}
	c, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		_ = to.Close()
		return
	}
	_ = c.SetDeadline(time.Time{})
	if _, err := c.Write([]byte("HTTP/1.1 200 Connection established\r\n\r\n")); err != nil {
		_, _ = to.Close(), c.Close()
		return
	}
	relay(ctx, c, buffered, to)
}

// pool is httputil.BufferPool.
type pool struct{}

// Get is httputil.BufferPool's.
func (pool) Get() []byte {
	b, _ := relayBuffers.Get().(*[relayBuffer]byte)
	return b[:]
}

// Put is httputil.BufferPool's.
func (pool) Put(b []byte) { relayBuffers.Put((*[relayBuffer]byte)(b)) }
