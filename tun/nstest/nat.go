package nstest

import (
	"fmt"
	"net/netip"
)

// NAT is what a router does to IPv4 packets that leave by a link: they get the address of
// the link, and what answers them is given back (RFC 3022, from memory). Other hosts get
// in only as an answer from where a flow went. It is the kernel's own, by nftables.
type NAT struct {
	Link string // the outer one
	// Random gives each flow another port, where otherwise it keeps its own if that is
	// free: what is called symmetric.
	Random bool
	// Inside, if valid, is given all UDP that comes in by the link, from wherever: with
	// ports that are kept that is called a full cone.
	Inside netip.Addr
	// Only, if valid, restricts that to what comes from one address, from whatever port:
	// with the address that a flow went to it is called an address-restricted cone.
	Only netip.Addr
}

// AddNAT makes the namespace a NAT. It needs no program, only a kernel with nftables; the
// namespace must forward IPv4.
func (ns *NS) AddNAT(n NAT) error {
	if n.Inside.IsValid() && !n.Inside.Is4() || n.Only.IsValid() && !n.Only.Is4() {
		return fmt.Errorf("add NAT: inside %v or only %v is not IPv4", n.Inside, n.Only)
	}
	if err := ns.Do(func() error { return addNAT(n) }); err != nil {
		return fmt.Errorf("add NAT at %s: %w", n.Link, err)
	}
	return nil
}

// FlushNAT makes the namespace forget all flows, as a NAT that starts anew does.
func (ns *NS) FlushNAT() error {
	if err := ns.Do(flushNAT); err != nil {
		return fmt.Errorf("flush NAT: %w", err)
	}
	return nil
}

// DropForwarded makes the namespace forward no IPv4 packets of a protocol, without a word.
func (ns *NS) DropForwarded(protocol uint8) error {
	if err := ns.Do(func() error { return dropForwarded(protocol) }); err != nil {
		return fmt.Errorf("drop protocol %d: %w", protocol, err)
	}
	return nil
}
