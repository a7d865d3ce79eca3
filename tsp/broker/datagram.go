package broker

import (
	"bytes"
	"container/list"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"

	"sixin4/tsp"
	"sixin4/tsp/broker/account"
)

// maxDatagram is the payload of a UDP datagram over IPv4.
const maxDatagram = 65507

// maxUnreachable is how many errors in a row may be those of clients.
const maxUnreachable = 1000

// amplification is how many times as long as a datagram its answer may be while
// anybody may have sent it.
const amplification = 5

// ServeUDP serves the control datagrams of conn until ctx ends, closes conn and
// returns nil; or the error of conn. IPv6 packets of tunnels are not for it: who
// carries them reads the socket, and gives it a conn on which they do not arrive.
func (s *Server) ServeUDP(ctx context.Context, conn net.PacketConn) error {
	ctx, cancel := context.WithCancel(ctx)
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	d := s.newPort(conn)
	defer d.closeAll()
	defer d.work.Wait()
	defer d.turns.work.Wait()
	defer cancel()
	d.work.Go(func() { d.janitor(ctx) })
	buf := make([]byte, maxDatagram)
	for failures := 0; ; {
		n, from, err := conn.ReadFrom(buf)
		if ctx.Err() != nil {
			return nil
		}
		if err == nil {
			failures = 0
			d.receive(ctx, from, buf[:n])
			continue
		}
		var network *net.OpError // may be one client's port that is unreachable
		if failures++; errors.Is(err, net.ErrClosed) || !errors.As(err, &network) || failures > maxUnreachable {
			return fmt.Errorf("receive: %w", err)
		}
	}
}

// port is a UDP socket and the sessions over it.
type port struct {
	*Server
	conn    net.PacketConn
	replies *tsp.Replies
	turns   *turns
	work    sync.WaitGroup

	mu       sync.Mutex
	begun    uint64                           // sessions so far
	sessions map[netip.AddrPort]*list.Element // of *flow
	order    list.List                        // oldest first
	sources  map[netip.Addr]*list.List        // of *flow, oldest first
}

func (s *Server) newPort(conn net.PacketConn) *port {
	return &port{
		Server: s, conn: conn,
		replies:  tsp.NewReplies(tsp.RepliesConfig{Clients: s.config.Limits.Sessions, Keep: s.config.Limits.Session}),
		turns:    newTurns(s.config.Limits),
		sessions: make(map[netip.AddrPort]*list.Element),
		sources:  make(map[netip.Addr]*list.List),
	}
}

// receive looks at a datagram, which lives until it returns.
func (d *port) receive(ctx context.Context, to net.Addr, b []byte) {
	from := addrPort(to)
	if reason := unwanted(from, b); reason != "" {
		d.drop(reason)
		return
	}
	if !d.datagrams.Take(time.Now(), account.SourceOf(from.Addr())) {
		d.drop(DropRate)
		return
	}
	h, text, err := tsp.ParseHeader(b)
	switch {
	case err != nil:
		d.drop(DropJunk)
	case tsp.IsEcho(text):
		d.counters.count(func(c *Stats) { c.Echoes++ })
		d.send(to, h.Datagram(tsp.Success.Message(false).Bytes()))
	default:
		d.take(ctx, to, from, h, text)
	}
}

// unwanted is why a datagram is not even counted; empty when it is.
func unwanted(from netip.AddrPort, b []byte) Drop {
	switch {
	case tsp.Classify(b) == tsp.Data:
		return DropData
	case tsp.Classify(b) == tsp.Junk, len(b) > tsp.HeaderLen+tsp.MaxMessage, from.Port() == 0:
		return DropJunk
	}
	return ""
}

// take has a message run once and answered as often as it comes. Only what begins a
// session or belongs to one is remembered.
func (d *port) take(ctx context.Context, to net.Addr, from netip.AddrPort, h tsp.Header, text []byte) {
	begins, f := isVersion(text), d.find(from)
	if !begins && f == nil {
		if answer := d.stray(text); answer != nil {
			d.send(to, h.Datagram(answer))
		}
		return
	}
	if !d.reserve(f, text) {
		return // it will come again
	}
	verdict, old := d.check(from, f, h, text)
	if verdict == tsp.Duplicate {
		d.send(to, old)
	} else if verdict != tsp.Fresh {
		d.drop(DropRepeated)
	}
	if verdict != tsp.Fresh || begins && !d.mayStart(from) {
		f.rest()
		return
	}
	text = bytes.Clone(text)
	d.turns.add(f.turn(begins), func() {
		if ctx.Err() != nil {
			return // nobody comes any more
		}
		answer := d.replies.Answer(from, h, d.run(ctx, from, h, text))
		f.rest() // first, for the client goes on at once
		if ctx.Err() == nil {
			d.send(to, answer)
		}
	})
}

// longWait is how long a text may be that waits for its turn: all that is usual.
const longWait = 4096

// reserve is the right to run a message: one at a time for a client, who has to wait
// for the answer, and not too many in all.
func (d *port) reserve(f *flow, text []byte) bool {
	if f != nil && !f.busy.CompareAndSwap(false, true) {
		d.drop(DropRepeated)
		return false
	}
	if d.turns.full(len(text)) {
		d.drop(DropBusy)
		f.rest()
		return false
	}
	return true
}

// restAfter is how old the last message of a session must be for a VERSION with a lower
// sequence number to begin another one. It is less than the time for which clients
// repeat themselves.
const restAfter = 3 * time.Second

// check says what to do with a message. A VERSION that seems to be late is a new
// session on the same port when the old one has come to its end, or does not go on:
// ports are used again, and soon by a host with many clients.
func (d *port) check(from netip.AddrPort, f *flow, h tsp.Header, text []byte) (tsp.Verdict, []byte) {
	now := time.Now()
	verdict, old := d.replies.Check(now, from, h, text)
	if !isVersion(text) {
		return verdict, old
	}
	if verdict == tsp.Stale && (f == nil || f.rested(now, h)) {
		d.replies.Forget(from)
		return d.replies.Check(now, from, h, text)
	}
	if verdict == tsp.Duplicate && f != nil && len(f.stamps) < maxStamps {
		f.stamps = append(f.stamps, h.Timestamp)
	}
	return verdict, old
}

// mayStart charges a source for a session.
func (d *port) mayStart(from netip.AddrPort) bool {
	if d.starts.Take(time.Now(), start{account.SourceOf(from.Addr()), true}) {
		return true
	}
	d.drop(DropRate)
	d.replies.Forget(from)
	return false
}

func isVersion(text []byte) bool {
	return len(text) > 8 && strings.EqualFold(string(text[:8]), "VERSION=")
}

// stray answers a message that belongs to no session: it is over, or never was. What
// may be an answer itself has none, or two brokers could be made to talk for ever.
func (d *port) stray(text []byte) []byte {
	m, err := tsp.ParseMessage(text)
	if err == nil && (m.Line == nil && m.XML == nil || m.Code() != 0) {
		d.drop(DropJunk)
		return nil
	}
	code := tsp.BadRequest
	if m.Framed {
		code = tsp.ServerError
	}
	d.counters.count(func(c *Stats) { c.Codes[code]++ })
	return d.bounded(text, code.Message(m.Framed).Bytes())
}

// room is how long the text of an answer may be.
func room(text []byte) int { return amplification*(tsp.HeaderLen+len(text)) - tsp.HeaderLen }

// bounded is an answer to a stranger, or a bare header in place of one that is too
// long.
func (d *port) bounded(text, answer []byte) []byte {
	if len(answer) > room(text) {
		d.drop(DropSize)
		return nil
	}
	return answer
}

// run is the text that answers a message.
func (d *port) run(ctx context.Context, from netip.AddrPort, h tsp.Header, text []byte) []byte {
	f := d.find(from)
	if isVersion(text) {
		f = d.begin(from, h)
	}
	if f == nil {
		return nil // it ended at this moment
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.last.Store(time.Now().UnixNano())
	if len(text) > 0 {
		was := f.session.state
		if f.owed = f.say(ctx, text); was != up && f.session.state == up {
			d.renew(f)
		}
		f.finished.Store(f.session.state >= up)
	}
	if len(f.owed) == 0 {
		return nil
	}
	answer := f.owed[0]
	f.owed = f.owed[1:]
	if f.session.proven {
		return answer
	}
	return d.bounded(text, answer)
}

// say runs one message of a session.
func (f *flow) say(ctx context.Context, text []byte) []reply {
	f.session.room = room(text)
	m, err := tsp.ParseMessage(text)
	if err != nil {
		return f.session.refuse(tsp.BadRequest)
	}
	return f.session.say(ctx, m)
}

// send sends a datagram to a client, which may be gone.
func (d *port) send(to net.Addr, b []byte) { _, _ = d.conn.WriteTo(b, to) }
