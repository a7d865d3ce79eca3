package load

import (
	"context"
	"encoding/binary"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"sixin4/tsp"
	"sixin4/tsp/sasl"
)

// Attack is everything bad that strangers do to a broker, all at once. The clients from
// From on, and as many as Sources says, do it.
type Attack struct {
	From, Sources int

	Silent    int     // TCP connections that say nothing, opened within openTime, and again when they are closed
	Drips     int     // that send a byte a second
	PerSecond float64 // of each kind of bad message, and ten times as many bad datagrams
	Passwords int     // wrong ones in all, of users that there are and that there are not
	Guessers  int     // at a time, each by one mechanism
	Users     []string

	Spent func() `json:"-"` // called when all passwords are tried, unless nil
}

// Attacked is what was done.
type Attacked struct {
	Connections atomic.Int64 // opened
	Silent      atomic.Int64 // that say nothing, open now
	Messages    atomic.Int64 // garbage, huge lengths and bombs, over TCP
	Datagrams   atomic.Int64 // garbage, replayed and forged
	Passwords   atomic.Int64 // wrong ones tried, to whatever end
	Refused     atomic.Int64 // of them with: not now
}

// Run attacks until ctx ends. What was done is counted in a.
func (c *Crowd) Run(ctx context.Context, k Attack, a *Attacked) {
	var all sync.WaitGroup
	all.Go(func() {
		often(ctx, float64(k.Silent)/openTime.Seconds(), func(i int) bool {
			all.Go(func() { c.silent(ctx, k.source(i), a) })
			return i+1 < k.Silent
		})
	})
	for i := range k.Drips {
		all.Go(func() { c.drip(ctx, k.source(i), a) })
	}
	for kind, text := range badMessages() {
		all.Go(func() {
			often(ctx, k.PerSecond, func(i int) bool {
				all.Go(func() { c.shout(ctx, k.source(i*7+kind), text, a) })
				return true
			})
		})
	}
	all.Go(func() {
		often(ctx, 10*k.PerSecond, func(i int) bool {
			c.badDatagram(k.source(i), i, a)
			return true
		})
	})
	all.Go(func() {
		c.guessAll(ctx, k, a)
		if k.Spent != nil && ctx.Err() == nil {
			k.Spent()
		}
	})
	all.Wait()
}

// guessAll tries all passwords. A guesser keeps to its mechanism, so that those of PLAIN,
// who wait for each other at the broker, hold up nobody else.
func (c *Crowd) guessAll(ctx context.Context, k Attack, a *Attacked) {
	var next atomic.Int64
	var all sync.WaitGroup
	for g := range max(k.Guessers, 1) {
		all.Go(func() {
			for i := int(next.Add(1)) - 1; i < k.Passwords && ctx.Err() == nil; i = int(next.Add(1)) - 1 {
				c.wrongPassword(ctx, k, guessing[g%len(guessing)], i, a)
			}
		})
	}
	all.Wait()
}

// guessing are the mechanisms by which passwords are tried.
var guessing = []string{sasl.Plain, sasl.ScramSHA256, sasl.DigestMD5}

// source is the client that does the i-th thing.
func (k Attack) source(i int) int { return k.From + i%k.Sources }

// openTime is how long it takes until all silent connections are open. All at once they
// would keep busy who opens them, rather than the broker.
const openTime = 10 * time.Second

// often calls f so many times a second, with the number of the call, while that is true.
func often(ctx context.Context, perSecond float64, f func(i int) bool) {
	if perSecond <= 0 {
		return
	}
	start := time.Now()
	for i := 0; ; i++ {
		due := start.Add(time.Duration(float64(i) / perSecond * float64(time.Second)))
		if pause(ctx, time.Until(due)) != nil || !f(i) {
			return
		}
	}
}

// silent keeps a connection open without a word.
func (c *Crowd) silent(ctx context.Context, client int, a *Attacked) {
	for ctx.Err() == nil {
		conn, err := c.dial(ctx, c.Addr(client))
		if err == nil {
			a.Connections.Add(1)
			a.Silent.Add(1)
			untilClosed(ctx, conn)
			a.Silent.Add(-1)
		}
		_ = pause(ctx, retry)
	}
}

// untilClosed reads until the broker or ctx ends a connection.
func untilClosed(ctx context.Context, conn net.Conn) {
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	var b [64]byte
	for {
		if _, err := conn.Read(b[:]); err != nil {
			return
		}
	}
}

// drip says a byte a second of a line that never ends.
func (c *Crowd) drip(ctx context.Context, client int, a *Attacked) {
	for ctx.Err() == nil {
		conn, err := c.dial(ctx, c.Addr(client))
		if err == nil {
			a.Connections.Add(1)
			for _, b := range []byte("VERSION=2.0.2 and what else there may be to say, slowly") {
				if _, err = conn.Write([]byte{b}); err != nil || pause(ctx, time.Second) != nil {
					break
				}
			}
			conn.Close()
		}
		_ = pause(ctx, retry)
	}
}

// shout says something bad, and takes what is said to it until the broker has enough.
func (c *Crowd) shout(ctx context.Context, client int, text []byte, a *Attacked) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	conn, err := c.dial(ctx, c.Addr(client))
	if err != nil {
		return
	}
	a.Connections.Add(1)
	if _, err := conn.Write(text); err == nil {
		a.Messages.Add(1)
	}
	untilClosed(ctx, conn)
}

// badDatagram sends one: garbage, a session from a forged address, an old message once
// more, or a packet of a tunnel that is another's.
func (c *Crowd) badDatagram(client, i int, a *Attacked) {
	h := tsp.Header{Word: firstWord, Timestamp: 1}
	from := netip.AddrPortFrom(c.Addr(client), 1024+uint16(i%60000))
	switch i % 4 {
	case 0:
		b := make([]byte, 1+rand.IntN(600))
		fill(b)
		_ = c.raw.forge(datagram(from, c.cfg.Server, b))
	case 1:
		_ = c.raw.forge(datagram(from, c.cfg.Server, h.Datagram(tsp.V202.Line())))
	case 2: // the same words again and again
		again := netip.AddrPortFrom(c.Addr(client), 1024)
		_ = c.raw.forge(datagram(again, c.cfg.Server, h.Datagram(tsp.V202.Line())))
	case 3:
		victim := &Tunnel{outer: c.Addr(client), broker: c.cfg.Server.Addr(), Inner: netip.MustParseAddr("2001:db8::2")}
		_ = c.raw.forge(victim.request(netip.MustParseAddr("2001:db8::1"), requestLen, uint16(i)))
	}
	a.Datagrams.Add(1)
}

func fill(b []byte) {
	for i := range b {
		b[i] = byte(rand.Uint32())
	}
}

// datagram is a UDP datagram in IPv4 without a checksum (RFC 768), as anybody can forge
// it.
func datagram(from, to netip.AddrPort, text []byte) []byte {
	const udpLen = 8
	p := make([]byte, outerLen+udpLen, outerLen+udpLen+len(text))
	p[0], p[8], p[9] = 0x45, 64, 17
	src, dst := from.Addr().As4(), to.Addr().As4()
	copy(p[12:], src[:])
	copy(p[16:], dst[:])
	binary.BigEndian.PutUint16(p[20:], from.Port())
	binary.BigEndian.PutUint16(p[22:], to.Port())
	binary.BigEndian.PutUint16(p[24:], uint16(udpLen+len(text)))
	p = append(p, text...)
	binary.BigEndian.PutUint16(p[2:], uint16(len(p)))
	return p
}

// wrongPassword is one login that fails, the i-th, over UDP and TCP in turn.
func (c *Crowd) wrongPassword(ctx context.Context, k Attack, mechanism string, i int, a *Attacked) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	l := Login{
		Mechanism: mechanism, User: k.Users[i/2%len(k.Users)], Password: "not the password", TCP: i%2 == 1, Guess: true,
	}
	switch _, err := c.once(ctx, k.source(i), l, time.Now()); {
	case again(err):
		a.Refused.Add(1)
	case ctx.Err() != nil:
		return
	}
	a.Passwords.Add(1)
}
