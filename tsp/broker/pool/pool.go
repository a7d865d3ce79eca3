// Package pool divides a broker's IPv6 prefix into addresses for tunnels and prefixes
// to delegate (RFC 5572, Section 4.7.1 has both, from memory: the RFC's text could not
// be consulted). It does no I/O and knows no time; package store remembers.
//
// # Layout
//
// The first /64 is for tunnels. Its address ::1 is the broker's end of all of them, and
// each client's end is one of the 2^32-2 addresses from ::2 on. The rest is for
// delegation, in blocks of /48 to /64 as long as they are aligned. Of 2001:db8:1000::/36:
//
//	2001:db8:1000::             nobody's: the anycast address of routers (RFC 4291, 2.6.1)
//	2001:db8:1000::1            the broker
//	2001:db8:1000::2            the first client
//	2001:db8:1000:1::/64 ...    smaller prefixes, first the rest of this /48
//	2001:db8:1001::/48          the first /48
//
// One address for the broker, not one for each tunnel: it needs no change of the host
// when a tunnel comes, and a /48 has room for 65 535 networks instead of half as many.
// A client that has two tunnels to one broker tells them apart by its own end.
//
// Blocks are given out by buddy allocation: the first one in the smallest free block
// that is large enough, so large ones stay whole, and two free halves are one again.
// What is free depends only on what is taken now, never on the way there.
package pool

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
)

// Bounds on prefixes in bits.
const (
	MinPool   = 20 // shortest prefix of a pool
	MaxPool   = 64 // longest; from it there is nothing to delegate
	MinPrefix = 48 // shortest prefix to delegate
	MaxPrefix = 64 // longest
)

// suffix is the length of the network of client addresses: the first /64 has far more
// than needed, and a space spans no more than 63 bits.
const suffix = 96

// The causes of errors that callers tell apart.
var (
	ErrFull    = errors.New("nothing left")
	ErrTaken   = errors.New("taken already")
	ErrOutside = errors.New("outside of the pool")
)

// Taken is an address (as a /128) or a prefix that has an owner.
type Taken struct {
	Block netip.Prefix
	Owner string // for error messages
}

// Pool knows what is free. Its methods must not be called at the same time.
type Pool struct {
	prefix    netip.Prefix
	addresses *space // of the first /64
	networks  *space // all, with the first /64 taken
	// odd are networks with addresses that a pool with another beginning gave out.
	odd  map[netip.Prefix]map[netip.Addr]bool
	used Usage
}

// Usage is how much is taken and free.
type Usage struct {
	Addresses int    // taken
	Prefixes  int    // taken
	Free      uint64 // /64 networks that are left for prefixes
	Largest   int    // length in bits of the largest prefix that is left; 0 for none
}

// New makes a pool of a prefix of MinPool to MaxPool bits without host bits. It fails
// if two that are taken overlap, naming both owners, with ErrOutside if one is not in
// the prefix, and if the broker's own address is taken.
func New(prefix netip.Prefix, taken []Taken) (*Pool, error) {
	if err := check(prefix); err != nil {
		return nil, fmt.Errorf("pool: %w", err)
	}
	if err := disjoint(taken); err != nil {
		return nil, fmt.Errorf("pool: %w", err)
	}
	p := empty(prefix)
	for _, t := range taken {
		if err := p.Take(t.Block); err != nil {
			return nil, fmt.Errorf("pool: %s has %v: %w", t.Owner, t.Block, err)
		}
	}
	return p, nil
}

func check(prefix netip.Prefix) error {
	switch {
	case !prefix.IsValid() || prefix.Addr().Is4() || prefix.Addr().Is4In6():
		return fmt.Errorf("%v is not an IPv6 prefix", prefix)
	case prefix.Bits() < MinPool || prefix.Bits() > MaxPool:
		return fmt.Errorf("%v: not /%d to /%d", prefix, MinPool, MaxPool)
	case prefix.Masked() != prefix:
		return fmt.Errorf("%v: host bits are set, write %v", prefix, prefix.Masked())
	}
	return nil
}

// empty makes a pool of which only the broker's part is taken.
func empty(prefix netip.Prefix) *Pool {
	tunnels := netip.PrefixFrom(prefix.Addr(), suffix)
	p := &Pool{
		prefix:    prefix,
		addresses: newSpace(tunnels, 128),
		networks:  newSpace(prefix, MaxPrefix),
		odd:       map[netip.Prefix]map[netip.Addr]bool{},
	}
	p.addresses.take(netip.PrefixFrom(prefix.Addr(), 127)) // anycast and ::1
	p.networks.take(netip.PrefixFrom(prefix.Addr(), 64))
	p.used.Free = 1<<(MaxPrefix-prefix.Bits()) - 1
	return p
}

// disjoint fails when two blocks overlap. In the order of addresses, the shorter
// prefix first, a block that overlaps an earlier one lies inside of the one before it:
// there is no other way for aligned blocks, as long as those before are disjoint.
func disjoint(taken []Taken) error {
	sorted := slices.SortedFunc(slices.Values(taken), func(a, b Taken) int {
		if c := a.Block.Addr().Compare(b.Block.Addr()); c != 0 {
			return c
		}
		return a.Block.Bits() - b.Block.Bits()
	})
	for i := range len(sorted) - 1 {
		a, b := sorted[i], sorted[i+1]
		if a.Block.Overlaps(b.Block) {
			return fmt.Errorf("two owners: %v of %s and %v of %s overlap", a.Block, a.Owner, b.Block, b.Owner)
		}
	}
	return nil
}

// Server is the broker's address in all tunnels.
func (p *Pool) Server() netip.Addr { return p.prefix.Addr().Next() }

// Address takes the first free address for a client. The error is ErrFull.
func (p *Pool) Address() (netip.Addr, error) {
	b, ok := p.addresses.alloc(128)
	if !ok {
		return netip.Addr{}, fmt.Errorf("address: %w", ErrFull)
	}
	p.used.Addresses++
	return b.Addr(), nil
}

// Prefix takes a prefix of MinPrefix to MaxPrefix bits. The error wraps ErrFull when
// there is none.
func (p *Pool) Prefix(bits int) (netip.Prefix, error) {
	if bits < MinPrefix || bits > MaxPrefix {
		return netip.Prefix{}, fmt.Errorf("prefix: /%d is not /%d to /%d", bits, MinPrefix, MaxPrefix)
	}
	if bits < p.prefix.Bits() {
		return netip.Prefix{}, fmt.Errorf("prefix /%d: %w: the pool is a /%d", bits, ErrFull, p.prefix.Bits())
	}
	b, ok := p.networks.alloc(bits)
	if !ok {
		return netip.Prefix{}, fmt.Errorf("prefix /%d: %w", bits, ErrFull)
	}
	p.count(b, 1)
	return b, nil
}

// count notes that a prefix was taken (1) or given back (-1).
func (p *Pool) count(b netip.Prefix, change int) {
	p.used.Prefixes += change
	size := uint64(1) << (MaxPrefix - b.Bits())
	if change > 0 {
		p.used.Free -= size
	} else {
		p.used.Free += size
	}
}

// Take takes an address (as a /128) or a prefix that somebody has got elsewhere. The
// error wraps ErrTaken or ErrOutside.
//
// An address that is in the pool but not in its first /64 comes from a time when the
// pool began elsewhere. Its /64 is then not given to anybody.
func (p *Pool) Take(b netip.Prefix) error {
	s, err := p.part(b)
	switch {
	case err != nil:
		return err
	case s == nil:
		return p.takeOdd(b)
	case !s.take(b):
		return ErrTaken
	case s == p.addresses:
		p.used.Addresses++
	default:
		p.count(b, 1)
	}
	return nil
}

// Free gives an address (as a /128) or a prefix back. The error is about what was not
// taken as that block.
func (p *Pool) Free(b netip.Prefix) error {
	s, err := p.part(b)
	switch {
	case err != nil:
		return err
	case s == nil:
		return p.freeOdd(b)
	case p.ours(b) || !s.give(b):
		return fmt.Errorf("%v is not taken", b)
	case s == p.addresses:
		p.used.Addresses--
	default:
		p.count(b, -1)
	}
	return nil
}

// ours reports whether a block is taken, but not by anybody who could give it back.
func (p *Pool) ours(b netip.Prefix) bool {
	return b == netip.PrefixFrom(p.prefix.Addr(), MaxPrefix) || p.odd[b] != nil
}

// part is the space that a block belongs to; nil for an address out of place.
func (p *Pool) part(b netip.Prefix) (*space, error) {
	switch {
	case !b.IsValid() || b.Masked() != b || b.Bits() < p.prefix.Bits() || !p.prefix.Contains(b.Addr()):
		return nil, ErrOutside
	case b.Bits() >= MinPrefix && b.Bits() <= MaxPrefix:
		return p.networks, nil
	case b.Bits() != 128:
		return nil, fmt.Errorf("%v is neither an address nor a /%d to /%d", b, MinPrefix, MaxPrefix)
	case p.addresses.root.Contains(b.Addr()):
		return p.addresses, nil
	}
	return nil, nil
}

func (p *Pool) takeOdd(b netip.Prefix) error {
	network := netip.PrefixFrom(b.Addr(), MaxPrefix).Masked()
	switch there := p.odd[network]; {
	case there[b.Addr()]:
		return ErrTaken
	case there == nil:
		if !p.networks.take(network) {
			return ErrTaken
		}
		p.used.Free--
		p.odd[network] = map[netip.Addr]bool{}
	}
	p.odd[network][b.Addr()] = true
	p.used.Addresses++
	return nil
}

func (p *Pool) freeOdd(b netip.Prefix) error {
	network := netip.PrefixFrom(b.Addr(), MaxPrefix).Masked()
	there := p.odd[network]
	if !there[b.Addr()] {
		return fmt.Errorf("%v is not taken", b)
	}
	p.used.Addresses--
	if delete(there, b.Addr()); len(there) == 0 {
		delete(p.odd, network)
		p.networks.give(network)
		p.used.Free++
	}
	return nil
}

// Usage is how much is taken and free.
func (p *Pool) Usage() Usage {
	u := p.used
	if largest, ok := p.networks.largest(); ok {
		u.Largest = max(largest, MinPrefix)
	}
	return u
}
