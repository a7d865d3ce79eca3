package proxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"
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
	var silent complaint
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
			_ = cut(c)
			continue
		}
		s.conns.Go(func() {
			defer func() { <-slots }()
			s.answer(ctx, c, p, &silent)
		})
	}
}

// answer connects one stranger with the server on this host, and complains when that is
// silent.
func (s *Server) answer(ctx context.Context, c net.Conn, p Publish, silent *complaint) {
	d := net.Dialer{Timeout: localTime}
	to, err := d.DialContext(ctx, "tcp", p.To)
	if err != nil {
		_ = cut(c)
		if errors.Is(err, context.Canceled) {
			return
		}
		if untold, due := silent.due(); due {
			s.log.Warn("nobody answers for a published port", "port", p.Port, "to", p.To, "error", err, "untold", untold)
		}
		return
	}
	relay(ctx, c, c, to)
}

// complaintTime is between two complaints about one thing.
const complaintTime = time.Minute

// complaint keeps strangers, who cause it as often as they like, from filling the log.
type complaint struct {
	mu     sync.Mutex
	last   time.Time
	untold int // since last
}

// due reports whether to complain now, and how many times it was not since the last one.
func (c *complaint) due() (untold int, due bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.last.IsZero() && time.Since(c.last) < complaintTime {
		c.untold++
		return 0, false
	}
	untold, c.untold, c.last = c.untold, 0, time.Now()
	return untold, true
}
