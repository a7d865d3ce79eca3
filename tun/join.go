package tun

import (
	"bytes"
	"encoding/binary"

	"sixin4/encap/packet"
)

// Joining goes the way of the kernel's own receive offload: packets of one flow
// that follow each other become one super-packet, headers from the first,
// payloads in a row. Flows may be interleaved; the order within a flow is kept.

const (
	// openGroups is how many flows can grow at the same time in one batch.
	openGroups = 16
	// maxJoined bounds a group: the kernel takes no more than 64 datagrams in
	// one super-packet before 6.x, and 64 KiB hold no more full-sized segments.
	maxJoined = 64
	// maxTotal is the longest packet that is read, or made by joining.
	maxTotal = 65535
)

// group is packets that are written as one. A group of one is written as it is.
type group struct {
	first, last int // indices in the batch; the rest is chained by joiner.next
	count       int
	hash        uint64
	t           transport
	seg         int    // payload bytes of each packet but the last
	total       int    // length of the joined packet
	nextSeq     uint32 // TCP: the sequence number that would follow
	closed      bool   // nothing may follow
	checked     bool   // the checksum of the first packet was found right
}

// joiner sorts a batch into groups. It is reused from batch to batch.
type joiner struct {
	groups []group
	next   []int // next[i] is the packet after packet i in its group, or -1
	hashes [openGroups]uint64
	open   [openGroups]int // indices of groups that may still grow
	nopen  int
	tcp    bool // join TCP
	udp    bool // join UDP
}

// sort fills j.groups with the packets of b.
func (j *joiner) sort(b *packet.Batch) {
	j.groups, j.nopen = j.groups[:0], 0
	if cap(j.next) < b.Len() {
		j.next = make([]int, cap(b.Packets))
	}
	j.next = j.next[:b.Len()]
	for i := range b.Packets {
		j.next[i] = -1
		j.add(b, i)
	}
}

// add puts packet i into the group of its flow, or into one of its own.
func (j *joiner) add(b *packet.Batch, i int) {
	p := &b.Packets[i]
	g := group{first: i, last: i, count: 1, total: p.Len()}
	if !j.joinable(p, &g) {
		g.closed = true
		if g.hash != 0 {
			j.retire(g.hash) // what follows in this flow must not overtake it
		}
		j.groups = append(j.groups, g)
		return
	}
	for k := range j.nopen {
		if j.hashes[k] != g.hash {
			continue
		}
		if j.extend(b, &j.groups[j.open[k]], &g, i) {
			return
		}
		j.groups = append(j.groups, g)
		j.open[k] = len(j.groups) - 1
		return
	}
	j.groups = append(j.groups, g)
	if j.nopen < openGroups {
		j.hashes[j.nopen], j.open[j.nopen] = g.hash, len(j.groups)-1
		j.nopen++
	}
}

// retire closes the open group of a flow, if there is one.
func (j *joiner) retire(hash uint64) {
	for k := range j.nopen {
		if j.hashes[k] == hash {
			j.groups[j.open[k]].closed = true
		}
	}
}

// joinable fills in what g needs to grow and reports whether packet p may be
// part of a group at all. g.hash is set for every TCP or UDP packet.
func (j *joiner) joinable(p *packet.Packet, g *group) bool {
	h := p.Head()
	t, ok := findTransport(h)
	if !ok {
		return false
	}
	g.t, g.hash = t, flowHash(h, t)
	if !t.plain || g.total != ip6Len+int(binary.BigEndian.Uint16(h[ip6PayLen:])) {
		return false
	}
	g.seg = g.total - t.hlen
	if p.Seg != 0 || g.seg == 0 {
		return false
	}
	if t.udp {
		return j.udp && int(binary.BigEndian.Uint16(h[ip6Len+udpLength:])) == g.total-ip6Len &&
			(h[ip6Len+udpCheck]|h[ip6Len+udpCheck+1]) != 0
	}
	tcp := h[ip6Len:]
	g.nextSeq = binary.BigEndian.Uint32(tcp[tcpSeq:]) + uint32(g.seg)
	g.closed = tcp[tcpFlags]&tcpPSH != 0
	return j.tcp && tcp[tcpFlags]&(tcpFIN|tcpSYN|tcpRST|tcpURG|tcpCWR) == 0
}

// flowHash mixes addresses, ports and the protocol; it is never zero.
func flowHash(h []byte, t transport) uint64 {
	const k = 0x9e3779b97f4a7c15
	x := binary.LittleEndian.Uint64(h[8:])
	x = (x ^ binary.LittleEndian.Uint64(h[16:])) * k
	x = (x ^ x>>29 ^ binary.LittleEndian.Uint64(h[24:])) * k
	x = (x ^ x>>32 ^ binary.LittleEndian.Uint64(h[32:])) * k
	x = (x ^ x>>29 ^ uint64(binary.LittleEndian.Uint32(h[t.off:]))) * k
	if t.udp {
		x = ^x
	}
	return x | 1
}

// extend appends packet i, described by n, to group g if it follows it.
func (j *joiner) extend(b *packet.Batch, g, n *group, i int) bool {
	if g.closed || g.count == maxJoined || n.seg > g.seg || g.t != n.t || g.total+n.seg > maxTotal {
		return false
	}
	first, p := &b.Packets[g.first], &b.Packets[i]
	if !sameHeaders(first.Head(), p.Head(), g, n) {
		return false
	}
	if !g.checked {
		if !sumOK(first, g.t) {
			g.closed = true // it goes alone, for the receiver to judge
			return false
		}
		g.checked = true
	}
	if !sumOK(p, n.t) {
		return false
	}
	j.next[g.last] = i
	g.last, g.count, g.total, g.nextSeq = i, g.count+1, g.total+n.seg, n.nextSeq
	g.closed = n.closed || n.seg < g.seg
	return true
}

// sameHeaders reports whether header b may be dropped in favour of header a.
func sameHeaders(a, b []byte, g, n *group) bool {
	// version, class and flow label; hop limit; addresses
	if !bytes.Equal(a[:ip6PayLen], b[:ip6PayLen]) || a[7] != b[7] || !bytes.Equal(a[ip6Addrs:ip6Len], b[ip6Addrs:ip6Len]) {
		return false
	}
	a, b = a[ip6Len:], b[ip6Len:]
	if g.t.udp {
		return bytes.Equal(a[:udpLength], b[:udpLength])
	}
	return bytes.Equal(a[:tcpSeq], b[:tcpSeq]) && // ports
		binary.BigEndian.Uint32(b[tcpSeq:]) == g.nextSeq &&
		bytes.Equal(a[8:tcpFlags], b[8:tcpFlags]) && // acknowledgement, data offset
		(a[tcpFlags]^b[tcpFlags])&^tcpPSH == 0 &&
		bytes.Equal(a[14:16], b[14:16]) && // window
		bytes.Equal(a[18:g.t.hlen-ip6Len], b[18:n.t.hlen-ip6Len]) // urgent pointer, options
}

// sumOK reports whether the checksum of p is right, or is one that the receiver
// would compute only now. The pieces of p are contiguous up to the payload.
func sumOK(p *packet.Packet, t transport) bool {
	if p.Sum == packet.SumPartial {
		return true
	}
	h := p.Head()
	sum := pseudoSum(h, t, p.Len()-t.off)
	return packet.Fold(packet.AddBytes(packet.AddBytes(sum, h[t.off:]), p.Payload)) == 0xffff
}

// saved is what merge changes in the first packet of a group.
type saved struct {
	payLen, check, udpLength uint16
	flags                    byte
}

// merge turns the header of the first packet of g into that of the joined
// packet, with the checksum left to the kernel, and returns what unmerge needs.
func (g *group) merge(first, last *packet.Packet) (s saved) {
	h := first.Head()
	field := h[g.t.checkOff():]
	s.payLen = binary.BigEndian.Uint16(h[ip6PayLen:])
	s.check = binary.BigEndian.Uint16(field)
	binary.BigEndian.PutUint16(h[ip6PayLen:], uint16(g.total-ip6Len))
	if g.t.udp {
		s.udpLength = binary.BigEndian.Uint16(h[g.t.off+udpLength:])
		binary.BigEndian.PutUint16(h[g.t.off+udpLength:], uint16(g.total-g.t.off))
	} else {
		s.flags = h[g.t.off+tcpFlags]
		h[g.t.off+tcpFlags] |= last.Head()[g.t.off+tcpFlags] & tcpPSH
	}
	binary.BigEndian.PutUint16(field, packet.Fold(pseudoSum(h, g.t, g.total-g.t.off)))
	return s
}

// unmerge gives the first packet of g its own header back.
func (g *group) unmerge(first *packet.Packet, s saved) {
	h := first.Head()
	binary.BigEndian.PutUint16(h[ip6PayLen:], s.payLen)
	binary.BigEndian.PutUint16(h[g.t.checkOff():], s.check)
	if g.t.udp {
		binary.BigEndian.PutUint16(h[g.t.off+udpLength:], s.udpLength)
	} else {
		h[g.t.off+tcpFlags] = s.flags
	}
}

// vnet describes a packet whose checksum is left to the kernel, cut at seg
// bytes of payload, or not at all when seg is 0.
func (t transport) vnet(seg int) vnetHdr {
	v := vnetHdr{
		flags: vnetNeedsCsum, hdrLen: uint16(t.hlen), gsoSize: uint16(seg),
		csumStart: uint16(t.off), csumOffset: uint16(t.checkOff() - t.off),
	}
	switch {
	case seg == 0:
	case t.udp:
		v.gsoType = gsoUDP
	default:
		v.gsoType = gsoTCPv6
	}
	return v
}
