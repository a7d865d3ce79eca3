package tun

import "encoding/binary"

// vnetLen is the size of struct virtio_net_hdr, which stands before every
// packet of a TUN opened with IFF_VNET_HDR (linux/virtio_net.h).
const vnetLen = 10

const (
	vnetNeedsCsum = 1 // flags: the checksum at csumStart+csumOffset is still to be computed

	gsoNone  = 0
	gsoTCPv4 = 1
	gsoTCPv6 = 4
	gsoUDP   = 5    // UDP_L4: equal datagrams behind one header
	gsoECN   = 0x80 // may be set beside one of the above
)

// vnetHdr is struct virtio_net_hdr. All sizes are bytes; offsets count from the
// start of the IP header.
type vnetHdr struct {
	flags      uint8
	gsoType    uint8
	hdrLen     uint16 // what the kernel guesses; not to be relied upon
	gsoSize    uint16 // transport payload of each segment
	csumStart  uint16
	csumOffset uint16
}

// The header is in the machine's byte order unless TUNSETVNETLE was asked for.

func (h *vnetHdr) decode(b []byte) {
	_ = b[vnetLen-1]
	h.flags, h.gsoType = b[0], b[1]
	h.hdrLen = binary.NativeEndian.Uint16(b[2:])
	h.gsoSize = binary.NativeEndian.Uint16(b[4:])
	h.csumStart = binary.NativeEndian.Uint16(b[6:])
	h.csumOffset = binary.NativeEndian.Uint16(b[8:])
}

func (h *vnetHdr) encode(b []byte) {
	_ = b[vnetLen-1]
	b[0], b[1] = h.flags, h.gsoType
	binary.NativeEndian.PutUint16(b[2:], h.hdrLen)
	binary.NativeEndian.PutUint16(b[4:], h.gsoSize)
	binary.NativeEndian.PutUint16(b[6:], h.csumStart)
	binary.NativeEndian.PutUint16(b[8:], h.csumOffset)
}
