package metrics

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"golang.org/x/net/netutil"
)

const (
	// patience is how long a client may take for any part of a request, and for
	// taking the answer.
	patience = 5 * time.Second
	// maxHeader bounds a request in bytes; that of Prometheus has about 300.
	maxHeader = 8 << 10
	// maxConns is how many clients there may be; others wait.
	maxConns = 32
)

// Config is what a Server needs.
type Config struct {
	Addr  netip.AddrPort // to listen on, TCP; the port is not 0
	Build Build
	// Collect adds the samples of a page. It is called for one request at a time.
	Collect func(context.Context, *Page)
	// Ready returns why the process does not do its work at present, or nil.
	Ready  func(context.Context) error
	Logger *slog.Logger // nil discards
}

// Server answers over HTTP.
type Server struct {
	cfg      Config
	listener net.Listener
	http     *http.Server
	one      sync.Mutex // held by the request that collects
}

// Listen opens the address. Requests are answered once Run is called; Close must be
// called in any case. Its error says what to do, and wraps that of the system.
func Listen(cfg Config) (*Server, error) {
	l, err := net.Listen("tcp", cfg.Addr.String())
	if err != nil {
		return nil, explain(cfg.Addr, err)
	}
	s := server(cfg)
	s.listener = netutil.LimitListener(l, maxConns)
	return s, nil
}

// server is one that has no listener yet.
func server(cfg Config) *Server {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Server{cfg: cfg}
	s.http = &http.Server{
		Handler:           s.handler(),
		ReadHeaderTimeout: patience,
		ReadTimeout:       patience,
		WriteTimeout:      2 * patience, // it begins with the request
		IdleTimeout:       patience,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          slog.NewLogLogger(cfg.Logger.Handler(), slog.LevelDebug),
	}
	return s
}

// explain says what to do where an address cannot be had.
func explain(addr netip.AddrPort, err error) error {
	if errno := syscall.Errno(0); errors.As(err, &errno) {
		err = errno // the rest is said already
	}
	hint := ""
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		hint = ": another program has this port (ss -lntp shows it); --metrics ADDRESS:PORT takes another"
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		hint = ": no interface of this host has this address; 127.0.0.1 is always there"
	case errors.Is(err, syscall.EACCES):
		hint = ": ports under 1024 need CAP_NET_BIND_SERVICE; take a higher one, like 9641"
	}
	return fmt.Errorf("metrics on %s: %w%s", addr, err, hint)
}

func (s *Server) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /metrics", s.metrics)
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		s.write(w, "text/plain; charset=utf-8", http.StatusOK, []byte("ok\n"))
	})
	mux.HandleFunc("GET /readyz", s.ready)
	return mux
}

func (s *Server) metrics(w http.ResponseWriter, r *http.Request) {
	s.write(w, "text/plain; version=0.0.4; charset=utf-8", http.StatusOK, s.page(r.Context()))
}

func (s *Server) page(ctx context.Context) []byte {
	s.one.Lock()
	defer s.one.Unlock() // also when Collect panics, which net/http survives
	var p Page
	p.build(s.cfg.Build)
	s.cfg.Collect(ctx, &p)
	p.process()
	return p.Bytes()
}

// readiness is the answer of /readyz.
type readiness struct {
	Ready  bool   `json:"ready"`
	Reason string `json:"reason,omitempty"`
}

func (s *Server) ready(w http.ResponseWriter, r *http.Request) {
	answer, status := readiness{Ready: true}, http.StatusOK
	if err := s.cfg.Ready(r.Context()); err != nil {
		answer, status = readiness{Reason: err.Error()}, http.StatusServiceUnavailable
	}
	text, err := json.Marshal(answer)
	if err != nil {
		http.Error(w, "no answer", http.StatusInternalServerError) // two plain fields: it does not come to this
		return
	}
	s.write(w, "application/json", status, append(text, '\n'))
}

func (s *Server) write(w http.ResponseWriter, kind string, status int, text []byte) {
	w.Header().Set("Content-Type", kind)
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	if _, err := w.Write(text); err != nil {
		s.cfg.Logger.Debug("metrics not sent", "error", err)
	}
}

// Run answers requests until ctx ends, and returns nil then.
func (s *Server) Run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { s.http.Close() })
	defer stop()
	err := s.http.Serve(s.listener)
	if ctx.Err() != nil || errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("metrics: %w", err)
}

// Close frees the address. It is idempotent.
func (s *Server) Close() error {
	err := errors.Join(s.http.Close(), s.listener.Close())
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}
