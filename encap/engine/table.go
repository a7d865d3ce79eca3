package engine

import (
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"net/netip"
	"sync/atomic"

	"github.com/gaissmai/bart"

	"sixin4/encap"
	"sixin4/encap/packet"
	"sixin4/encap/pathmtu"
)

// Peer is one far end of the tunnel.
type Peer struct {
	Remote netip.Addr // its IPv4 address
	// Port is that of a peer whose packets go in UDP (RFC 5572, v6udpv4; from memory);
	// 0 is one of protocol 41. One address may have one of these and many of those.
	Port uint16
	// Socket is the number of the UDP wire that its packets come by (Lane.Socket): one
	// address and port may have a peer at each. Which wire they leave by is for Config's
	// writers to find, in Outer.Src and Outer.SrcPort. Of no meaning for protocol 41.
	Socket uint16
	// Map, in place of Remote, makes it all the peers whose IPv4 addresses are parts of
	// their IPv6 addresses. They are one in all other ways: counters, rate and what is
	// learnt about their paths. A table has at most one such peer. Its Outer.Src is the
	// local address of the mapping.
	Map *encap.Mapping
	// Prefixes are what is reached through it, and what it may send from. The one
	// prefix ::/0 makes it the only peer of a host.
	Prefixes []netip.Prefix
	Outer    encap.Outer // Dst may be left out
	// Unproven is for a peer of a hub that said where it is and has not shown it yet. All
	// that it is sent are ICMPv6 echo requests from TableConfig.Self, and all that is
	// taken from it are the replies: whoever can give these is there. So nobody can have
	// the hub send packets to an address that is another's, or in its name.
	Unproven bool
	// Rate is how many bits a second, of inner packets, may go to the peer and as many
	// come from it; a quarter of a second of that, but not less than 128 KiB, may come at
	// once. 0 is no limit, others are at least 1000.
	Rate int64
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
	// Blocked are destinations that no peer may send to.
	Blocked Ports
}

// Table finds the peer of a packet. It never changes; Change makes another one.
type Table struct {
	slots   []*slots // of peers, by index
	free    []int32  // indices without a peer
	remotes remotes
	routes  *bart.Table[int32] // destination to index of peer
	sources *bart.Table[int32] // source to index of the peer that may use it, or ours
	mapped  int32              // the peer with a mapping, or none
	hub     bool               // TableConfig.Hub
	host    bool               // one peer that everything goes to
	only    int32              // that peer
	metered bool               // some peer has a rate
	self    netip.Addr         // TableConfig.Self
	blocked *portSet           // TableConfig.Blocked
	family  *byte              // the same in tables that were made from each other
}

// ours stands for Config.Ours among the indices of peers.
const ours int32 = -1

// slots are a part of the peers, small enough to be copied for one that changes.
type slots [1 << slotBits]peer

const slotBits = 4

// peer is what a packet needs to know, and behind it what it does not. One without a
// count is none.
type peer struct {
	header   encap.Header
	udp      encap.UDPHeader // with a port: in place of header
	other    bool            // its packets get another header, see encapOther
	unproven bool
	trimmed  bool // no longer packets than fit behind the headers of UDP
	plain    bool // spans are Prefixes, and nobody else has a part of them
	rate     rate
	count    *peerCounters // shared with the tables before and after
	spans    [2]span
	Peer
}

// owns reports whether a source is in the prefixes of a plain peer. It saves a look-up
// among all sources.
func (p *peer) owns(inner encap.IPv6) bool {
	src := inner.Src16()
	return p.spans[0].has(&src) || p.spans[1].has(&src)
}

// span is a prefix.
type span struct{ hi, lo, maskHi, maskLo uint64 }

// noSpan has no address.
var noSpan = span{hi: 1}

func spanOf(p netip.Prefix) span {
	a := p.Masked().Addr().As16()
	s := span{hi: binary.BigEndian.Uint64(a[:]), lo: binary.BigEndian.Uint64(a[8:])}
	s.maskHi, s.maskLo = ^uint64(0)<<max(64-p.Bits(), 0), ^uint64(0)<<min(128-p.Bits(), 64)
	return s
}

func (s *span) has(a *[16]byte) bool {
	return s.hi == binary.BigEndian.Uint64(a[:])&s.maskHi && s.lo == binary.BigEndian.Uint64(a[8:])&s.maskLo
}

type peerCounters struct {
	ids       encap.IDs
	tx, rx    counter
	lastHeard atomic.Int64 // Unix nanoseconds; 0: never
	out, in   meter

	// Seldom looked at, see Engine.learnt.
	path    pathmtu.State
	notice  encap.Notice
	refused atomic.Int64 // Unix nanoseconds; 0: never
}

type counter struct{ packets, bytes atomic.Uint64 }

func (c *counter) add(packets, bytes int) {
	c.packets.Add(uint64(packets))
	c.bytes.Add(uint64(bytes))
}

// NewTable checks the peers and prepares the look-ups. Two peers with one remote
// address or one prefix are refused.
func NewTable(cfg TableConfig) (*Table, error) {
	if len(cfg.Peers) == 0 && !cfg.Hub {
		return nil, errors.New("peer table: no peers")
	}
	t := &Table{
		remotes: makeRemotes(len(cfg.Peers)), routes: new(bart.Table[int32]), sources: new(bart.Table[int32]),
		mapped: none, hub: cfg.Hub, self: cfg.Self, blocked: newPortSet(cfg.Blocked), family: new(byte),
	}
	e := editor{Table: t, owned: true}
	for _, p := range cfg.Peers {
		if _, ok := t.findAt(p.End()); ok {
			return nil, fmt.Errorf("peer %v: configured twice", p)
		}
		if err := e.put(p); err != nil {
			return nil, fmt.Errorf("peer %v: %w", p, err)
		}
	}
	e.own(cfg.Ours)
	t.settle()
	return t, nil
}

// settle finds out whether this is a host's table.
func (t *Table) settle() {
	i, all := t.routes.Get(netip.PrefixFrom(netip.IPv6Unspecified(), 0))
	t.only, t.host = i, all && t.remotes.len == 1 && !t.hub
	t.mapped = t.findMapped()
}

// at is the peer of an index.
func (t *Table) at(i int32) *peer { return &t.slots[i>>slotBits][i&(1<<slotBits-1)] }

// find is the index of the peer of protocol 41 at an address.
func (t *Table) find(remote netip.Addr) (int32, bool) {
	return t.findAt(End{AddrPort: netip.AddrPortFrom(remote, 0)})
}

// findAt is the index of the peer at an end.
func (t *Table) findAt(at End) (int32, bool) {
	if !at.Addr().Is4() {
		return 0, false
	}
	return t.remotes.get(at.key())
}

// End is where a peer is, as a table knows it. No two are at one.
type End struct {
	netip.AddrPort        // of the peer; port 0 is protocol 41
	Socket         uint16 // Peer.Socket; 0 for protocol 41
}

func (a End) key() remoteKey { return keyAt(a.Addr().As4(), a.Port()).by(a.Socket) }

// End is where the peer is.
func (p Peer) End() End {
	switch {
	case p.Map != nil:
		return End{AddrPort: netip.AddrPortFrom(unspecified4, 0)}
	case p.Port == 0:
		return End{AddrPort: netip.AddrPortFrom(p.Remote, 0)}
	}
	return End{netip.AddrPortFrom(p.Remote, p.Port), p.Socket}
}

// String is the address of a peer, with its port if it has one.
func (p Peer) String() string {
	switch {
	case p.Map != nil:
		return "of the mapping"
	case p.Port == 0:
		return p.Remote.String()
	}
	return p.End().String()
}

// encap puts the outer headers to p in front of a packet, or says why there are none.
func (p *peer) encap(pkt *packet.Packet) encap.Drop {
	if p.other {
		return p.encapOther(pkt)
	}
	p.header.Encap(pkt, p.count.ids.Reserve(1))
	return encap.Forward
}

// encapOther is encap for a mapping or a peer over UDP.
func (p *peer) encapOther(pkt *packet.Packet) encap.Drop {
	if p.Map != nil {
		return p.encapMapped(pkt)
	}
	p.udp.Encap(pkt)
	return encap.Forward
}

// Len is how many peers there are.
func (t *Table) Len() int { return t.remotes.len }

// adopt takes over the counters of peers that were in the table before. One that was
// made from that has them.
func (t *Table) adopt(before *Table) {
	if t.family == before.family {
		return
	}
	for p := range t.all() {
		if j, ok := before.findAt(p.End()); ok {
			p.count = before.at(j).count
		}
	}
}

// all are the peers in the order of their indices.
func (t *Table) all() iter.Seq[*peer] {
	return func(yield func(*peer) bool) {
		for _, part := range t.slots {
			for i := range part {
				if part[i].count != nil && !yield(&part[i]) {
					return
				}
			}
		}
	}
}

// outbound finds the peer for an inner packet from the TUN.
func (t *Table) outbound(inner encap.IPv6) (int32, encap.Drop) {
	i := t.way(inner)
	return i, t.mayGo(i, inner)
}

// way is the index of the peer that an inner packet goes to, none when nobody has its
// destination.
func (t *Table) way(inner encap.IPv6) int32 {
	if !t.host && encap.LinkScope(inner) {
		return t.byLinkLocal(inner.Dst16())
	}
	if i, ok := t.routes.Lookup(inner.Dst()); ok {
		return i
	}
	return none
}

// none is the index of no peer.
const none int32 = -1

// mayGo decides whether an inner packet may go to a peer.
func (t *Table) mayGo(i int32, inner encap.IPv6) encap.Drop {
	switch {
	case i == none:
		return encap.DropNoPeer
	case t.host:
		return encap.Forward
	case encap.LinkScope(inner):
		if t.at(i).unproven {
			return encap.DropUnproven
		}
	case t.fromSame(i, inner):
		return encap.DropHairpin
	case t.at(i).unproven && (inner.Src() != t.self || !encap.EchoRequest(inner)):
		return encap.DropUnproven
	}
	return encap.Forward
}

// fromSame reports whether the source of a packet is the peer that it goes to.
func (t *Table) fromSame(i int32, inner encap.IPv6) bool {
	if p := t.at(i); p.plain && p.Map == nil {
		return p.owns(inner)
	}
	src := inner.Src()
	from, ok := t.sources.Lookup(src)
	return ok && from == i && !t.mapsHere(i, src)
}

// byLinkLocal finds the peer of a link-local address that was made from an IPv4
// address (RFC 4213, Section 3.7). In a hub no prefix leads there, not even ::/0:
// every peer is on a link of its own. A peer over UDP has none, for there may be more
// than one behind its address.
func (t *Table) byLinkLocal(dst [16]byte) int32 {
	i, ok := t.remotes.get(keyOf([4]byte(dst[12:])))
	if !ok || [12]byte(dst[:12]) != [12]byte{0xfe, 0x80} {
		return t.mapped // whose mapping knows its link
	}
	return i
}

// inbound finds the peer that an outer source belongs to and decides whether it may
// send this inner packet (RFC 4213, Section 3.6).
func (t *Table) inbound(src remoteKey, inner encap.IPv6) (int32, encap.Drop) {
	return t.inboundAfter(new(owner), src, inner)
}

// inboundAfter is inbound in a batch, where last is whose source the packet before had.
func (t *Table) inboundAfter(last *owner, src remoteKey, inner encap.IPv6) (int32, encap.Drop) {
	i, ok := t.remotes.get(src)
	if !ok {
		d := encap.DropNotPeer
		if i, d = t.inboundMapped(src, inner); d != encap.Forward {
			return 0, d
		}
	}
	p := t.at(i)
	if p.unproven && (inner.Dst() != t.self || !encap.EchoReply(inner)) {
		return 0, encap.DropUnproven
	}
	if p.plain && p.owns(inner) {
		return i, encap.Forward
	}
	owner, ok := last.of(t, inner)
	a := inner.Src()
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
