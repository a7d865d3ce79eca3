package encap

// Two MTUs meet at a tunnel, 20 bytes apart. They are two types, so that the
// compiler refuses to take one for the other:
//
//	WireMTU  the longest IPv4 packet the link or path to the peer carries
//	TunMTU   the longest IPv6 packet the tunnel carries, as the TUN is told and
//	         as an ICMPv6 packet too big tells a sender

// WireMTU is the length in bytes of the longest IPv4 packet, header included.
type WireMTU int

// TunMTU is the length in bytes of the longest inner IPv6 packet, header
// included.
type TunMTU int

const (
	// MinTunMTU is the least that every IPv6 link must carry (RFC 8200,
	// Section 5), whatever the wire below; the outer packet is fragmented then
	// (RFC 4213, Section 3.2).
	MinTunMTU TunMTU = 1280
	// MaxTunMTU is what fits under the outer header in the longest IPv4 packet.
	MaxTunMTU TunMTU = 65535 - HeaderLen
	// MinFragmentMTU is the least length that [Fragment] cuts to, as the kernel's
	// sit does: no link of today has less, but a forged ICMPv4 message may say so.
	MinFragmentMTU WireMTU = 552
)

// Tun returns the MTU of a tunnel over a wire of MTU m: 20 bytes less, but
// within [MinTunMTU, MaxTunMTU].
func (m WireMTU) Tun() TunMTU {
	return min(max(TunMTU(m-HeaderLen), MinTunMTU), MaxTunMTU)
}

// Wire returns the length of the outer packet that carries an inner one of m
// bytes: 20 bytes more.
func (m TunMTU) Wire() WireMTU { return WireMTU(m + HeaderLen) }
