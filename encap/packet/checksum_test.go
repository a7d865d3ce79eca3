package packet_test

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/big"
	"math/rand/v2"
	"testing"

	"sixin4/encap/packet"
)

// oracle is RFC 1071 in big numbers: the words as one huge number, modulo 65535,
// where only zero bytes give 0. It shares nothing with the code under test.
func oracle(start uint64, b []byte) uint16 {
	if len(b)%2 == 1 {
		b = append(b[:len(b):len(b)], 0)
	}
	n := new(big.Int).SetBytes(b)
	n.Add(n, new(big.Int).SetUint64(start))
	if n.Sign() == 0 {
		return 0
	}
	if n.Mod(n, big.NewInt(65535)).Sign() == 0 {
		return 65535
	}
	return uint16(n.Uint64())
}

func check(t testing.TB, start uint64, b []byte) {
	t.Helper()
	if got, want := packet.Fold(packet.AddBytes(start, b)), oracle(start, b); got != want {
		t.Fatalf("sum %#04x of %d bytes on top of %#x, want %#04x", got, len(b), start, want)
	}
}

var starts = []uint64{
	0, 1, 0xfffe, 0xffff, 0x10000, 0xffff_ffff, 1 << 32, 1<<48 - 1,
	math.MaxUint64 - 0xffff, math.MaxUint64 - 1, math.MaxUint64,
}

// TestAddBytesEveryLength has all lengths around the steps of 64 and 8 bytes, odd
// ones too, on data where every addition carries or none does.
func TestAddBytesEveryLength(t *testing.T) {
	rnd := rand.New(rand.NewPCG(10, 71))
	for name, fill := range map[string]func() byte{
		"zero":   func() byte { return 0 },
		"0xff":   func() byte { return 0xff },
		"0x80":   func() byte { return 0x80 },
		"random": func() byte { return byte(rnd.Uint32()) },
	} {
		t.Run(name, func(t *testing.T) {
			b := make([]byte, 300)
			for i := range b {
				b[i] = fill()
			}
			for n := range b {
				for _, start := range starts {
					check(t, start, b[:n])
				}
			}
		})
	}
}

func TestAddBytesLongest(t *testing.T) {
	b := make([]byte, 65535)
	for i := range b {
		b[i] = 0xff
	}
	for _, start := range starts {
		check(t, start, b)
	}
}

// TestAddBytesUnaligned: the sum does not depend on where the bytes lie.
func TestAddBytesUnaligned(t *testing.T) {
	b := make([]byte, 200)
	for i := range b {
		b[i] = byte(i * 31)
	}
	for at := range 16 {
		check(t, 5, b[at:at+131])
	}
}

// TestAddBytesInPieces: pieces of even length, in any order, give the same sum.
func TestAddBytesInPieces(t *testing.T) {
	b := make([]byte, 513)
	for i := range b {
		b[i] = byte(i*i + 7)
	}
	want := oracle(0, b)
	for cut := 0; cut <= 512; cut += 2 {
		if got := packet.Fold(packet.AddBytes(packet.AddBytes(0, b[:cut]), b[cut:])); got != want {
			t.Errorf("cut at %d: %#04x, want %#04x", cut, got, want)
		}
		if got := packet.Fold(packet.AddBytes(packet.AddBytes(0, b[cut:]), b[:cut])); got != want {
			t.Errorf("cut at %d, turned round: %#04x, want %#04x", cut, got, want)
		}
	}
}

// TestRFC1071Example is the example of RFC 1071, Section 3.
func TestRFC1071Example(t *testing.T) {
	b := []byte{0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7}
	if got := packet.Fold(packet.AddBytes(0, b)); got != 0xddf2 {
		t.Errorf("%#04x, want 0xddf2", got)
	}
}

func TestFold(t *testing.T) {
	for _, sum := range starts {
		var b [8]byte
		binary.BigEndian.PutUint64(b[:], sum)
		if got, want := packet.Fold(sum), oracle(0, b[:]); got != want {
			t.Errorf("%#x: %#04x, want %#04x", sum, got, want)
		}
	}
}

func TestAddWord(t *testing.T) {
	for _, start := range starts {
		for _, w := range []uint32{0, 1, 6, 0xffff, 0x10000, math.MaxUint32} {
			var b [4]byte
			binary.BigEndian.PutUint32(b[:], w)
			if got, want := packet.Fold(packet.AddWord(start, w)), oracle(start, b[:]); got != want {
				t.Errorf("%#x + %#x: %#04x, want %#04x", start, w, got, want)
			}
		}
	}
}

func TestPseudoHeader(t *testing.T) {
	rnd := rand.New(rand.NewPCG(82, 0))
	for _, proto := range []uint8{0, 6, 17, 58, 255} {
		for _, length := range []int{0, 8, 20, 1460, 65535, 65536} {
			t.Run(fmt.Sprintf("protocol %d, %d bytes", proto, length), func(t *testing.T) {
				b := make([]byte, 40) // RFC 8200, Section 8.1
				for i := range b[:32] {
					b[i] = byte(rnd.Uint32())
				}
				more := append(b[:32:32], "what follows in the packet"...)
				binary.BigEndian.PutUint32(b[32:], uint32(length))
				b[39] = proto
				if got, want := packet.Fold(packet.PseudoHeader(more, proto, length)), oracle(0, b); got != want {
					t.Errorf("%#04x, want %#04x", got, want)
				}
			})
		}
	}
}

func FuzzAddBytes(f *testing.F) {
	f.Add(uint64(0), []byte{})
	f.Add(uint64(math.MaxUint64), []byte{0xff, 0xff, 0xff})
	f.Add(uint64(1), make([]byte, 129))
	f.Fuzz(func(t *testing.T, start uint64, b []byte) { check(t, start, b) })
}

func BenchmarkAddBytes(b *testing.B) {
	for _, n := range []int{20, 40, 64, 1460, 65515} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			data := make([]byte, n)
			b.SetBytes(int64(n))
			b.ReportAllocs()
			var sum uint64
			for b.Loop() {
				sum = packet.AddBytes(sum, data)
			}
		})
	}
}
