// Package kernelpath lets the kernel itself carry the plain packets of a 6in4 tunnel
// (RFC 4213), or of tunnels of IPv6 in UDP (RFC 5572, v6udpv4), between a TUN device and
// Ethernet links, at the speed of IPv6 without a tunnel. RFC texts are cited from memory.
//
// Two BPF programs (bpf/path.c) are attached by TCX, which Linux has since 6.6: one where
// packets enter the TUN, one where they come in from the link. Packets that the stack
// has merged, or not cut yet, pass them whole. A packet that a program does not carry
// goes on as if the program were not there, to the TUN's reader or to the socket.
// So the engine stays the slow path, and the only place of policy: nothing is refused
// here, and nothing answered.
//
// Carried are, in both directions, IPv6 packets without extension headers from and to
// addresses of 2000::/3 outside 2002::/16: TCP without SYN, UDP, ICMPv6 echo requests
// and replies. Lengths must agree, and the packet, or each one that it is cut into, fit
// the MTU of the tunnel. One that is not to be cut has 15 000 bytes at most, since the kernel
// lets no program make longer ones. On the way in also:
//
//   - the outer packet is no fragment, has no options, no VLAN tag, a right header
//     checksum, and exactly the two addresses of the tunnel, or of one of a hub's;
//   - the inner source is not one of Flow.Ours, and that of a hub's peer in its prefixes;
//   - its ECN field is not one that RFC 6040, Section 4.2 has dropped;
//   - the inner destination is one of Flow.Here. A packet that was merged still has the
//     kernel's marks of a tunnel when it is taken out (gso_type and encapsulation of the
//     skb), since no BPF helper of Linux 6.18 takes them away. TCP on this host does not
//     mind. A network card that is to cut the packet again might, and so what this host
//     forwards is left to the engine.
//
// In UDP there are differences. No checksum is sent, since there is none over what is yet
// to be cut, and only datagrams without one are taken in: those of an engine, which have one,
// shall not be overtaken. UDP that was merged is not carried: nobody could cut it again where
// the kernel hands it to a socket. Of ICMPv6 nothing is but our own echo requests, on the way
// out: the engine sees who answers its keepalive.
//
// The programs go with the Path, and with the process however it ends. What they carry
// is not seen by this host's IPv4 packet filter, connection tracking and IPsec, nor by
// captures (tcpdump) of the TUN on the way out, and the interface counters of the TUN
// leave it out.
package kernelpath

import (
	"net"
	"net/netip"
	"time"

	"sixin4/encap"
)

// How many prefixes and addresses a Flow may have.
const (
	MaxOurs    = 64
	MaxHere    = 16
	MaxBlocked = 16 // ports of a Hub
)

// Config describes a path.
type Config struct {
	Device int // interface index of the TUN; required
	Peers  int // how many peers a hub may have; 0 when it will be none
}

// Flow is a tunnel as the kernel needs to know it.
type Flow struct {
	Outer encap.Outer // the outer header, with both addresses
	// SrcPort and DstPort are those of a tunnel in UDP; 0 for one of protocol 41. The far
	// end must take merged TCP, and datagrams without a checksum.
	SrcPort, DstPort uint16
	// Trial is for a tunnel in UDP of which is not known yet whether datagrams without a
	// checksum arrive: nothing is sent but the ICMPv6 echo requests with the identifier
	// Asks. Those are sent by the kernel in any case, and no others.
	Trial bool
	Asks  uint16
	// Link is the interface index of the Ethernet link to the peer, LinkMAC its own
	// address and HopMAC that of the next host, of 6 bytes each.
	Link            int
	LinkMAC, HopMAC net.HardwareAddr
	MTU             encap.TunMTU   // the longest inner packet that is sent; longer ones are the engine's
	Ours            []netip.Prefix // IPv6 sources that nobody may use, at most MaxOurs
	Here            []netip.Addr   // IPv6 addresses of this host, at most MaxHere
	// Hub is for a tunnel of many peers, which PutPeer tells: of the other fields it has
	// Here, Asks, Ours but for what is more exactly a peer's, and Outer without addresses.
	Hub *Hub
}

// Stats are what the kernel has carried since Open. A packet that was not cut yet, or
// merged, counts as those that it is cut into.
type Stats struct {
	Tx, Rx    Count
	LastHeard time.Time // when the last packet came in; zero: never
	// TxLost and RxLost are packets that were lost half way, for want of memory.
	TxLost, RxLost uint64
	// TxWhole and RxWhole are how often several packets went as one.
	TxWhole, RxWhole uint64
}

// Plus is the sum of two, and when either was heard last.
func (s Stats) Plus(o Stats) Stats {
	s.Tx, s.Rx = s.Tx.plus(o.Tx), s.Rx.plus(o.Rx)
	if o.LastHeard.After(s.LastHeard) {
		s.LastHeard = o.LastHeard
	}
	s.TxLost += o.TxLost
	s.RxLost += o.RxLost
	s.TxWhole += o.TxWhole
	s.RxWhole += o.RxWhole
	return s
}

// Count is packets and their bytes, outer headers not included.
type Count struct{ Packets, Bytes uint64 }

func (c Count) plus(o Count) Count { return Count{c.Packets + o.Packets, c.Bytes + o.Bytes} }

// Open makes a path that carries nothing yet. The error wraps errors.ErrUnsupported
// where the kernel cannot do it, or this process may not: it takes Linux 6.6, and
// CAP_BPF and CAP_NET_ADMIN on the machine.
func Open(cfg Config) (*Path, error) { return open(cfg) }

// Path is the kernel's way through one tunnel. Its methods may be used by several
// goroutines at once.
type Path struct{ path }

// Set gives the path another flow, or none. Each direction changes at once, between two
// packets; the two directions one after the other. On an error nothing is carried any
// more. It must be called in the network namespace of the device and the link, and
// returns os.ErrClosed after Close.
func (p *Path) Set(f *Flow) error { return p.set(f) }

// Stats returns the counters. They stay what they are after Close.
func (p *Path) Stats() (Stats, error) { return p.stats() }

// Others names the programs of others at the TUN's egress, which might see what this
// path takes away before them.
func (p *Path) Others() (seen []string, err error) { return p.others() }

// Intact reports whether the programs are where Set has put them: somebody may have taken
// them away since. Set puts them back.
func (p *Path) Intact() bool { return p.intact() }

// Programs returns the IDs of the programs at the ingress of a link that belong to paths
// of any process. They look only at packets of their own tunnel. Of other processes'
// programs it knows only with CAP_SYS_ADMIN on the machine.
func (p *Path) Programs(link int) ([]uint32, error) { return p.programs(link) }

// Close ends the path: the engine gets every packet. It is idempotent.
func (p *Path) Close() error { return p.close() }
