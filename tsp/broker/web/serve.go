package web

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync"
	"time"
)

// What a connection may take, so that those that are slow on purpose keep nobody out.
const (
	headerTime = 10 * time.Second
	readTime   = 20 * time.Second
	writeTime  = 30 * time.Second
	idleConn   = time.Minute
	maxHeader  = 16 << 10
	goodbye    = 5 * time.Second
)

// Run serves the site on a listener, which it closes, until ctx ends, and returns nil
// then. With a TLS configuration it speaks https.
func (s *Site) Run(ctx context.Context, l net.Listener, config *tls.Config) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	server := &http.Server{
		Handler: s, TLSConfig: config,
		ReadHeaderTimeout: headerTime, ReadTimeout: readTime, WriteTimeout: writeTime, IdleTimeout: idleConn,
		MaxHeaderBytes: maxHeader,
		ErrorLog:       slog.NewLogLogger(s.config.Logger.Handler(), slog.LevelDebug),
	}
	var wg sync.WaitGroup
	wg.Go(func() { s.measure(ctx) })
	for range postmen {
		wg.Go(func() { s.postman(ctx) })
	}
	wg.Go(func() {
		<-ctx.Done()
		late, stop := context.WithTimeout(context.WithoutCancel(ctx), goodbye)
		defer stop()
		if server.Shutdown(late) != nil {
			_ = server.Close() // there is nobody to tell
		}
	})
	bounded := newBoundedListener(l, s)
	server.ConnState = bounded.state
	var err error
	if config != nil {
		err = server.ServeTLS(bounded, "", "")
	} else {
		err = server.Serve(bounded)
	}
	cancel()
	wg.Wait()
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("web: %w", err)
}

// certificates looks for a new certificate at most so often.
const certificateTime = time.Minute

// Certificate makes a TLS configuration of a certificate with its chain and its key, both
// PEM. Files that are renewed are read again, without a restart; as long as they do not
// fit each other, the ones before stay in use.
func Certificate(certFile, keyFile string, logger *slog.Logger) (*tls.Config, error) {
	c := &certificate{cert: certFile, key: keyFile, logger: logger}
	if err := c.read(); err != nil {
		return nil, err
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: c.get}, nil
}

type certificate struct {
	cert, key string
	logger    *slog.Logger

	mu       sync.Mutex
	looked   time.Time
	modified [2]time.Time
	current  *tls.Certificate
}

func (c *certificate) read() error {
	pair, err := tls.LoadX509KeyPair(c.cert, c.key)
	if err != nil {
		return fmt.Errorf("certificate: %w", err)
	}
	c.current, c.looked, c.modified = &pair, time.Now(), c.times()
	return nil
}

// times are when the files were changed; zero for one that is not there.
func (c *certificate) times() (t [2]time.Time) {
	for i, name := range []string{c.cert, c.key} {
		if info, err := os.Stat(name); err == nil {
			t[i] = info.ModTime()
		}
	}
	return t
}

func (c *certificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if time.Since(c.looked) < certificateTime {
		return c.current, nil
	}
	c.looked = time.Now()
	if c.times() == c.modified {
		return c.current, nil
	}
	if err := c.read(); err != nil && c.logger != nil {
		c.logger.Warn("the new certificate is not used", "error", err)
	}
	return c.current, nil
}
