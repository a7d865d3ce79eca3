package load

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"time"

	"sixin4/tsp"
)

// Flood is forged datagrams to a broker's port of IPv6 in UDP, as many of each kind: data
// of a client from random addresses, the same from its own address and other ports, first
// messages from random addresses, and one and the same message again and again.
type Flood struct {
	To     netip.AddrPort
	Rate   float64      // datagrams a second, greater than 0
	Client netip.Addr   // IPv4 address of a client that has a tunnel
	Inner  netip.Addr   // its IPv6 address
	Random netip.Prefix // of IPv4, that random sources are of
}

func (f Flood) check() error {
	if !f.To.Addr().Is4() || !f.Client.Is4() || !f.Random.Addr().Is4() || !f.Inner.Is6() || f.Rate <= 0 {
		return fmt.Errorf("flood: %v a second to %v, of %v with %v, and from %v: IPv4 addresses, an IPv6 address and a rate belong here",
			f.Rate, f.To, f.Client, f.Inner, f.Random)
	}
	return nil
}

// floodTick is how often those are sent that are due.
const floodTick = time.Millisecond

// Run sends until ctx ends, and returns how many it sent. What is due and was not sent,
// for want of a processor, is not sent later. It calls ready before the first.
func (f Flood) Run(ctx context.Context, in Namespace, ready func()) (sent int64, err error) {
	if err := f.check(); err != nil {
		return 0, err
	}
	var raw packets
	if err := in.Do(func() (err error) { raw, err = openPackets(f.To.Addr()); return err }); err != nil {
		return 0, fmt.Errorf("flood: %w", err)
	}
	defer raw.Close()
	ready()
	every := time.NewTicker(floodTick)
	defer every.Stop()
	for last := time.Now(); ; {
		select {
		case <-ctx.Done():
			return sent, nil
		case <-every.C:
		}
		due := f.Rate * min(time.Since(last), 20*floodTick).Seconds()
		last = time.Now()
		batch := make([][]byte, 0, int(due)+1)
		for range cap(batch) - 1 {
			batch = append(batch, f.forge(sent+int64(len(batch))))
		}
		if err := raw.send(batch); err != nil {
			return sent, fmt.Errorf("flood: %w", err)
		}
		sent += int64(len(batch))
	}
}

// forge makes the i-th datagram.
func (f Flood) forge(i int64) []byte {
	stranger := netip.AddrPortFrom(f.random(), 1024+uint16(rand.IntN(60000)))
	switch i % 4 {
	case 0:
		return datagram(stranger, f.To, f.data(uint16(i)))
	case 1: // ports that no client is given by its system
		return datagram(netip.AddrPortFrom(f.Client, 1+uint16(rand.IntN(30000))), f.To, f.data(uint16(i)))
	case 2:
		h := tsp.Header{Word: firstWord, Timestamp: uint32(i)}
		return datagram(stranger, f.To, h.Datagram(tsp.V202.Line()))
	}
	h := tsp.Header{Word: firstWord, Timestamp: 1}
	return datagram(netip.AddrPortFrom(f.Random.Addr().Next(), 1024), f.To, h.Datagram(tsp.V202.Line()))
}

// random is an address of f.Random.
func (f Flood) random() netip.Addr {
	return address(number(f.Random.Masked().Addr()) + rand.Uint32N(1<<(32-f.Random.Bits())))
}

// data is an IPv6 packet with the source of the client.
func (f Flood) data(seq uint16) []byte {
	t := Tunnel{outer: f.Client, broker: f.To.Addr(), Inner: f.Inner}
	return t.request(netip.MustParseAddr("2001:db8::1"), requestLen, seq)[outerLen:]
}
