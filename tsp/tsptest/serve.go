package tsptest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"

	"sixin4/tsp"
)

// Serve serves the connections of l until ctx ends, closes l and all of them, and
// returns nil; or the error of l.
func (b *Broker) Serve(ctx context.Context, l net.Listener) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer l.Close()
	defer context.AfterFunc(ctx, func() { l.Close() })()
	var sessions sync.WaitGroup
	defer sessions.Wait()
	defer cancel()
	for {
		conn, err := l.Accept()
		if ctx.Err() != nil {
			if err == nil {
				conn.Close()
			}
			return nil
		}
		if err != nil {
			return fmt.Errorf("accept: %w", err)
		}
		sessions.Go(func() { b.serveConn(ctx, conn) })
	}
}

// serveConn logs how a connection ended: the client may do that at any time.
func (b *Broker) serveConn(ctx context.Context, conn net.Conn) {
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	defer conn.Close()
	if err := b.ServeConn(ctx, conn, addrPort(conn.RemoteAddr())); err != nil && ctx.Err() == nil {
		b.settings().Logger.Info("connection", "error", err)
	}
}

// ServeConn serves one client on a stream until that ends, or a fault wants it closed;
// closing it is the caller's, as is to do so when ctx ends. The error is nil when the
// stream ends between two messages.
func (b *Broker) ServeConn(ctx context.Context, rw io.ReadWriter, from netip.AddrPort) error {
	stream := tsp.NewStream(rw)
	var d *dialogue
	for {
		m, err := stream.Receive(ctx)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if d == nil {
			d = b.newDialogue("tcp", from)
		}
		if err := d.write(ctx, rw, d.say(m)); errors.Is(err, errHangUp) {
			return nil
		} else if err != nil {
			return err
		}
	}
}

// errHangUp is what a fault returns to have the connection closed.
var errHangUp = errors.New("hang up")

// write sends answers over a stream, with a pause between two.
func (d *dialogue) write(ctx context.Context, w io.Writer, all []answer) error {
	for i, a := range all {
		f, faulty := d.fault(a.step)
		if len(a.text) == 0 && !faulty {
			continue
		}
		if i > 0 {
			if err := pause(ctx, d.config.Pause); err != nil {
				return err
			}
		}
		if err := f.write(ctx, w, a, all[i+1:]); err != nil || f.join {
			return err
		}
	}
	return nil
}

// pause waits for as long as ctx allows.
func pause(ctx context.Context, d time.Duration) error {
	if d == 0 {
		return nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// maxDatagram is the payload of a UDP datagram over IPv4.
const maxDatagram = 65507

// ServePackets serves the datagrams of conn until ctx ends, closes conn and returns
// nil; or the error of conn.
func (b *Broker) ServePackets(ctx context.Context, conn net.PacketConn) error {
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	s := packetServer{b: b, replies: tsp.NewReplies(tsp.RepliesConfig{}), clients: make(map[netip.AddrPort]*packetClient)}
	buf := make([]byte, maxDatagram)
	for {
		n, from, err := conn.ReadFrom(buf)
		if ctx.Err() != nil {
			return nil
		}
		var network *net.OpError
		if err != nil && (errors.Is(err, net.ErrClosed) || !errors.As(err, &network)) {
			return fmt.Errorf("receive: %w", err)
		}
		if err != nil {
			continue // a client's port is unreachable
		}
		if err := s.answer(ctx, conn, from, buf[:n]); err != nil {
			return nil // ctx has ended
		}
	}
}

// packetServer is a broker on a UDP port.
type packetServer struct {
	b       *Broker
	replies *tsp.Replies
	clients map[netip.AddrPort]*packetClient
}

// packetClient is the session of an address and port.
type packetClient struct {
	d    *dialogue
	owed []answer // that the client has not fetched yet
	last step
}

// step is where the last answer belongs; a bare header that answers a message
// without an answer belongs nowhere.
type step struct {
	Step
	known bool
}

// answer sends what a datagram is answered with, if anything.
func (s *packetServer) answer(ctx context.Context, conn net.PacketConn, to net.Addr, datagram []byte) error {
	from := addrPort(to)
	h, text, err := tsp.ParseHeader(datagram)
	if err != nil {
		return nil
	}
	if tsp.IsEcho(text) {
		s.b.note(func() { s.b.echoes++ })
		_, _ = conn.WriteTo(h.Datagram(tsp.Success.Message(false).Bytes()), to)
		return nil
	}
	var reply []byte
	switch verdict, old := s.replies.Check(time.Now(), from, h, text); verdict {
	case tsp.Duplicate:
		reply = old[tsp.HeaderLen:]
	case tsp.Fresh:
		reply = s.run(from, text)
		s.replies.Answer(from, h, reply)
	default:
		return nil
	}
	return s.send(ctx, conn, to, h, reply)
}

// run is the text that answers a message. VERSION begins a session anew.
func (s *packetServer) run(from netip.AddrPort, text []byte) []byte {
	c := s.clients[from]
	if c == nil || strings.HasPrefix(strings.ToUpper(string(text)), "VERSION") {
		c = &packetClient{d: s.b.newDialogue("udp", from)}
		s.clients[from] = c
	}
	if m, err := tsp.ParseMessage(text); err != nil {
		c.owed = c.d.refuse(Create, tsp.BadRequest)
	} else if len(text) > 0 {
		c.owed = c.d.say(m)
	} else {
		s.b.note(func() { c.d.note.Messages++ })
	}
	c.last = step{}
	if len(c.owed) == 0 {
		return nil
	}
	first := c.owed[0]
	c.owed, c.last = c.owed[1:], step{first.step, true}
	return first.text
}

// send sends an answer with what fault it has.
func (s *packetServer) send(ctx context.Context, conn net.PacketConn, to net.Addr, h tsp.Header, text []byte) error {
	c := s.clients[addrPort(to)]
	var f Fault
	if c.last.known {
		f, _ = c.d.fault(c.last.Step)
	}
	if err := pause(ctx, f.delay); err != nil {
		return err
	}
	for _, packet := range f.datagrams(c.last.Step, h, text, c.owed) {
		_, _ = conn.WriteTo(packet, to) // a client may be gone
	}
	return nil
}

// addrPort is the address of a client; of what is none, the zero AddrPort.
func addrPort(a net.Addr) netip.AddrPort {
	if a, ok := a.(interface{ AddrPort() netip.AddrPort }); ok {
		p := a.AddrPort()
		return netip.AddrPortFrom(p.Addr().Unmap(), p.Port())
	}
	return netip.AddrPort{}
}
