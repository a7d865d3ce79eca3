package netstack

// Offsets and sizes in the IPv6, TCP and UDP headers (RFC 8200, Section 3;
// RFC 9293, Section 3.1; RFC 768) that cutting and joining touch.
const (
	ip6Len      = 40
	ip6PayLen   = 4
	ip6Next     = 6
	ip6Addrs    = 8 // 32 bytes: source, destination
	protoTCP    = 6
	protoUDP    = 17
	protoICMPv6 = 58
	tcpMinLen   = 20
	maxTCPLen   = 60
	tcpSeq      = 4
	tcpAck      = 8
	tcpDataOff  = 12
	tcpFlags    = 13
	tcpWindow   = 14
	tcpCheck    = 16
	udpLen      = 8
	udpLength   = 4
	udpCheck    = 6

	tcpFIN, tcpPSH, tcpACK, tcpCWR = 0x01, 0x08, 0x10, 0x80
)
