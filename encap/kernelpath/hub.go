package kernelpath

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"sixin4/encap"
)

// MaxPrefixes is how many prefixes a Peer may have.
const MaxPrefixes = 2

// Hub makes a Flow that of any number of tunnels in UDP, one for each Peer.
type Hub struct {
	Links   []int  // interface indices of the links that datagrams come in from
	Blocked []Port // destinations that no peer may send to, at most MaxBlocked
}

// Port is a destination port of TCP (protocol 6) or UDP (17).
type Port struct {
	Protocol uint8
	Number   uint16
}

// Peer is one far end of a hub's tunnels. It must take merged TCP, and datagrams
// without a checksum.
type Peer struct {
	Local, Remote netip.AddrPort // between which its datagrams go; IPv4
	// Prefixes are what is reached through it, and what it may send from: 1 to
	// MaxPrefixes.
	Prefixes []netip.Prefix
	Link     int          // interface index of the link to it
	MTU      encap.TunMTU // the longest inner packet that it is sent; longer ones are the engine's
	Trial    bool         // as Flow.Trial
}

// PutPeer adds a peer, for when there is a flow of a hub, or changes the one with the same ends, whose counters stay as long
// as its prefixes do. It returns os.ErrClosed after Close.
func (p *Path) PutPeer(peer Peer) error { return p.putPeer(peer) }

// RemovePeer takes a peer away; one that is not there it does not mind.
func (p *Path) RemovePeer(local, remote netip.AddrPort) error { return p.removePeer(local, remote) }

// PeerStats returns what was carried for a peer since it was put, the fields Tx, Rx and
// LastHeard; false when there is none.
func (p *Path) PeerStats(local, remote netip.AddrPort) (Stats, bool) { return p.statsOf(local, remote) }

func (h *Hub) check() error {
	switch {
	case len(h.Links) == 0:
		return errors.New("a hub without links")
	case len(h.Blocked) > MaxBlocked:
		return fmt.Errorf("%w: %d blocked ports, at most %d", errors.ErrUnsupported, len(h.Blocked), MaxBlocked)
	}
	return nil
}

// add makes k that of a hub, which has passed check.
func (h *Hub) add(k *flow) {
	k.Hub, k.UDP = 1, 1
	for i, b := range h.Blocked {
		binary.BigEndian.PutUint16(k.BlockedPorts[i].Number[:], b.Number)
		k.BlockedPorts[i].Protocol = b.Protocol
	}
	k.Blocked = uint32(len(h.Blocked))
}

func (p *Peer) check() error {
	switch {
	case !p.Local.Addr().Is4() || !p.Remote.Addr().Is4() || p.Local.Port() == 0 || p.Remote.Port() == 0:
		return fmt.Errorf("ends %v and %v: not of IPv4 and UDP", p.Local, p.Remote)
	case len(p.Prefixes) == 0 || len(p.Prefixes) > MaxPrefixes:
		return fmt.Errorf("%w: %d prefixes of a peer, 1 to %d", errors.ErrUnsupported, len(p.Prefixes), MaxPrefixes)
	case slices.ContainsFunc(p.Prefixes, func(x netip.Prefix) bool { return !x.IsValid() || !x.Addr().Is6() }):
		return fmt.Errorf("prefixes %v of a peer: not of IPv6", p.Prefixes)
	case p.Link <= 0:
		return fmt.Errorf("link %d: no interface index", p.Link)
	case p.MTU < encap.MinTunMTU || p.MTU > encap.MaxTunMTU:
		return fmt.Errorf("MTU %d: out of range, %d to %d", p.MTU, encap.MinTunMTU, encap.MaxTunMTU)
	}
	return nil
}

// peer is struct peer of bpf/path.c.
type peer struct {
	Prefixes                               [MaxPrefixes]prefix
	TxPackets, TxBytes, RxPackets, RxBytes uint64
	Heard, IDs                             uint64
}

// route is struct route.
type route struct {
	Bits uint32
	Dst  [16]byte
}

func (p *Peer) ends() ends {
	return newEnds(p.Local.Addr(), p.Local.Port(), p.Remote.Addr(), p.Remote.Port())
}

// forKernel is the peer as the programs read it. It has passed check.
func (p *Peer) forKernel() (k peer) {
	for i := range k.Prefixes {
		k.Prefixes[i] = newPrefix(p.Prefixes[min(i, len(p.Prefixes)-1)])
	}
	return k
}

func newRoute(p netip.Prefix) route {
	return route{uint32(p.Bits()), p.Masked().Addr().As16()}
}
