package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/things-go/go-socks5"
	"github.com/things-go/go-socks5/statute"
)

// maxTargets is how many destinations one association may have.
const maxTargets = 1024

// association is a client's UDP through the tunnel (RFC 1928, Section 7). All of its
// destinations see one address and port of ours; an answer comes back only from one
// that has been sent to.
//
//	client ── near, on this host ── association ── far, in the tunnel ── destinations
//	                                           └── direct, for IPv4 where it is allowed
type association struct {
	s      *Server
	near   *net.UDPConn
	far    net.PacketConn
	direct net.PacketConn // nil where IPv4 is refused
	only   netip.Addr     // the client's address

	mu      sync.Mutex
	client  netip.AddrPort // once it has sent something
	targets map[netip.AddrPort]bool
	names   map[string]*name // and literals
	lookups int              // under way

	running sync.WaitGroup
}

// socksAssociate is the command UDP ASSOCIATE. It lasts as long as its connection.
func (s *Server) socksAssociate(ctx context.Context, c net.Conn, r *socks5.Request) error {
	a, err := s.associate(c)
	if err != nil {
		_ = socks5.SendReply(c, statute.RepServerFailure, nil)
		return fmt.Errorf("associate: %w", err)
	}
	if err := socks5.SendReply(c, statute.RepSuccess, a.near.LocalAddr()); err != nil {
		a.close()
		return err
	}
	_ = c.SetDeadline(time.Time{})
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(ctx, a.close)
	a.running.Go(func() { a.outward(ctx) })
	a.running.Go(func() { a.inward(a.far) })
	if a.direct != nil {
		a.running.Go(func() { a.inward(a.direct) })
	}
	_, _ = io.Copy(io.Discard, r.Reader) // until the client closes the connection
	cancel()
	if stop() {
		a.close()
	}
	a.running.Wait()
	return nil
}

// associate opens the sockets, on the address that the client has connected to.
func (s *Server) associate(c net.Conn) (*association, error) {
	local, ok := c.LocalAddr().(*net.TCPAddr)
	remote, ok2 := c.RemoteAddr().(*net.TCPAddr)
	if !ok || !ok2 {
		return nil, errors.New("not a TCP connection")
	}
	a := &association{
		s: s, only: remote.AddrPort().Addr().Unmap(),
		targets: make(map[netip.AddrPort]bool), names: make(map[string]*name),
	}
	var err error
	if a.near, err = net.ListenUDP("udp", &net.UDPAddr{IP: local.IP, Zone: local.Zone}); err != nil {
		return nil, err
	}
	if a.far, err = s.cfg.Network.ListenPacket("udp", "[::]:0"); err == nil && s.cfg.DirectIPv4 {
		a.direct, err = net.ListenPacket("udp4", "0.0.0.0:0")
	}
	if err != nil {
		a.close()
		return nil, err
	}
	return a, nil
}

func (a *association) close() {
	for _, c := range []net.PacketConn{a.near, a.far, a.direct} {
		if c != nil {
			_ = c.Close()
		}
	}
}

// outward takes the client's datagrams. Fragments are dropped, which RFC 1928 allows.
func (a *association) outward(ctx context.Context) {
	buf := make([]byte, 64<<10+1)
	for {
		n, from, err := a.near.ReadFromUDPAddrPort(buf[:64<<10])
		if err != nil {
			if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				return
			}
			continue // ICMP about an answer of ours
		}
		d, err := parse(buf[:n+1])
		if err != nil || d.Frag != 0 || !a.isClient(from) {
			continue
		}
		if err := a.send(ctx, &d); err != nil {
			a.s.log.Debug("socks datagram", "to", hostOf(&d.DstAddr), "error", err)
		}
	}
}

// parse takes a datagram apart, with one byte behind it: statute.ParseDatagram wants at
// least one byte of data, and a datagram may have none.
func parse(b []byte) (statute.Datagram, error) {
	d, err := statute.ParseDatagram(b)
	if err == nil && len(d.Data) == 0 {
		err = errors.New("cut short")
	}
	if err != nil {
		return d, err
	}
	d.Data = d.Data[:len(d.Data)-1]
	return d, nil
}

// isClient reports whether a datagram comes from the client: from its address, and
// from the port that the first one came from.
func (a *association) isClient(from netip.AddrPort) bool {
	from = netip.AddrPortFrom(from.Addr().Unmap(), from.Port())
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.client.IsValid() && from.Addr() == a.only {
		a.client = from
	}
	return from == a.client
}

// inward takes answers from c to the client.
func (a *association) inward(c net.PacketConn) {
	const room = 3 + 1 + net.IPv6len + 2
	buf := make([]byte, 64<<10)
	for {
		n, addr, err := c.ReadFrom(buf[room:])
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			continue // ICMP about a datagram of ours
		}
		from, ok := addr.(*net.UDPAddr)
		if !ok {
			continue
		}
		at := netip.AddrPortFrom(from.AddrPort().Addr().Unmap(), from.AddrPort().Port())
		a.mu.Lock()
		client, known := a.client, a.targets[at]
		a.mu.Unlock()
		if known {
			_, _ = a.near.WriteToUDPAddrPort(wrap(buf[:room+n], room, at), client)
		}
	}
}

// wrap puts the header of RFC 1928, Section 7 before the data of b, which begins at
// room.
func wrap(b []byte, room int, from netip.AddrPort) []byte {
	kind := byte(statute.ATYPIPv6)
	if from.Addr().Is4() {
		kind = statute.ATYPIPv4
	}
	addr := from.Addr().AsSlice()
	b = b[room-3-1-len(addr)-2:]
	h := append(b[:0], 0, 0, 0, kind)
	h = append(h, addr...)
	_ = append(h, byte(from.Port()>>8), byte(from.Port()))
	return b
}
