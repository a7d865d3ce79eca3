package engine

import "sixin4/encap"

// Ports are destination ports.
type Ports struct{ TCP, UDP []uint16 }

// portSet is what Ports come to. Nil has none.
type portSet struct{ tcp, udp bitmap }

type bitmap [1 << 16 / 64]uint64

func newPortSet(p Ports) *portSet {
	if len(p.TCP)+len(p.UDP) == 0 {
		return nil
	}
	s := new(portSet)
	s.tcp.add(p.TCP)
	s.udp.add(p.UDP)
	return s
}

func (b *bitmap) add(ports []uint16) {
	for _, p := range ports {
		b[p/64] |= 1 << (p % 64)
	}
}

func (b *bitmap) has(port uint16) bool { return b[port/64]>>(port%64)&1 != 0 }

// blocks reports whether a packet goes to one of the ports, or hides where it goes.
func (s *portSet) blocks(inner encap.IPv6) bool {
	if s == nil {
		return false
	}
	proto, port, ok := encap.DestinationPort(inner)
	switch {
	case !ok:
		return true
	case proto == encap.ProtoTCP:
		return s.tcp.has(port)
	case proto == encap.ProtoUDP:
		return s.udp.has(port)
	}
	return false
}
