package engine

import (
	"fmt"
	"net/netip"
	"sync/atomic"

	"github.com/gaissmai/bart"

	"sixin4/encap"
)

// Peer is one far end of the tunnel.
type Peer struct {
	Remote netip.Addr // its IPv4 address
	// Prefixes are what is reached through it, and what it may send from. The one
	// prefix ::/0 makes it the only peer of a host.
	Prefixes []netip.Prefix
	Outer    encap.Outer // Dst may be left out
	// Unproven is for a peer of a hub that said where it is and has not shown it yet. All
	// that it is sent are ICMPv6 echo requests from TableConfig.Self, and all that is
	// taken from it are the replies: whoever can give these is there. So nobody can have
	// the hub send packets to an address that is another's, or in its name.
	Unproven bool
}

// TableConfig is what a Table is made from.
type TableConfig struct {
	Peers []Peer
	// Ours are addresses of this host and of networks it is attached to, which no
	// peer may send from.
	Ours []netip.Prefix
	// Hub makes it a hub however many peers there are: none, or one with ::/0.
	Hub bool
	// Self is the address of a hub that talks to unproven peers; invalid when there are
	// none.
	Self netip.Addr
}

// Table finds the peer of a packet. It never changes.
type Table struct {
	peers    []peer
	byRemote map[[4]byte]int32
	routes   *bart.Table[int32] // destination to index of peer
	sources  *bart.Table[int32] // source to index of the peer that may use it, or ours
	host     bool               // one peer that everything goes to
	self     netip.Addr         // TableConfig.Self
}

// ours stands for Config.Ours among the indices of peers.
const ours int32 = -1

type peer struct {
	Peer
	header encap.Header
	count  *peerCounters // shared with the tables before and after
}

type peerCounters struct {
	ids       encap.IDs
	tx, rx    counter
	lastHeard atomic.Int64 // Unix nanoseconds; 0: never
}

type counter struct{ packets, bytes atomic.Uint64 }

func (c *counter) add(packets, bytes int) {
	c.packets.Add(uint64(packets))
	c.bytes.Add(uint64(bytes))
}

// NewTable checks the peers and prepares the look-ups. Two peers with one remote
// address or one prefix are refused.
func NewTable(cfg TableConfig) (*Table, error) {
	t := &Table{byRemote: make(map[[4]byte]int32, len(cfg.Peers)), routes: new(bart.Table[int32]), self: cfg.Self}
	if len(cfg.Peers) == 0 && !cfg.Hub {
		return nil, fmt.Errorf("peer table: no peers")
	}
	for i, p := range cfg.Peers {
		if err := t.add(int32(i), p); err != nil {
			return nil, fmt.Errorf("peer %v: %w", p.Remote, err)
		}
	}
	t.sources = t.routes
	for _, p := range cfg.Ours {
		t.sources = t.sources.InsertPersist(p.Masked(), ours)
	}
	all := netip.PrefixFrom(netip.IPv6Unspecified(), 0)
	_, t.host = t.routes.Get(all)
	t.host = t.host && len(cfg.Peers) == 1 && !cfg.Hub
	return t, nil
}

func (t *Table) add(i int32, p Peer) error {
	p.Outer.Dst = p.Remote
	h, err := p.Outer.Header()
	if err != nil {
		return err
	}
	key := p.Remote.As4()
	if _, ok := t.byRemote[key]; ok {
		return fmt.Errorf("configured twice")
	}
	t.byRemote[key] = i
	t.peers = append(t.peers, peer{Peer: p, header: h, count: new(peerCounters)})
	for _, prefix := range p.Prefixes {
		if !prefix.IsValid() || !prefix.Addr().Is6() || prefix.Addr().Is4In6() {
			return fmt.Errorf("prefix %v is not IPv6", prefix)
		}
		if other, ok := t.routes.Get(prefix.Masked()); ok {
			return fmt.Errorf("prefix %v belongs to peer %v already", prefix, t.peers[other].Remote)
		}
		t.routes.Insert(prefix.Masked(), i)
	}
	return nil
}

// adopt takes over the counters of peers that were in the table before.
func (t *Table) adopt(before *Table) {
	for i := range t.peers {
		if j, ok := before.byRemote[t.peers[i].Remote.As4()]; ok {
			t.peers[i].count = before.peers[j].count
		}
	}
}

// outbound finds the peer for an inner packet from the TUN.
func (t *Table) outbound(inner encap.IPv6) (int32, encap.Drop) {
	if !t.host && encap.LinkScope(inner) {
		return t.byLinkLocal(inner.Dst16())
	}
	i, ok := t.routes.Lookup(inner.Dst())
	if !ok {
		return 0, encap.DropNoPeer
	}
	if !t.host {
		if from, ok := t.sources.Lookup(inner.Src()); ok && from == i {
			return 0, encap.DropHairpin
		}
		if t.peers[i].Unproven && (inner.Src() != t.self || !encap.EchoRequest(inner)) {
			return 0, encap.DropUnproven
		}
	}
	return i, encap.Forward
}

// byLinkLocal finds the peer of a link-local address that was made from an IPv4
// address (RFC 4213, Section 3.7). In a hub no prefix leads there, not even ::/0:
// every peer is on a link of its own.
func (t *Table) byLinkLocal(dst [16]byte) (int32, encap.Drop) {
	i, ok := t.byRemote[[4]byte(dst[12:])]
	if !ok || [12]byte(dst[:12]) != [12]byte{0xfe, 0x80} {
		return 0, encap.DropNoPeer
	}
	if t.peers[i].Unproven {
		return 0, encap.DropUnproven
	}
	return i, encap.Forward
}

// inbound finds the peer that an outer source address belongs to and decides
// whether it may send this inner packet (RFC 4213, Section 3.6).
func (t *Table) inbound(src [4]byte, inner encap.IPv6) (int32, encap.Drop) {
	i, ok := t.byRemote[src]
	if !ok {
		return 0, encap.DropNotPeer
	}
	if t.peers[i].Unproven && (inner.Dst() != t.self || !encap.EchoReply(inner)) {
		return 0, encap.DropUnproven
	}
	a := inner.Src()
	owner, ok := t.sources.Lookup(a)
	switch {
	case ok && owner == ours:
		return 0, encap.DropInnerSourceOurs
	case t.host || a.IsUnspecified(): // the latter only for duplicate address detection
		return i, encap.Forward
	case a.IsLinkLocalUnicast():
		if !encap.LinkScope(inner) {
			return 0, encap.DropInnerSourceLinkLocal
		}
		return i, encap.Forward
	case !ok || owner != i:
		return 0, encap.DropInnerSourceNotPeers
	}
	return i, encap.Forward
}
