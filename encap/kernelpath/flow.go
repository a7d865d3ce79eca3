package kernelpath

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"sixin4/encap"
)

// check finds what in f no program can be made of.
func (f *Flow) check() error {
	if len(f.Here) > MaxHere {
		return fmt.Errorf("%w: %d addresses of this host, at most %d", errors.ErrUnsupported, len(f.Here), MaxHere)
	}
	if len(f.Ours) > MaxOurs {
		return fmt.Errorf("%w: %d prefixes of this host, at most %d", errors.ErrUnsupported, len(f.Ours), MaxOurs)
	}
	if f.Hub != nil {
		return f.Hub.check()
	}
	if _, err := f.Outer.Header(); err != nil {
		return err
	}
	switch {
	case (f.SrcPort == 0) != (f.DstPort == 0):
		return fmt.Errorf("ports %d and %d: a tunnel in UDP has both, one of protocol 41 none", f.SrcPort, f.DstPort)
	case f.Link <= 0:
		return fmt.Errorf("link %d: no interface index", f.Link)
	case len(f.LinkMAC) != 6 || len(f.HopMAC) != 6:
		return fmt.Errorf("%w: the link is not Ethernet", errors.ErrUnsupported)
	case f.MTU < encap.MinTunMTU || f.MTU > encap.MaxTunMTU:
		return fmt.Errorf("MTU %d: out of range, %d to %d", f.MTU, encap.MinTunMTU, encap.MaxTunMTU)
	}
	return nil
}

// links are those that packets come in from.
func (f *Flow) links() []int {
	if f.Hub != nil {
		return f.Hub.Links
	}
	return []int{f.Link}
}

// ends is struct ends of bpf/path.c.
type ends struct {
	Src, Dst         [4]byte
	SrcPort, DstPort [2]byte
}

// way is struct way.
type way struct {
	Ends             ends
	Link, MTU, Trial uint32
}

// prefix is struct prefix.
type prefix struct{ Value, Mask [16]byte }

// flow is the variable of that name.
type flow struct {
	Device                    uint32
	Way                       way
	DF                        [2]byte
	TOS, TOSMask              uint8
	TTL, HopsMask             uint8
	Hub, UDP                  uint8
	Ethernet                  [14]byte
	Asks                      [2]byte
	OursLen, HereLen, Blocked uint32
	Ours                      [MaxOurs]prefix
	Here                      [MaxHere][16]byte
	BlockedPorts              [MaxBlocked]struct {
		Number         [2]byte
		Protocol, Zero uint8
	}
}

const (
	ecnBits     = 0x03
	typeIPv4Hi  = 0x08 // EtherType 0x0800
	dontFragHi  = 0x40
	ethTypeFrom = 12
)

// forKernel is f as the programs read it. f has passed check.
func (f *Flow) forKernel(device int) *flow {
	k := newFlow(device, f.Outer)
	for i, a := range f.Here {
		k.Here[i] = a.As16()
	}
	k.HereLen = uint32(len(f.Here))
	for _, p := range f.Ours {
		if p.Addr().Is6() {
			k.Ours[k.OursLen] = newPrefix(p)
			k.OursLen++
		}
	}
	binary.BigEndian.PutUint16(k.Asks[:], f.Asks)
	if f.Hub != nil {
		f.Hub.add(k)
		return k
	}
	k.Way = way{newEnds(f.Outer.Src, f.SrcPort, f.Outer.Dst, f.DstPort), uint32(f.Link), uint32(f.MTU), uint32(truth(f.Trial))}
	k.UDP = truth(f.SrcPort != 0)
	copy(k.Ethernet[0:], f.HopMAC)
	copy(k.Ethernet[6:], f.LinkMAC)
	k.Ethernet[ethTypeFrom] = typeIPv4Hi
	return k
}

// newFlow is what outer says about the outer header, its addresses aside.
func newFlow(device int, outer encap.Outer) *flow {
	k := &flow{Device: uint32(device), TOS: outer.DSCP, TOSMask: ecnBits, TTL: outer.TTL}
	if !outer.ClearDF {
		k.DF[0] = dontFragHi
	}
	if outer.InheritDSCP {
		k.TOSMask = 0xff
	}
	if outer.InheritTTL {
		k.HopsMask = 0xff
	} else if k.TTL == 0 {
		k.TTL = encap.DefaultTTL
	}
	return k
}

func newEnds(src netip.Addr, srcPort uint16, dst netip.Addr, dstPort uint16) (e ends) {
	e.Src, e.Dst = src.As4(), dst.As4()
	binary.BigEndian.PutUint16(e.SrcPort[:], srcPort)
	binary.BigEndian.PutUint16(e.DstPort[:], dstPort)
	return e
}

func newPrefix(p netip.Prefix) prefix {
	return prefix{p.Masked().Addr().As16(), mask(p)}
}

func truth(b bool) uint8 {
	if b {
		return 1
	}
	return 0
}

// mask has the bits of p's length set.
func mask(p netip.Prefix) (m [16]byte) {
	for i := range p.Bits() {
		m[i/8] |= 0x80 >> (i % 8)
	}
	return m
}
