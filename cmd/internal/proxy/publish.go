package proxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"time"
)

// Publish is a port of the tunnel's address behind which is a server of this host.
type Publish struct {
	Port uint16 // TCP, at every address of the tunnel
	To   string // address and port that net.Dial takes
}

// String is [::]:PORT=TO.
func (p Publish) String() string {
	return net.JoinHostPort("::", strconv.Itoa(int(p.Port))) + "=" + p.To
}

// localTime is how long the server on this host may take to accept.
const localTime = 10 * time.Second

// publish serves one port until ctx ends.
func (s *Server) publish(ctx context.Context, p Publish) error {
	l, err := s.cfg.Network.Listen("tcp", net.JoinHostPort("::", strconv.Itoa(int(p.Port))))
	if err != nil {
		return fmt.Errorf("publish %v: %w", p, err)
	}
	defer closeWith(ctx, l)()
	slots := make(chan struct{}, s.cfg.MaxConns)
	for {
		c, err := accept(ctx, l)
		if ctx.Err() != nil {
			if err == nil {
				_ = c.Close()
			}
			return nil
		}
		if err != nil {
			return fmt.Errorf("publish %v: %w", p, err)
		}
		select {
		case slots <- struct{}{}:
		default: // strangers do not make us wait
			_ = c.Close()
			continue
		}
		s.conns.Go(func() {
			defer func() { <-slots }()
			s.answer(ctx, c, p)
		})
	}
}

// answer connects one stranger with the server on this host.
func (s *Server) answer(ctx context.Context, c net.Conn, p Publish) {
	d := net.Dialer{Timeout: localTime}
	to, err := d.DialContext(ctx, "tcp", p.To)
	if err != nil {
		_ = c.Close()
		if !errors.Is(err, context.Canceled) {
			s.log.Warn("nobody answers for a published port", "port", p.Port, "to", p.To, "error", err)
		}
		return
	}
	relay(ctx, c, c, to)
}
