package encap

import "iter"

// Doubt says why an ICMPv4 message is not believed. The zero value is
// [DoubtNone]: it is. Each other value can have its own counter.
type Doubt uint8

const (
	// DoubtNone is not a doubt.
	DoubtNone Doubt = iota
	// DoubtMalformed: not a whole ICMPv4 packet from a unicast address.
	DoubtMalformed
	// DoubtChecksum: the checksum of the ICMP message is wrong.
	DoubtChecksum
	// DoubtKind: not one of the errors of RFC 792. A raw ICMP socket sees echo too.
	DoubtKind
	// DoubtNotTunnel: it quotes another protocol than 41; somebody else will
	// know it.
	DoubtNotTunnel
	// DoubtQuoteShort: it quotes less than an IPv4 header and 8 bytes, too little to
	// judge.
	DoubtQuoteShort
	// DoubtQuoteFragment: it quotes a fragment other than the first, about which
	// nobody sends errors (RFC 1122, Section 3.2.2).
	DoubtQuoteFragment
	// DoubtQuoteLength: what is quoted is no IPv6 packet, or its length and that of
	// the outer one contradict each other.
	DoubtQuoteLength
	// DoubtNotSent: it quotes a packet between other addresses, or with options,
	// which we never send.
	DoubtNotSent
	// DoubtInnerForeign: the quoted inner packet is none that goes to this peer.
	DoubtInnerForeign
	// DoubtDF: fragmentation needed, about a packet that could have been fragmented.
	DoubtDF

	// NumDoubts is the number of values, [DoubtNone] included.
	NumDoubts = iota
)

var doubtNames = [NumDoubts]string{
	DoubtNone:          "believed",
	DoubtMalformed:     "malformed",
	DoubtChecksum:      "checksum",
	DoubtKind:          "not-an-error",
	DoubtNotTunnel:     "not-a-tunnel",
	DoubtQuoteShort:    "quote-short",
	DoubtQuoteFragment: "quote-fragment",
	DoubtQuoteLength:   "quote-length",
	DoubtNotSent:       "not-sent",
	DoubtInnerForeign:  "inner-foreign",
	DoubtDF:            "df-clear",
}

// String returns the reason in kebab case, for logs and metrics.
func (d Doubt) String() string {
	if int(d) >= NumDoubts {
		return "unknown"
	}
	return doubtNames[d]
}

// Doubts yields every reason not to believe a message in order; [DoubtNone] is
// none.
func Doubts() iter.Seq[Doubt] {
	return func(yield func(Doubt) bool) {
		for d := DoubtNone + 1; d < NumDoubts; d++ {
			if !yield(d) {
				return
			}
		}
	}
}
