package encap

import "iter"

// Drop says why a packet was refused. The zero value is [Forward]: it was not.
// Every way to refuse a packet anywhere between the TUN and the wire has its own
// value, so that each can have its own counter.
type Drop uint8

const (
	// Forward is not a drop: the packet goes on its way.
	Forward Drop = iota

	// What the wire brought and Decap refuses for its outer header.

	// DropOuterShort: fewer than the 20 bytes of an IPv4 header.
	DropOuterShort
	// DropOuterVersion: the outer version is not 4.
	DropOuterVersion
	// DropOuterLength: header length below 20 bytes, or header or total length
	// beyond the bytes that arrived, or a total length below the header's.
	DropOuterLength
	// DropOuterChecksum: the checksum of an IPv4 header without options is wrong.
	DropOuterChecksum
	// DropOuterFragment: one piece of a fragmented packet. The kernel reassembles
	// before a raw socket sees a packet, so this one never became whole.
	DropOuterFragment
	// DropOuterProtocol: not protocol 41.
	DropOuterProtocol
	// DropOuterSource: the outer source is no unicast address: 0/8, 127/8,
	// multicast, 240/4 and broadcast (RFC 4213, Section 3.6; RFC 1122,
	// Section 3.2.1.3); or, by [Mapping.Inbound], our own.
	DropOuterSource
	// DropNotPeer: the outer source is no configured peer; by the engine
	// (RFC 4213, Section 3.6).
	DropNotPeer

	// The inner packet, in both directions.

	// DropInnerShort: fewer than the 40 bytes of an IPv6 header.
	DropInnerShort
	// DropInnerVersion: the inner version is not 6.
	DropInnerVersion
	// DropInnerLength: the payload length is beyond the bytes that arrived.
	DropInnerLength

	// The inner packet on its way in.

	// DropECN: the outer header says congestion experienced and the inner packet
	// is Not-ECT; dropping is the only signal its sender understands (RFC 6040,
	// Section 4.2).
	DropECN
	// DropInnerSourceUnspecified: source ::, and not a neighbour solicitation of
	// duplicate address detection.
	DropInnerSourceUnspecified
	// DropInnerSourceLoopback: source ::1.
	DropInnerSourceLoopback
	// DropInnerSourceMulticast: source ff00::/8.
	DropInnerSourceMulticast
	// DropInnerSourceMapped: source ::ffff:a.b.c.d, which would pass a host's
	// IPv4 filters (RFC 4213, Section 3.6; RFC 4942).
	DropInnerSourceMapped
	// DropInnerSourceCompatible: source ::a.b.c.d (RFC 4213, Section 3.6).
	DropInnerSourceCompatible
	// DropInnerSourceSiteLocal: source fec0::/10, deprecated by RFC 3879.
	DropInnerSourceSiteLocal
	// DropInnerSource6to4: source 2002:V4::/48 whose V4 is private, link-local,
	// loopback or not unicast (RFC 3964).
	DropInnerSource6to4
	// DropInnerSourceOurs: the source is an address of this host or of a network
	// it is attached to, which cannot arrive from outside; by the engine's ingress
	// filter.
	DropInnerSourceOurs
	// DropInnerSourceNotPeers: in a hub, the source is outside the prefixes of
	// the peer that sent it; by the engine.
	DropInnerSourceNotPeers
	// DropInnerSourceLinkLocal: in a hub, a link-local source and a destination
	// beyond the link; by the engine, see [LinkScope].
	DropInnerSourceLinkLocal
	// DropInnerRouter: a router advertisement or redirect. Whoever can forge the
	// peer's IPv4 address could give this host addresses and routes with it; the
	// hop limit of 255 proves nothing inside a tunnel.
	DropInnerRouter
	// DropBlockedPort: TCP or UDP to a destination port that a peer may not send to, or
	// a packet that hides whether it is, see [DestinationPort]; by the engine of a hub,
	// which answers with [AppendUnreachable].
	DropBlockedPort
	// DropPeerRate: more than the rate of the peer, to it or from it; by the engine of
	// a hub.
	DropPeerRate
	// DropMappedSource: the inner source holds another IPv4 address than the one that
	// sent the packet; by [Mapping.Inbound] (RFC 3964; RFC 5969, Section 12; RFC 5214,
	// Section 7.3).
	DropMappedSource
	// DropNotRelay: the inner source holds no IPv4 address, and who sent the packet is
	// no relay or router of the mapping; by [Mapping.Inbound].
	DropNotRelay
	// DropMappedOther: the inner destination is of another site, for which this host is
	// no relay; by [Mapping.Inbound].
	DropMappedOther
	// DropMergedUDP: the kernel merged several UDP packets into this one and did
	// not say where each ends, so that it cannot be split again; by the engine.
	DropMergedUDP
	// DropWireOverflow: lost by the kernel because the socket's receive buffer
	// was full; read by wire from SO_MEMINFO.
	DropWireOverflow

	// What the TUN brought and does not reach the wire.

	// DropTunMalformed: the kernel's own description of a packet contradicts the
	// packet; told by the TUN.
	DropTunMalformed
	// DropNoPeer: no peer has the destination; by the engine, which answers with
	// [AppendUnreachable].
	DropNoPeer
	// DropMappedDestination: the IPv4 address that the inner destination holds, or does
	// not hold, is none to send to; by [Mapping.Outbound].
	DropMappedDestination
	// DropNoRelay: the inner destination is native, and the mapping has no relay; by
	// [Mapping.Outbound].
	DropNoRelay
	// DropLoop: the packet carries an outer packet of our own; by [CheckNesting].
	DropLoop
	// DropNested: the packet is in too many tunnels already, or says that it may be in
	// none any more; by [CheckNesting] (RFC 2473, Sections 4.1 and 4.1.1).
	DropNested
	// DropTooBig: longer than the tunnel MTU; by the engine, which answers with
	// [AppendPacketTooBig].
	DropTooBig
	// DropHairpin: the peer that sent the packet is also the way to its
	// destination; by the engine of a hub.
	DropHairpin
	// DropUnproven: nobody has shown yet that the peer is where it says; by the
	// engine of a hub.
	DropUnproven
	// DropSendNoBufs: ENOBUFS, the interface's queue is full.
	DropSendNoBufs
	// DropSendMsgSize: EMSGSIZE, longer than the link or path MTU.
	DropSendMsgSize
	// DropSendPerm: EPERM, a firewall rule of this host.
	DropSendPerm
	// DropSendUnreachable: ENETUNREACH, EHOSTUNREACH or ENETDOWN, no way to the
	// peer at present.
	DropSendUnreachable
	// DropSendError: any other error of the wire.
	DropSendError

	// What could not be written to the TUN.

	// DropTunDown: EIO, the interface is down.
	DropTunDown
	// DropTunError: any other error of the TUN.
	DropTunError

	// NumDrops is the number of values, [Forward] included: the length of an
	// array of counters indexed by Drop.
	NumDrops = iota
)

var dropNames = [NumDrops]string{
	Forward:                    "forward",
	DropOuterShort:             "outer-short",
	DropOuterVersion:           "outer-version",
	DropOuterLength:            "outer-length",
	DropOuterChecksum:          "outer-checksum",
	DropOuterFragment:          "outer-fragment",
	DropOuterProtocol:          "outer-protocol",
	DropOuterSource:            "outer-source",
	DropNotPeer:                "not-peer",
	DropInnerShort:             "inner-short",
	DropInnerVersion:           "inner-version",
	DropInnerLength:            "inner-length",
	DropECN:                    "ecn",
	DropInnerSourceUnspecified: "inner-source-unspecified",
	DropInnerSourceLoopback:    "inner-source-loopback",
	DropInnerSourceMulticast:   "inner-source-multicast",
	DropInnerSourceMapped:      "inner-source-mapped",
	DropInnerSourceCompatible:  "inner-source-compatible",
	DropInnerSourceSiteLocal:   "inner-source-site-local",
	DropInnerSource6to4:        "inner-source-6to4",
	DropInnerSourceOurs:        "inner-source-ours",
	DropInnerSourceNotPeers:    "inner-source-not-peers",
	DropInnerSourceLinkLocal:   "inner-source-link-local",
	DropInnerRouter:            "inner-router",
	DropBlockedPort:            "blocked-port",
	DropPeerRate:               "peer-rate",
	DropMappedSource:           "mapped-source",
	DropNotRelay:               "not-relay",
	DropMappedOther:            "mapped-other",
	DropMergedUDP:              "merged-udp",
	DropWireOverflow:           "wire-overflow",
	DropTunMalformed:           "tun-malformed",
	DropNoPeer:                 "no-peer",
	DropMappedDestination:      "mapped-destination",
	DropNoRelay:                "no-relay",
	DropLoop:                   "loop",
	DropNested:                 "nested",
	DropTooBig:                 "too-big",
	DropHairpin:                "hairpin",
	DropUnproven:               "unproven",
	DropSendNoBufs:             "send-nobufs",
	DropSendMsgSize:            "send-emsgsize",
	DropSendPerm:               "send-eperm",
	DropSendUnreachable:        "send-unreachable",
	DropSendError:              "send-error",
	DropTunDown:                "tun-down",
	DropTunError:               "tun-error",
}

// String returns the reason as status JSON and metrics name it, in kebab case.
func (d Drop) String() string {
	if int(d) >= NumDrops {
		return "unknown"
	}
	return dropNames[d]
}

// Drops yields every reason to drop a packet in order; [Forward] is none.
func Drops() iter.Seq[Drop] {
	return func(yield func(Drop) bool) {
		for d := Forward + 1; d < NumDrops; d++ {
			if !yield(d) {
				return
			}
		}
	}
}
