package daemon

import (
	"context"
	"log/slog"
	"slices"
	"time"

	"sixin4/encap"
	"sixin4/encap/wire"
)

// A tunnel in UDP follows what the way to the broker carries. The kernel learns that from
// ICMPv4, which anybody can forge who guesses the ports, so what it says is but a hint:
// before the tunnel gets smaller, the far end is asked by an echo request that is as long
// as what is in doubt, with DF set. If that is answered, the hint was wrong.

// shortestUDP is the path that carries 1280 bytes in UDP without fragments.
const shortestUDP = encap.WireMTU(encap.MinTunMTU) + wire.UDPHeaderLen

// pathAgain is how long a hint that stays the same is believed, or not, until the far end
// is asked again.
const pathAgain = 10 * time.Second

// pathTold is the shortest time between two lines in the log about hints that were wrong.
const pathTold = 10 * time.Minute

// pathWaits are how long each request for a length is waited for.
var pathWaits = []time.Duration{500 * time.Millisecond, time.Second}

// udpPath is what the way to the far end of a tunnel in UDP carries, for one goroutine.
type udpPath struct {
	held  encap.WireMTU // what the tunnel goes by
	hint  encap.WireMTU // what the kernel said last
	asked time.Time     // when the far end was last asked
	told  time.Time     // when the log was last told of a hint that was wrong
	log   *slog.Logger
}

// firstPath is what a tunnel begins with: what the kernel says is taken to be true as far
// as no fragments come of it.
func firstPath(kernel encap.WireMTU) encap.WireMTU { return max(kernel, shortestUDP) }

// follow returns what the way carries, of which the kernel says one thing and the link
// another; passes asks the far end. Where not even shortestUDP passes there is nothing to
// ask: without DF what is longer arrives in fragments.
func (p *udpPath) follow(ctx context.Context, kernel, link encap.WireMTU, passes func(context.Context, encap.WireMTU) bool) encap.WireMTU {
	same := kernel == p.hint
	p.hint = kernel
	switch {
	case kernel >= link, p.held < shortestUDP:
		p.held = kernel
	case same && time.Since(p.asked) < pathAgain:
	default:
		p.asked = time.Now()
		p.held = p.longest(ctx, kernel, link, passes)
		if p.held > kernel && ctx.Err() == nil && time.Since(p.told) > pathTold {
			p.told = time.Now()
			p.log.Info("an ICMPv4 message about the way to the broker was wrong: longer packets arrive", "said", int(kernel), "path-mtu", int(p.held))
		}
	}
	return p.held
}

// forTunnel is as much of a path as a tunnel of an MTU uses, 0 for any, and never so little that
// it needs fragments: longer requests would not be answered in one piece.
func forTunnel(path encap.WireMTU, mtu int) encap.WireMTU {
	if mtu == 0 {
		return path
	}
	return min(path, max(encap.WireMTU(mtu)+wire.UDPHeaderLen, shortestUDP))
}

// longest is the longest of what may be that passes.
func (p *udpPath) longest(ctx context.Context, kernel, link encap.WireMTU, passes func(context.Context, encap.WireMTU) bool) encap.WireMTU {
	for _, try := range slices.Compact([]encap.WireMTU{link, min(p.held, link), max(kernel, shortestUDP)}) {
		if try <= kernel || passes(ctx, try) || ctx.Err() != nil {
			return try
		}
	}
	return kernel
}
