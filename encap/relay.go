package encap

import (
	"net/netip"
	"sync/atomic"

	"sixin4/encap/packet"
)

// Unreachable returns the code of the ICMPv6 destination unreachable by which the
// sender of the inner packet is told (RFC 4213, Section 3.4; RFC 2473,
// Section 8.1), and false for what it is not told so: fragmentation needed and
// source quench.
func (k ICMP4Kind) Unreachable() (code uint8, ok bool) {
	switch k {
	case ICMP4Prohibited:
		return UnreachableProhibited, true
	case ICMP4NetUnreachable, ICMP4HostUnreachable, ICMP4ProtocolUnreachable, ICMP4PortUnreachable,
		ICMP4TimeExceeded, ICMP4ParameterProblem:
		return UnreachableAddress, true
	}
	return 0, false
}

// AppendRelayed appends to dst the IPv6 packet that tells the sender of the inner
// packet what an ICMPv4 error said about the outer one: destination unreachable, or
// packet too big with 20 bytes less than e.MTU but never under [MinTunMTU]. It comes
// from the address from, quotes what e quotes, and needs no allocation when dst has
// room for MinTunMTU bytes.
//
// dst comes back unchanged when the whole inner header is not quoted (then see
// [Notice]), when the inner packet must not be answered as in [AppendUnreachable],
// or cannot be seen to be none of these, and when it was not too big for the MTU
// it would be told. The caller limits the rate.
func AppendRelayed(dst []byte, e *ICMP4Error, from netip.Addr) []byte {
	if len(e.Inner) < IPv6HeaderLen || !e.Inner.answerable() {
		return dst
	}
	p := packet.Packet{Buf: e.Inner}
	if e.Kind == ICMP4FragNeeded {
		mtu := e.MTU.Tun()
		if IPv6HeaderLen+e.Inner.PayloadLen() <= int(mtu) {
			return dst
		}
		return appendError(dst, icmpPacketTooBig, 0, uint32(mtu), from, &p)
	}
	code, ok := e.Kind.Unreachable()
	if !ok || e.Inner[dstOffset] == 0xff {
		return dst
	}
	return appendError(dst, icmpUnreachable, code, 0, from, &p)
}

// noticeNanos is for how long a Notice is worth telling, in nanoseconds. The
// kernel's tunnels have the same 30 seconds.
const noticeNanos = int64(30e9)

// Notice keeps what an error with a short quote said about a peer, for the sender of
// the next packet to it: whom the error was for is not known. The zero value holds
// nothing. Any number of goroutines may use one.
type Notice struct{ v atomic.Uint64 } // expiry in microseconds << 8 | code; 0: nothing

// Leave replaces what was there. code is one of those of a destination unreachable,
// now a time in nanoseconds, not before 0.
func (n *Notice) Leave(now int64, code uint8) {
	n.v.Store(uint64(now+noticeNanos)/1000<<8 | uint64(code))
}

// Take takes the notice out, for one caller only. It is not there when it is older
// than 30 seconds. Asking when there is none is one atomic load.
func (n *Notice) Take(now int64) (code uint8, ok bool) {
	v := n.v.Load()
	if v == 0 || !n.v.CompareAndSwap(v, 0) {
		return 0, false
	}
	return uint8(v), uint64(now)/1000 <= v>>8
}
