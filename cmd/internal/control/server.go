package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

const (
	statusPath = "/v1/status"
	drainPath  = "/v1/drain"
	// mode lets the owner and the group ask, as a socket needs write permission.
	mode fs.FileMode = 0o660
	// patience is how long a client may take for any part of a request.
	patience = 5 * time.Second
	// maxHeader bounds a request in bytes; ours has about 100.
	maxHeader = 8 << 10
)

// ErrInUse is the cause when another process answers on the socket.
var ErrInUse = errors.New("a tunnel is running on this socket already")

// Config is what a Server needs.
type Config struct {
	Path   string        // of the socket; its directory is made when missing
	Status func() Tunnel // called for each request, at any time
	Drain  func(on bool) // of a broker: take no new tunnels, or take them again; nil when there is no such thing
	Logger *slog.Logger  // nil discards
}

// Server answers on a Unix socket.
type Server struct {
	listener net.Listener
	http     *http.Server
	madeDir  string // directory to remove again, when it is empty
}

// Listen opens the socket, and replaces one that nobody listens on any more. It
// returns an error with [ErrInUse] when somebody does. Requests are answered
// once Run is called; Close must be called in any case.
func Listen(cfg Config) (*Server, error) {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Server{http: newHTTP(cfg)}
	err := s.makeDir(filepath.Dir(cfg.Path))
	if err == nil {
		err = removeStale(cfg.Path)
	}
	if err == nil {
		s.listener, err = net.Listen("unix", cfg.Path)
	}
	if err == nil {
		err = os.Chmod(cfg.Path, mode)
	}
	if err != nil {
		return nil, errors.Join(explain(cfg.Path, err), s.Close())
	}
	return s, nil
}

func (s *Server) makeDir(dir string) error {
	err := os.Mkdir(dir, 0o755)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err == nil {
		s.madeDir = dir
	}
	return err
}

// explain tells what to do where the socket cannot be made.
func explain(path string, err error) error {
	err = fmt.Errorf("control socket %s: %w", path, cause(err))
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.EROFS) {
		err = fmt.Errorf("%w (--socket PATH puts it elsewhere)", err)
	}
	return err
}

// cause is the innermost reason of an error whose path is said already.
func cause(err error) error {
	if errno := syscall.Errno(0); errors.As(err, &errno) {
		return errno
	}
	return err
}

// removeStale removes a socket that a killed process left behind: the file is
// there and connecting is refused.
func removeStale(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Mode()&fs.ModeSocket == 0 {
		return errors.New("exists and is not a socket")
	}
	c, err := net.DialTimeout("unix", path, patience)
	if err == nil {
		c.Close()
		return ErrInUse
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return err
	}
	return os.Remove(path)
}

func newHTTP(cfg Config) *http.Server {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+statusPath, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		if err := e.Encode(Status{Tunnels: []Tunnel{cfg.Status()}}); err != nil {
			cfg.Logger.Debug("status not sent", "error", err)
		}
	})
	if cfg.Drain != nil {
		mux.HandleFunc("POST "+drainPath, func(w http.ResponseWriter, r *http.Request) {
			on, err := strconv.ParseBool(r.URL.Query().Get("on"))
			if err != nil {
				http.Error(w, "on: true or false", http.StatusBadRequest)
				return
			}
			cfg.Drain(on)
			w.WriteHeader(http.StatusNoContent)
		})
	}
	return &http.Server{
		Handler:        mux,
		ReadTimeout:    patience,
		WriteTimeout:   patience,
		IdleTimeout:    patience,
		MaxHeaderBytes: maxHeader,
		ErrorLog:       slog.NewLogLogger(cfg.Logger.Handler(), slog.LevelDebug),
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
	return fmt.Errorf("control: %w", err)
}

// Close removes the socket, and its directory when Listen made it and nothing
// else is in it. It is idempotent.
func (s *Server) Close() error {
	err := s.http.Close()
	if s.listener != nil {
		err = errors.Join(err, s.listener.Close())
	}
	if errors.Is(err, net.ErrClosed) {
		err = nil
	}
	if s.madeDir != "" {
		os.Remove(s.madeDir) // fails when another tunnel has its socket there, as it should
	}
	return err
}
