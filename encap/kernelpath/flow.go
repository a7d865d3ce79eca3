package kernelpath

import (
	"errors"
	"fmt"
	"net/netip"

	"sixin4/encap"
)

// check finds what in f no program can be made of.
func (f *Flow) check() error {
	if _, err := f.Outer.Header(); err != nil {
		return err
	}
	switch {
	case f.Link <= 0:
		return fmt.Errorf("link %d: no interface index", f.Link)
	case len(f.LinkMAC) != 6 || len(f.HopMAC) != 6:
		return fmt.Errorf("%w: the link is not Ethernet", errors.ErrUnsupported)
	case f.MTU < encap.MinTunMTU || f.MTU > encap.MaxTunMTU:
		return fmt.Errorf("MTU %d: out of range, %d to %d", f.MTU, encap.MinTunMTU, encap.MaxTunMTU)
	case len(f.Ours) > MaxOurs:
		return fmt.Errorf("%w: %d prefixes of this host, at most %d", errors.ErrUnsupported, len(f.Ours), MaxOurs)
	case len(f.Here) > MaxHere:
		return fmt.Errorf("%w: %d addresses of this host, at most %d", errors.ErrUnsupported, len(f.Here), MaxHere)
	}
	return nil
}

// flow is the variable of that name in bpf/path.c.
type flow struct {
	Device, Link     uint32
	Src, Dst         [4]byte
	MTU              uint32
	DF               [2]byte
	TOS, TOSMask     uint8
	TTL, HopsMask    uint8
	Ethernet         [14]byte
	OursLen, HereLen uint32
	Ours             [MaxOurs]struct{ Value, Mask [16]byte }
	Here             [MaxHere][16]byte
}

const (
	ecnBits     = 0x03
	typeIPv4Hi  = 0x08 // EtherType 0x0800
	dontFragHi  = 0x40
	ethTypeFrom = 12
)

// forKernel is f as the programs read it. f has passed check.
func (f *Flow) forKernel(device int) *flow {
	k := &flow{
		Device: uint32(device), Link: uint32(f.Link),
		Src: f.Outer.Src.As4(), Dst: f.Outer.Dst.As4(), MTU: uint32(f.MTU),
		TOS: f.Outer.DSCP, TOSMask: ecnBits, TTL: f.Outer.TTL,
	}
	if !f.Outer.ClearDF {
		k.DF[0] = dontFragHi
	}
	if f.Outer.InheritDSCP {
		k.TOSMask = 0xff
	}
	if f.Outer.InheritTTL {
		k.HopsMask = 0xff
	} else if k.TTL == 0 {
		k.TTL = encap.DefaultTTL
	}
	copy(k.Ethernet[0:], f.HopMAC)
	copy(k.Ethernet[6:], f.LinkMAC)
	k.Ethernet[ethTypeFrom] = typeIPv4Hi
	for _, p := range f.Ours {
		if p.Addr().Is6() {
			k.Ours[k.OursLen].Value, k.Ours[k.OursLen].Mask = p.Masked().Addr().As16(), mask(p)
			k.OursLen++
		}
	}
	for _, a := range f.Here {
		k.Here[k.HereLen] = a.As16()
		k.HereLen++
	}
	return k
}

// mask has the bits of p's length set.
func mask(p netip.Prefix) (m [16]byte) {
	for i := range p.Bits() {
		m[i/8] |= 0x80 >> (i % 8)
	}
	return m
}
