package pool

import (
	"math/bits"
	"net/netip"
)

// Children of a node that are no nodes.
const (
	free  uint32 = 0 // nothing in it is taken
	taken uint32 = 1 // taken as a whole, as one block
	first        = 2 // the first real node
)

// node is a block that was split in two. A node whose halves are both free does not
// exist: they are one block again.
type node struct {
	kids [2]uint32
	// lengths has a bit for each length of free blocks inside: bit 0 for the length of
	// the space's root. Free blocks are as large as can be, never two free halves.
	lengths uint64
}

// space gives out aligned blocks of a prefix (buddy allocation). It is a binary tree
// whose shape depends on what is taken and on nothing else: not on the order in which
// that happened, so a restart changes nothing.
type space struct {
	root  netip.Prefix
	leaf  int // length of the smallest block; at most 63 more than the root's
	top   uint32
	nodes []node
	spare []uint32 // nodes to be used again
}

func newSpace(root netip.Prefix, leaf int) *space {
	return &space{root: root, leaf: leaf, nodes: make([]node, first)}
}

// alloc takes the first block of a length, in the smallest free one that it fits in.
func (s *space) alloc(length int) (netip.Prefix, bool) {
	fitting := s.lengths(s.top, s.root.Bits()) & (1<<(length-s.root.Bits()+1) - 1)
	if fitting == 0 {
		return netip.Prefix{}, false
	}
	b := netip.PrefixFrom(s.find(s.root.Bits()+bits.Len64(fitting)-1), length)
	s.take(b)
	return b, true
}

// find is the address of the first free block of exactly that length; there is one.
func (s *space) find(length int) netip.Addr {
	addr := s.root.Addr().As16()
	n := s.top
	for depth := s.root.Bits(); depth < length; depth++ {
		kids := s.nodes[n].kids
		if s.lengths(kids[0], depth+1)&s.bit(length) != 0 {
			n = kids[0]
			continue
		}
		n = kids[1]
		addr[depth/8] |= 0x80 >> (depth % 8)
	}
	return netip.AddrFrom16(addr)
}

// take takes a block inside the root, no longer than a leaf, if it is free.
func (s *space) take(b netip.Prefix) bool {
	addr := b.Addr().As16()
	top, ok := s.takeIn(s.top, s.root.Bits(), &addr, b.Bits())
	s.top = top
	return ok
}

// takeIn takes the block of addr and length in n, and returns what n is then.
func (s *space) takeIn(n uint32, depth int, addr *[16]byte, length int) (uint32, bool) {
	switch {
	case n == taken, depth == length && n != free:
		return n, false
	case depth == length:
		return taken, true
	case n == free:
		n = s.split()
	}
	side := half(addr, depth)
	kid, ok := s.takeIn(s.nodes[n].kids[side], depth+1, addr, length)
	s.nodes[n].kids[side] = kid
	s.update(n, depth)
	return n, ok
}

// give makes a taken block free; it reports whether it was taken, as that block.
func (s *space) give(b netip.Prefix) bool {
	addr := b.Addr().As16()
	top, ok := s.giveIn(s.top, s.root.Bits(), &addr, b.Bits())
	s.top = top
	return ok
}

func (s *space) giveIn(n uint32, depth int, addr *[16]byte, length int) (uint32, bool) {
	switch {
	case depth == length && n == taken:
		return free, true
	case n < first, depth == length:
		return n, false
	}
	side := half(addr, depth)
	kid, ok := s.giveIn(s.nodes[n].kids[side], depth+1, addr, length)
	s.nodes[n].kids[side] = kid
	if s.nodes[n].kids == [2]uint32{free, free} {
		s.spare = append(s.spare, n)
		return free, ok
	}
	s.update(n, depth)
	return n, ok
}

// split makes a node with two free halves.
func (s *space) split() uint32 {
	if last := len(s.spare) - 1; last >= 0 {
		n := s.spare[last]
		s.spare = s.spare[:last]
		s.nodes[n] = node{}
		return n
	}
	s.nodes = append(s.nodes, node{})
	return uint32(len(s.nodes) - 1)
}

func (s *space) update(n uint32, depth int) {
	kids := s.nodes[n].kids
	s.nodes[n].lengths = s.lengths(kids[0], depth+1) | s.lengths(kids[1], depth+1)
}

// lengths are those of the free blocks in a child.
func (s *space) lengths(n uint32, depth int) uint64 {
	switch n {
	case free:
		return s.bit(depth)
	case taken:
		return 0
	}
	return s.nodes[n].lengths
}

func (s *space) bit(length int) uint64 { return 1 << (length - s.root.Bits()) }

// half is which half of a block of length depth an address is in.
func half(addr *[16]byte, depth int) byte {
	return addr[depth/8] >> (7 - depth%8) & 1
}

// largest is the length of the largest free block; false when there is none.
func (s *space) largest() (int, bool) {
	m := s.lengths(s.top, s.root.Bits())
	return s.root.Bits() + bits.TrailingZeros64(m), m != 0
}
