package proxy

import (
	"context"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/things-go/go-socks5"
	"github.com/things-go/go-socks5/statute"
)

// replies are the answers of RFC 1928, Section 6.
var replies = map[kind]uint8{
	general:     statute.RepServerFailure,
	refused:     statute.RepConnectionRefused,
	unreachable: statute.RepHostUnreachable,
	noRoute:     statute.RepNetworkUnreachable,
	tooLate:     statute.RepTTLExpired,
	notIPv6:     statute.RepAddrTypeNotSupported,
	forbidden:   statute.RepRuleFailure,
}

// socks serves one SOCKS5 connection. The library reads what the client says;
// what is done about it is ours: its own handlers cannot be ended, and tell errors
// apart by their texts.
func (s *Server) socks(ctx context.Context, c net.Conn) {
	options := []socks5.Option{
		socks5.WithResolver(unresolved{}),
		socks5.WithConnectHandle(func(_ context.Context, _ io.Writer, r *socks5.Request) error {
			return s.socksConnect(ctx, c, r)
		}),
		socks5.WithAssociateHandle(func(_ context.Context, _ io.Writer, r *socks5.Request) error {
			return s.socksAssociate(ctx, c, r)
		}),
	}
	if s.cfg.User != "" {
		options = append(options, socks5.WithCredential(credentials{s}))
	}
	if err := socks5.NewServer(options...).ServeConn(c); err != nil {
		s.log.Debug("socks", "from", c.RemoteAddr(), "error", err)
	}
}

// unresolved leaves names as they are: they are looked up when it is known what for.
type unresolved struct{}

// Resolve is socks5.NameResolver's.
func (unresolved) Resolve(ctx context.Context, _ string) (context.Context, net.IP, error) {
	return ctx, nil, nil
}

// credentials is socks5.CredentialStore.
type credentials struct{ s *Server }

// Valid is socks5.CredentialStore's.
func (c credentials) Valid(user, password, _ string) bool { return c.s.allowed(user, password) }

// hostOf is where a request goes, as a name or a literal address.
func hostOf(a *statute.AddrSpec) string {
	if a.FQDN != "" {
		return a.FQDN
	}
	return a.IP.String()
}

// socksConnect is the command CONNECT.
func (s *Server) socksConnect(ctx context.Context, c net.Conn, r *socks5.Request) error {
	_ = c.SetDeadline(time.Time{}) // what is wanted is known, and how long it may take is up to dial
	to, err := s.dial(ctx, "tcp", hostOf(r.RawDestAddr), uint16(r.RawDestAddr.Port))
	if err != nil {
		_ = socks5.SendReply(c, replies[kindOf(err)], nil)
		return fmt.Errorf("connect to %s: %w", hostOf(r.RawDestAddr), err)
	}
	if err := socks5.SendReply(c, statute.RepSuccess, to.LocalAddr()); err != nil {
		_ = to.Close()
		return err
	}
	relay(ctx, c, r.Reader, to)
	return nil
}
