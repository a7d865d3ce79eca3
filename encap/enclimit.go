package encap

// A source of packets may say how many tunnels they may be put into on their way, by an
// option of their own destination options header: the tunnel encapsulation limit
// (RFC 2473, Sections 4.1.1 and 5.1).

const (
	optionPad1        = 0 // RFC 8200, Section 4.2
	optionEncapsLimit = 4
	optionHeader      = 2 // type and length of data
)

// encapsulationLimit returns the tunnel encapsulation limit of the packet b itself, of
// which b has all headers, and where in b its value stands. It reports false when there is
// none: most packets have none, and one that cannot be found limits nothing. Like the
// walk of a tunnel's entry point it goes no further than the packet's own headers: the
// limits of packets inside belong to the tunnels that these have entered.
func (b IPv6) encapsulationLimit() (limit uint8, at int, ok bool) {
	c := chain{proto: b.NextHeader(), off: IPv6HeaderLen}
	for range maxExtensionHeaders {
		if !extension(c.proto) || c.later || len(b) < c.off+8 {
			return 0, 0, false
		}
		kind, start := c.proto, c.off
		c.step(b)
		if c.off > len(b) {
			return 0, 0, false
		}
		if kind != protoDestOptions {
			continue
		}
		if at, ok := findOption(b[:c.off], start+optionHeader, optionEncapsLimit); ok {
			return b[at], at, true
		}
	}
	return 0, 0, false
}

// findOption returns where in b the data of the first option of a kind with one byte of it
// stands, of those from off to the end of b.
func findOption(b []byte, off int, kind byte) (at int, ok bool) {
	for off < len(b) {
		if b[off] == optionPad1 {
			off++
			continue
		}
		if off+optionHeader > len(b) {
			return 0, false
		}
		size := int(b[off+1])
		if at = off + optionHeader; at+size > len(b) {
			return 0, false
		}
		if b[off] == kind && size == 1 {
			return at, true
		}
		off = at + size
	}
	return 0, false
}
