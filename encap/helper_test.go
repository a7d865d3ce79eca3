package encap

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sixin4/encap/packet"
)

const (
	ours4, peer4 = "192.0.2.1", "192.0.2.2"
	ours6, peer6 = "2001:db8:1::1", "2001:db8:1::2"
)

// newPacket returns a packet of the bytes b behind the usual headroom.
func newPacket(b []byte) *packet.Packet { return newSplit(b, len(b)) }

// newSplit is newPacket with only n bytes in the head.
func newSplit(b []byte, n int) *packet.Packet {
	p := new(packet.Packet)
	buf := append(make([]byte, packet.Headroom), b[:n]...)
	p.Set(buf, packet.Headroom, bytes.Clone(b[n:]))
	if n == len(b) {
		p.Payload = nil
	}
	return p
}

func whole(p *packet.Packet) []byte { return p.AppendTo(nil) }

// ip6 builds an IPv6 packet.
func ip6(src, dst string, next byte, payload []byte) []byte {
	b := make([]byte, 40, 40+len(payload))
	b[0], b[6], b[7] = 0x60, next, 64
	binary.BigEndian.PutUint16(b[4:], uint16(len(payload)))
	s, d := netip.MustParseAddr(src).As16(), netip.MustParseAddr(dst).As16()
	copy(b[8:], s[:])
	copy(b[24:], d[:])
	return append(b, payload...)
}

// ip4 builds a protocol 41 packet; edit changes its header before the checksum
// is made.
func ip4(src string, payload []byte, edit ...func(b []byte)) []byte {
	b := make([]byte, 20, 20+len(payload))
	b[0], b[8], b[9] = 0x45, 64, ProtoIPv6
	b[6] = 0x40
	binary.BigEndian.PutUint16(b[2:], uint16(20+len(payload)))
	s, d := netip.MustParseAddr(src).As4(), netip.MustParseAddr(ours4).As4()
	copy(b[12:], s[:])
	copy(b[16:], d[:])
	b = append(b, payload...)
	for _, f := range edit {
		f(b)
	}
	fix4(b)
	return b
}

// fix4 makes the header checksum right.
func fix4(b []byte) {
	header := b[:min(int(b[0]&15)*4, len(b))]
	if len(header) < 20 {
		header = b[:20]
	}
	b[10], b[11] = 0, 0
	binary.BigEndian.PutUint16(b[10:], ^oracleSum(header))
}

// withOptions inserts IPv4 options, a multiple of 4 bytes.
func withOptions(b, options []byte) []byte {
	b = bytes.Join([][]byte{b[:20], options, b[20:]}, nil)
	b[0] += byte(len(options) / 4)
	binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
	fix4(b)
	return b
}

// tcp6 and udp6 build packets with the checksum that kind says.
func tcp6(src, dst string, data []byte, kind sumKind) []byte {
	h := make([]byte, 20, 20+len(data))
	binary.BigEndian.PutUint16(h, 40000)
	binary.BigEndian.PutUint16(h[2:], 443)
	h[12], h[13] = 0x50, 0x18
	b := ip6(src, dst, protoTCP, append(h, data...))
	kind.write(b, 40, 56, protoTCP)
	return b
}

func udp6(src, dst string, data []byte, kind sumKind) []byte {
	h := make([]byte, 8, 8+len(data))
	binary.BigEndian.PutUint16(h, 4000)
	binary.BigEndian.PutUint16(h[2:], 5000)
	binary.BigEndian.PutUint16(h[4:], uint16(8+len(data)))
	b := ip6(src, dst, protoUDP, append(h, data...))
	kind.write(b, 40, 46, protoUDP)
	return b
}

// sumKind is a transport checksum as packets come with.
type sumKind int

const (
	full sumKind = iota
	partial
	none
	wrong
)

// write sets the checksum at field of the transport header at off.
func (k sumKind) write(b []byte, off, field int, proto byte) {
	b[field], b[field+1] = 0, 0
	pseudo := oraclePseudo(b[8:24], b[24:40], proto, len(b)-off)
	sum := ^oracleSum(append(pseudo, b[off:]...))
	if sum == 0 && proto == protoUDP {
		sum = 0xffff
	}
	switch k {
	case partial:
		sum = oracleSum(pseudo)
	case none:
		sum = 0
	case wrong:
		sum ^= 0x0100
	}
	binary.BigEndian.PutUint16(b[field:], sum)
}

// extend puts an extension header of kind between the IPv6 header and what
// follows; body is 8 bytes, of which the first is filled in.
func extend(b []byte, kind byte, body ...byte) []byte {
	body = bytes.Clone(body)
	body[0] = b[6]
	b = bytes.Join([][]byte{b[:40], body, b[40:]}, nil)
	b[6] = kind
	binary.BigEndian.PutUint16(b[4:], uint16(len(b)-40))
	return b
}

// pattern returns n bytes that differ from their neighbours.
func pattern(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i*7 + i>>8)
	}
	return b
}

// golden is an annotated file of testdata/packets: sections of hex bytes, each
// begun by a line "@name [argument]", comments after '#'.
type golden struct {
	bytes map[string][]byte
	arg   map[string]string
}

func parseGolden(t testing.TB, text string) golden {
	t.Helper()
	g, section := golden{map[string][]byte{}, map[string]string{}}, ""
	for line := range strings.Lines(text) {
		line, _, _ = strings.Cut(line, "#")
		line = strings.TrimSpace(line)
		if name, ok := strings.CutPrefix(line, "@"); ok {
			var arg string
			section, arg, _ = strings.Cut(name, " ")
			g.arg[section], g.bytes[section] = arg, []byte{}
			continue
		}
		b, err := hex.DecodeString(strings.ReplaceAll(line, " ", ""))
		if err != nil || section == "" && len(b) > 0 {
			t.Fatalf("bad line %q: %v", line, err)
		}
		if len(b) > 0 {
			g.bytes[section] = append(g.bytes[section], b...)
		}
	}
	return g
}

func readGolden(t testing.TB, name string) golden {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "testdata", "packets", name+".hex"))
	if err != nil {
		t.Fatal(err)
	}
	return parseGolden(t, string(text))
}

func goldenNames(t testing.TB, pattern string) []string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join("..", "testdata", "packets", pattern+".hex"))
	if err != nil || len(paths) == 0 {
		t.Fatalf("no golden packets %q: %v", pattern, err)
	}
	for i := range paths {
		paths[i] = strings.TrimSuffix(filepath.Base(paths[i]), ".hex")
	}
	return paths
}

func equalBytes(t testing.TB, what string, got, want []byte) {
	t.Helper()
	if !bytes.Equal(got, want) {
		t.Errorf("%s:\n%s\nwant:\n%s", what, hex.Dump(got), hex.Dump(want))
	}
}
