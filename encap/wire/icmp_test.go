package wire

import (
	"net/netip"
	"testing"

	"golang.org/x/net/bpf"

	"sixin4/encap/packettest"
)

// icmp4 is an ICMPv4 message of some host to us.
func icmp4(kind, code byte, quote []byte) []byte {
	msg := append([]byte{kind, code, 0, 0, 0, 0, 0, 0}, quote...)
	sum := ^packettest.Sum(msg)
	msg[2], msg[3] = byte(sum>>8), byte(sum)
	return packettest.Outer(netip.MustParseAddr("192.0.2.2"), netip.MustParseAddr("192.0.2.1"), 1, msg, func(b []byte) { b[9] = 1 })
}

// icmpCases are messages, and whether the filter lets them through.
func icmpCases() map[string]struct {
	b    []byte
	pass bool
} {
	quote := packettest.Outer(outer1, outer2, 1, packettest.UDP(netip.MustParseAddrPort("[2001:db8::1]:1"), netip.MustParseAddrPort("[2001:db8::2]:2"), nil))
	tcp := packettest.Outer(outer1, outer2, 1, make([]byte, 40), func(b []byte) { b[9] = 6 })
	type c = struct {
		b    []byte
		pass bool
	}
	return map[string]c{
		"fragmentation needed":       {icmp4(3, 4, quote), true},
		"source quench":              {icmp4(4, 0, quote), true},
		"time exceeded":              {icmp4(11, 0, quote), true},
		"parameter problem":          {icmp4(12, 0, quote[:28]), true},
		"10 bytes quoted":            {icmp4(3, 1, quote[:10]), true},
		"too short to tell":          {icmp4(3, 1, tcp[:9]), true},
		"nothing quoted":             {icmp4(3, 1, nil), true},
		"redirect":                   {icmp4(5, 1, quote), false},
		"echo request":               {icmp4(8, 0, quote), false},
		"echo reply":                 {icmp4(0, 0, quote), false},
		"about TCP":                  {icmp4(3, 3, tcp), false},
		"about TCP, 10 bytes quoted": {icmp4(3, 3, tcp[:10]), false},
	}
}

func TestICMPFilter(t *testing.T) {
	code, err := icmpFilter()
	if err != nil {
		t.Fatal(err)
	}
	list, ok := bpf.Disassemble(code)
	if !ok {
		t.Fatal("cannot be read back")
	}
	vm, err := bpf.NewVM(list)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range icmpCases() {
		for _, options := range []int{0, 4, 40} {
			b := append(append(append([]byte{}, c.b[:20]...), make([]byte, options)...), c.b[20:]...)
			b[0] = 0x45 + byte(options/4)
			n, err := vm.Run(b)
			if err != nil || n > 0 != c.pass {
				t.Errorf("%s, %d bytes of options: %d, %v; passes %t, want %t", name, options, n, err, n > 0, c.pass)
			}
		}
	}
}
