package proxy

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Errors that say why a destination is refused.
var (
	// ErrIPv4 is a destination that has an IPv4 address only.
	ErrIPv4 = errors.New("there is no IPv6 address, and this tunnel carries nothing else (--direct-ipv4 reaches IPv4 past the tunnel)")
	// ErrForbidden is an address that is no destination: of this host, or of a link.
	ErrForbidden = errors.New("not an address that can be reached through the tunnel")
)

// dial connects to a host, a name or a literal address, through the tunnel, or
// directly where it has IPv4 only and that is allowed.
func (s *Server) dial(ctx context.Context, network, host string, port uint16) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTime)
	defer cancel()
	all, err := s.resolve(ctx, host)
	if err != nil {
		return nil, err
	}
	var errs []error
	for i, a := range all {
		c, err := s.dialOne(ctx, len(all)-i, network, netip.AddrPortFrom(a, port))
		if err == nil {
			return c, nil
		}
		errs = append(errs, err)
	}
	return nil, errors.Join(errs...)
}

// dialOne connects to one address that resolve has let through, the first of so many that
// have an equal part each of the time that is left.
func (s *Server) dialOne(ctx context.Context, left int, network string, to netip.AddrPort) (net.Conn, error) {
	if end, ok := ctx.Deadline(); ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Until(end)/time.Duration(left))
		defer cancel()
	}
	if to.Addr().Is4() {
		return s.direct(ctx, network+"4", to.String())
	}
	return s.cfg.Network.DialContext(ctx, network, to.String())
}

// maxTries is how many addresses of one name are tried.
const maxTries = 4

// resolve returns the addresses of a host that may be dialled, at least one. IPv6
// comes through the tunnel; IPv4 is there only where there is no IPv6 and it is
// allowed.
func (s *Server) resolve(ctx context.Context, host string) ([]netip.Addr, error) {
	ctx, cancel := context.WithTimeout(ctx, resolveTime)
	defer cancel()
	all, err := s.lookUp(ctx, host)
	if err != nil {
		return nil, err
	}
	var good []netip.Addr
	for _, a := range all {
		a = a.Unmap()
		switch {
		case isForbidden(a), a.Is4() && s.own(a):
			err = ErrForbidden
		case a.Is4() && !s.cfg.DirectIPv4:
			err = ErrIPv4
		case len(good) < maxTries:
			good = append(good, a)
		}
	}
	if len(good) > 0 {
		return good, nil
	}
	if err == nil {
		err = &net.DNSError{Err: "no address", Name: host, IsNotFound: true}
	}
	return nil, err
}

// lookUp returns all addresses of a host, which may be a literal.
func (s *Server) lookUp(ctx context.Context, host string) ([]netip.Addr, error) {
	if a, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{a}, nil
	}
	if host == "" || len(host) > 255 {
		return nil, errors.New("not a host name")
	}
	all, err := s.cfg.Network.Resolve(ctx, "ip6", host)
	if !isNotFound(err) {
		return all, err
	}
	if s.cfg.DirectIPv4 {
		return net.DefaultResolver.LookupNetIP(ctx, "ip4", host)
	}
	if old, _ := s.cfg.Network.Resolve(ctx, "ip4", host); len(old) > 0 {
		return nil, ErrIPv4
	}
	return nil, err // there is no such name
}

func isNotFound(err error) bool {
	var dns *net.DNSError
	return errors.As(err, &dns) && dns.IsNotFound
}

// isForbidden reports whether a is no unicast address of another host: whoever may
// use the proxy must not reach this host's own services by it, nor those that clouds
// have at link-local addresses.
func isForbidden(a netip.Addr) bool {
	return a.IsLoopback() || a.IsUnspecified() || a.IsMulticast() || a.IsLinkLocalUnicast() ||
		a == netip.AddrFrom4([4]byte{255, 255, 255, 255}) || a.Zone() != ""
}

// isOwn reports whether an address is this host's. What is not known is taken for its own.
func isOwn(a netip.Addr) bool {
	all, err := net.InterfaceAddrs()
	return err != nil || slices.ContainsFunc(all, func(one net.Addr) bool {
		p, err := netip.ParsePrefix(one.String())
		return err == nil && p.Addr() == a
	})
}

// about puts a host before an error that does not name it already.
func about(host string, err error) string {
	if text := err.Error(); strings.Contains(text, host) {
		return text
	}
	return host + ": " + err.Error()
}

// splitHostPort is net.SplitHostPort with a number.
func splitHostPort(address string) (host string, port uint16, err error) {
	host, text, err := net.SplitHostPort(address)
	if err != nil {
		return "", 0, err
	}
	n, err := strconv.ParseUint(text, 10, 16)
	if err == nil && n == 0 {
		err = errors.New("port 0")
	}
	return host, uint16(n), err
}

// kind is what clients are told about a failure.
type kind uint8

const (
	general kind = iota
	refused
	unreachable
	noRoute
	tooLate
	notIPv6
	forbidden
)

// kindOf sorts errors of dial.
func kindOf(err error) kind {
	var timeout interface{ Timeout() bool }
	switch {
	case errors.Is(err, ErrIPv4):
		return notIPv6
	case errors.Is(err, ErrForbidden):
		return forbidden
	case errors.Is(err, syscall.ECONNREFUSED):
		return refused
	case errors.Is(err, syscall.ENETUNREACH):
		return noRoute
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, syscall.ETIMEDOUT),
		errors.As(err, &timeout) && timeout.Timeout():
		return tooLate
	case errors.Is(err, syscall.EHOSTUNREACH), isNotFound(err):
		return unreachable
	}
	return general
}
