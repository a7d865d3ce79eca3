package tun

import (
	"encoding/binary"
	"fmt"
	"slices"
	"testing"

	"sixin4/encap/packet"
)

// grouping returns the indices of the packets in each group, as [[0 1] [2]].
func grouping(j *joiner, b *packet.Batch) string {
	var all [][]int
	j.sort(b)
	for i := range j.groups {
		var g []int
		for k := j.groups[i].first; k >= 0; k = j.next[k] {
			g = append(g, k)
		}
		all = append(all, g)
	}
	return fmt.Sprint(all)
}

// seg is segment i of a TCP flow of 100-byte segments.
func seg(i int, edits ...edit) []byte { return tcp6(uint32(1000+100*i), pattern(100, 100*i), edits...) }

// dgram is a UDP datagram of n bytes.
func dgram(n int, edits ...edit) []byte { return udp6(pattern(n, n), edits...) }

// wrong damages the checksum.
func wrong(b []byte) []byte { b[len(b)-1] ^= 0x55; return b }

// TestJoinTCP names what joins and what must not.
func TestJoinTCP(t *testing.T) {
	for _, c := range []struct {
		name    string
		packets [][]byte
		want    string
	}{
		{"three in order", [][]byte{seg(0), seg(1), seg(2)}, "[[0 1 2]]"},
		{"sequence number wraps", [][]byte{tcp6(0xffffffce, pattern(100, 0)), tcp6(50, pattern(100, 0))}, "[[0 1]]"},
		{"a gap", [][]byte{seg(0), seg(2), seg(3)}, "[[0] [1 2]]"},
		{"out of order", [][]byte{seg(1), seg(0), seg(1)}, "[[0] [1 2]]"},
		{"sent twice", [][]byte{seg(0), seg(0), seg(1)}, "[[0] [1 2]]"},
		{"shorter one last", [][]byte{seg(0), tcp6(1100, pattern(7, 0)), tcp6(1107, pattern(100, 0))}, "[[0 1] [2]]"},
		{"longer one second", [][]byte{tcp6(993, pattern(7, 0)), seg(0), seg(1)}, "[[0] [1 2]]"},
		{"PSH ends a group", [][]byte{seg(0), seg(1, flags(0x18)), seg(2), seg(3)}, "[[0 1] [2 3]]"},
		{"PSH on the first", [][]byte{seg(0, flags(0x18)), seg(1), seg(2)}, "[[0] [1 2]]"},
		{"SYN", [][]byte{seg(0, flags(0x12)), seg(1)}, "[[0] [1]]"},
		{"FIN in second", [][]byte{seg(0), seg(1, flags(0x11)), seg(2)}, "[[0] [1] [2]]"},
		{"RST in second", [][]byte{seg(0), seg(1, flags(0x14)), seg(2)}, "[[0] [1] [2]]"},
		{"URG in second", [][]byte{seg(0), seg(1, flags(0x30)), seg(2)}, "[[0] [1] [2]]"},
		{"CWR in second", [][]byte{seg(0), seg(1, flags(0x90)), seg(2)}, "[[0] [1] [2]]"},
		{"ECE in all", [][]byte{seg(0, flags(0x50)), seg(1, flags(0x50))}, "[[0 1]]"},
		{"ECE in second", [][]byte{seg(0), seg(1, flags(0x50)), seg(2, flags(0x50))}, "[[0] [1 2]]"},
		{"no ACK in second", [][]byte{seg(0), seg(1, flags(0))}, "[[0] [1]]"},
		{"acknowledgement", [][]byte{seg(0), seg(1, set(48, 0, 0, 0, 78)), seg(2, set(48, 0, 0, 0, 78))}, "[[0] [1 2]]"},
		{"window", [][]byte{seg(0), seg(1, set(54, 0x12, 0x35))}, "[[0] [1]]"},
		{"urgent pointer", [][]byte{seg(0), seg(1, set(58, 0, 1))}, "[[0] [1]]"},
		{"option, time stamp", [][]byte{seg(0), seg(1, set(64, 0, 0, 0, 10))}, "[[0] [1]]"},
		{"option, other kind", [][]byte{seg(0), seg(1, set(62, 254))}, "[[0] [1]]"},
		{"reserved bits", [][]byte{seg(0), seg(1, set(52, 0x82))}, "[[0] [1]]"},
		{"data offset", [][]byte{seg(0), tcp6(1100, pattern(100, 0), set(52, 0x70)), seg(2)}, "[[0] [1] [2]]"},
		{"source port", [][]byte{seg(0), seg(1, set(41, 1))}, "[[0] [1]]"},
		{"destination port", [][]byte{seg(0), seg(1, set(43, 1))}, "[[0] [1]]"},
		{"source address", [][]byte{seg(0), seg(1, set(23, 3))}, "[[0] [1]]"},
		{"destination address", [][]byte{seg(0), seg(1, set(39, 3))}, "[[0] [1]]"},
		{"hop limit", [][]byte{seg(0), seg(1, set(7, 63))}, "[[0] [1]]"},
		{"congestion experienced", [][]byte{seg(0), seg(1, set(1, 0x30))}, "[[0] [1]]"},
		{"traffic class", [][]byte{seg(0), seg(1, set(0, 0x61))}, "[[0] [1]]"},
		{"flow label", [][]byte{seg(0), seg(1, set(3, 1))}, "[[0] [1]]"},
		{"wrong checksum first", [][]byte{wrong(seg(0)), seg(1), seg(2)}, "[[0] [1 2]]"},
		{"wrong checksum second", [][]byte{seg(0), wrong(seg(1)), seg(2)}, "[[0] [1] [2]]"},
		{"wrong checksum last", [][]byte{seg(0), seg(1), wrong(seg(2)), seg(3)}, "[[0 1] [2] [3]]"},
		{"pure acknowledgement between", [][]byte{seg(0), tcp6(1100, nil), seg(1), seg(2)}, "[[0] [1] [2 3]]"},
		{"FIN without data between", [][]byte{seg(0), seg(1), tcp6(1200, nil, flags(0x11)), seg(2)}, "[[0 1] [2] [3]]"},
		{"hop-by-hop header", [][]byte{extend(seg(0), hopByHop), extend(seg(1), hopByHop)}, "[[0] [1]]"},
		{"destination options in second", [][]byte{seg(0), extend(seg(1), dstOpts)}, "[[0] [1]]"},
		{"fragment header", [][]byte{seg(0), ip6(44, append([]byte{6, 0, 0, 1, 0, 0, 0, 1}, seg(1)[40:]...))}, "[[0] [1]]"},
		{"two flows interleaved", [][]byte{seg(0), seg(0, set(41, 1)), seg(1), seg(1, set(41, 1))}, "[[0 2] [1 3]]"},
		{"UDP with the same ports between", [][]byte{seg(0), dgram(100), seg(1)}, "[[0 2] [1]]"},
		{"ICMPv6 between", [][]byte{seg(0), ip6(58, make([]byte, 40)), seg(1)}, "[[0 2] [1]]"},
	} {
		t.Run(c.name, func(t *testing.T) {
			j := joiner{tcp: true, udp: true}
			if got := grouping(&j, batchOf(c.packets...)); got != c.want {
				t.Errorf("groups %s, want %s", got, c.want)
			}
		})
	}
}

func TestJoinUDP(t *testing.T) {
	noSum := func(b []byte) []byte { b[46], b[47] = 0, 0; return b }
	for _, c := range []struct {
		name    string
		packets [][]byte
		want    string
	}{
		{"three of one size", [][]byte{dgram(100), dgram(100), dgram(100)}, "[[0 1 2]]"},
		{"shorter one last", [][]byte{dgram(100), dgram(99), dgram(99)}, "[[0 1] [2]]"},
		{"shorter one in the middle", [][]byte{dgram(100), dgram(50), dgram(100), dgram(100)}, "[[0 1] [2 3]]"},
		{"longer one second", [][]byte{dgram(100), dgram(101), dgram(101)}, "[[0] [1 2]]"},
		{"no checksum", [][]byte{noSum(dgram(100)), noSum(dgram(100))}, "[[0] [1]]"},
		{"no checksum in second", [][]byte{dgram(100), noSum(dgram(100)), dgram(100)}, "[[0] [1] [2]]"},
		{"wrong checksum in second", [][]byte{dgram(100), wrong(dgram(100)), dgram(100)}, "[[0] [1] [2]]"},
		{"empty datagram between", [][]byte{dgram(100), dgram(0), dgram(100)}, "[[0] [1] [2]]"},
		{"length field under the packet's", [][]byte{dgram(100), dgram(100, set(44, 0, 50))}, "[[0] [1]]"},
		{"ports", [][]byte{dgram(100), dgram(100, set(41, 1)), dgram(100)}, "[[0 2] [1]]"},
		{"hop limit", [][]byte{dgram(100), dgram(100, set(7, 1))}, "[[0] [1]]"},
		{"extension header between keeps the order", [][]byte{dgram(100), extend(dgram(100), dstOpts), dgram(100)}, "[[0] [1] [2]]"},
		{"a checksum of ffff", [][]byte{zeroSum(), zeroSum()}, "[[0 1]]"},
	} {
		t.Run(c.name, func(t *testing.T) {
			j := joiner{tcp: true, udp: true}
			if got := grouping(&j, batchOf(c.packets...)); got != c.want {
				t.Errorf("groups %s, want %s", got, c.want)
			}
		})
	}
}

// TestJoinPartial: a partial checksum is right by definition, and nothing has to
// be computed to join it, with others or among themselves.
func TestJoinPartial(t *testing.T) {
	for _, c := range []struct {
		name    string
		partial []bool
	}{
		{"all partial", []bool{true, true, true}},
		{"first partial", []bool{true, false, false}},
		{"second partial", []bool{false, true, false}},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := batchOf(seg(0), seg(1), seg(2))
			for i, partial := range c.partial {
				if partial {
					setPartial(b.Packets[i].Head())
					b.Packets[i].Sum = packet.SumPartial
				}
			}
			j := joiner{tcp: true, udp: true}
			if got := grouping(&j, b); got != "[[0 1 2]]" {
				t.Errorf("groups %s, want one", got)
			}
		})
	}
	t.Run("unmarked partial sum is a wrong one", func(t *testing.T) {
		j := joiner{tcp: true}
		if got := grouping(&j, batchOf(seg(0), setPartial(seg(1)))); got != "[[0] [1]]" {
			t.Errorf("groups %s, want none joined", got)
		}
	})
}

// TestJoinMerged: what the kernel merged goes on alone and keeps its place.
func TestJoinMerged(t *testing.T) {
	b := batchOf(seg(0), tcp6(1100, pattern(300, 0)), seg(4), seg(5))
	b.Packets[1].Seg, b.Packets[1].Sum = 100, packet.SumPartial
	j := joiner{tcp: true, udp: true}
	if got := grouping(&j, b); got != "[[0] [1] [2 3]]" {
		t.Errorf("groups %s, want [[0] [1] [2 3]]", got)
	}
}

func TestJoinSwitchedOff(t *testing.T) {
	b := batchOf(seg(0), seg(1), dgram(9), dgram(9))
	for _, c := range []struct {
		name     string
		tcp, udp bool
		want     string
	}{
		{"TCP only", true, false, "[[0 1] [2] [3]]"},
		{"UDP only", false, true, "[[0] [1] [2 3]]"},
		{"neither", false, false, "[[0] [1] [2] [3]]"},
	} {
		t.Run(c.name, func(t *testing.T) {
			j := joiner{tcp: c.tcp, udp: c.udp}
			if got := grouping(&j, b); got != c.want {
				t.Errorf("groups %s, want %s", got, c.want)
			}
		})
	}
}

// TestJoinLimits: 64 packets and 64 KiB.
func TestJoinLimits(t *testing.T) {
	for _, c := range []struct {
		name  string
		size  int
		count int
		want  []int // sizes of the groups
	}{
		{"64 packets", 10, 130, []int{64, 64, 2}},
		{"64 KiB", 1400, 100, []int{46, 46, 8}},
		{"64 KiB to the byte", 13092, 6, []int{5, 1}},
		{"over 64 KiB by a byte", 13093, 5, []int{4, 1}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var packets [][]byte
			for i := range c.count {
				packets = append(packets, tcp6(uint32(c.size*i), pattern(c.size, i)))
			}
			j := joiner{tcp: true}
			j.sort(batchOf(packets...))
			var got []int
			for _, g := range j.groups {
				got = append(got, g.count)
				if g.total > 65535 {
					t.Errorf("a group of %d bytes", g.total)
				}
			}
			// 32 bytes of TCP header count: 65535 = 40 + 32 + 65463.
			if c.name == "64 KiB to the byte" && 72+5*c.size != 65532 {
				t.Fatalf("this case is %d bytes", 72+5*c.size)
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("groups of %v packets, want %v", got, c.want)
			}
		})
	}
}

// TestJoinManyFlows: more flows than can be open at once lose speed, not order.
func TestJoinManyFlows(t *testing.T) {
	var packets [][]byte
	const flows = openGroups + 4
	for i := range 3 {
		for f := range flows {
			packets = append(packets, seg(i, set(41, byte(f))))
		}
	}
	b := batchOf(packets...)
	j := joiner{tcp: true}
	grouping(&j, b)
	at := map[byte]uint32{}
	for i := range j.groups {
		for k := j.groups[i].first; k >= 0; k = j.next[k] {
			h := b.Packets[k].Head()
			seq := binary.BigEndian.Uint32(h[44:])
			if last, ok := at[h[41]]; ok && seq != last+100 {
				t.Fatalf("flow %d: %d follows %d", h[41], seq, last)
			}
			at[h[41]] = seq
		}
	}
	if len(at) != flows || len(j.groups) != openGroups+3*4 {
		t.Errorf("%d flows in %d groups, want %d in %d", len(at), len(j.groups), flows, openGroups+3*4)
	}
}

// TestMergeUnmerge: the first packet gets its own header back to the bit.
func TestMergeUnmerge(t *testing.T) {
	for name, packets := range map[string][][]byte{
		"TCP": {seg(0), seg(1), seg(2, flags(0x18))},
		"UDP": {dgram(100), dgram(100), dgram(3)},
	} {
		t.Run(name, func(t *testing.T) {
			b := batchOf(packets...)
			j := joiner{tcp: true, udp: true}
			j.sort(b)
			g, first := &j.groups[0], &b.Packets[0]
			if g.count != 3 {
				t.Fatalf("%d packets joined", g.count)
			}
			s := g.merge(first, &b.Packets[g.last])
			joined := slices.Concat(whole(first), packets[1][g.t.hlen:], packets[2][g.t.hlen:])
			if want := setPartial(slices.Clone(joined)); string(joined) != string(want) {
				t.Errorf("joined header % x, want % x", joined[:72], want[:72])
			}
			if err := verify(setFull(joined)); err != nil {
				t.Error(err)
			}
			if f := joined[53]; name == "TCP" && f != 0x18 {
				t.Errorf("flags %#x: the PSH of the last is lost", f)
			}
			g.unmerge(first, s)
			same(t, [][]byte{whole(first)}, packets[:1])
		})
	}
}
