package client

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"time"

	"sixin4/tsp"
)

const (
	// maxRedirects bounds how often one broker after the other may send us on.
	maxRedirects = 5
	// maxAddrs bounds the addresses of one name that are tried.
	maxAddrs = 8
	// resolveLimit bounds looking a name up.
	resolveLimit = 5 * time.Second
)

// errTooLong ends what a broker draws out.
var errTooLong = fmt.Errorf("the negotiation took too long: %w", tsp.ErrNoAnswer)

var (
	errNoRoute = errors.New("no route")
	errNoAddr  = errors.New("no IPv4 address")
	errTried   = errors.New("tried before")
)

// attempt is one way through the brokers to a lease. It has a goroutine of its own, and
// changes nothing but itself: the rest it posts.
type attempt struct {
	cfg    *Config
	log    *slog.Logger
	prefer Server // comes first; zero for none
	post   func(ctx context.Context, f func())
	note   func(endpoints) // to be posted
	been   map[netip.AddrPort]bool
}

// target is a server, with its addresses when they are known.
type target struct {
	Server
	addrs []netip.Addr
}

func (a *attempt) tell(ctx context.Context, e Event) {
	a.post(ctx, func() { a.cfg.Observe(e) })
}

// run goes through the servers, each with what it redirects to, until one gives a lease.
func (a *attempt) run(ctx context.Context) (*Lease, error) {
	servers, only := a.servers()
	l, errs := a.try(ctx, servers, only)
	if l == nil && !only && !slices.ContainsFunc(errs, func(e *Error) bool { return !e.unreached() }) {
		var more []*Error
		l, more = a.try(ctx, a.remembered(), false)
		errs = append(errs, more...)
	}
	if l != nil {
		return l, nil
	}
	return nil, pick(errs)
}

// servers are those to begin with; only when no other may be used.
func (a *attempt) servers() (servers []Server, only bool) {
	if text, ok := a.cfg.Memory.Last(); ok && a.cfg.AlwaysSame {
		if s, ok := parseServer(text); ok {
			return []Server{s}, true
		}
	}
	for _, s := range append([]Server{a.prefer}, a.cfg.Servers...) {
		if s != (Server{}) && !slices.Contains(servers, s) {
			servers = append(servers, s)
		}
	}
	return servers, false
}

// remembered are the brokers of an earlier redirection.
func (a *attempt) remembered() []Server {
	var servers []Server
	for _, text := range a.cfg.Memory.List() {
		if s, ok := parseServer(text); ok && len(servers) < maxBrokers {
			servers = append(servers, s)
		}
	}
	return servers
}

// maxBrokers is the length of the longest list that a broker may send.
const maxBrokers = 50

// try asks servers one after the other, until one of them gives a lease.
func (a *attempt) try(ctx context.Context, servers []Server, only bool) (*Lease, []*Error) {
	var errs []*Error
	for _, s := range servers {
		if ctx.Err() != nil {
			break
		}
		a.log.Info("connecting", "server", s.String())
		a.tell(ctx, Connecting{s})
		l, err := a.follow(ctx, s, only)
		if err == nil {
			return l, errs
		}
		if !errors.Is(err, errTried) {
			errs = append(errs, asError(err, s))
			a.log.Debug("no lease from this server", "error", err)
		}
	}
	return nil, errs
}

// pick is the error that says most: one that may be gone the next time, the last of
// them, or else the first.
func pick(errs []*Error) error {
	for _, e := range slices.Backward(errs) {
		if !e.Permanent() {
			return e
		}
	}
	if len(errs) == 0 {
		return errTooLong
	}
	return errs[0]
}

// follow asks one server, and those that it redirects to.
func (a *attempt) follow(ctx context.Context, s Server, only bool) (*Lease, error) {
	targets := []target{{Server: s}}
	for range maxRedirects + 1 {
		l, where, err := a.first(ctx, targets)
		status := redirection(err)
		if status == nil {
			return l, err
		}
		a.log.Info("redirected", "server", where.server.String(), "brokers", len(status.Brokers))
		a.tell(ctx, Redirected{status.Brokers})
		if only {
			return nil, fail(Redirect, where.server, fmt.Errorf("redirected, but no other server may be used: %w", err))
		}
		if targets, err = a.choose(ctx, where, status); err != nil {
			return nil, fail(Redirect, where.server, err)
		}
	}
	return nil, fail(Redirect, s, fmt.Errorf("redirected more than %d times", maxRedirects))
}

// redirection is the status that err is when it sends us elsewhere, or nil.
func redirection(err error) *tsp.Error {
	var status *tsp.Error
	if errors.As(err, &status) && status.Code.Redirects() {
		return status
	}
	return nil
}

// place is a broker as it was spoken to.
type place struct {
	server Server
	at     netip.AddrPort
}

// first asks targets, and their addresses, until one of them is a broker, whatever its
// answer is.
func (a *attempt) first(ctx context.Context, targets []target) (l *Lease, where place, err error) {
	err = errTried
	for _, t := range targets {
		if t.addrs == nil {
			var failed error
			if t.addrs, failed = a.resolve(ctx, t.Host); failed != nil {
				err = fail(Resolve, t.Server, failed)
				continue
			}
		}
		for _, addr := range t.addrs {
			where = place{t.Server, netip.AddrPortFrom(addr, t.port())}
			if a.been[where.at] {
				continue
			}
			a.been[where.at] = true
			l, err = a.ask(ctx, where)
			var e *Error
			if !errors.As(err, &e) || !e.unreached() || ctx.Err() != nil {
				return l, where, err
			}
		}
	}
	return nil, where, err
}

// resolve gives the IPv4 addresses of a host.
func (a *attempt) resolve(ctx context.Context, host string) ([]netip.Addr, error) {
	found := []netip.Addr{}
	if literal, err := netip.ParseAddr(host); err == nil {
		found = append(found, literal)
	} else {
		ctx, cancel := context.WithTimeoutCause(ctx, resolveLimit, errSlow)
		defer cancel()
		if found, err = a.cfg.Network.Resolve(ctx, host); err != nil {
			if ctx.Err() != nil {
				err = context.Cause(ctx)
			}
			return nil, fmt.Errorf("resolve: %w", err)
		}
	}
	var addrs []netip.Addr
	for _, addr := range found {
		if addr = addr.Unmap(); addr.Is4() && !slices.Contains(addrs, addr) && len(addrs) < maxAddrs {
			addrs = append(addrs, addr)
		}
	}
	if addrs == nil {
		return nil, fmt.Errorf("resolve: %w", errNoAddr)
	}
	return addrs, nil
}
