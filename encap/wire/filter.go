package wire

import (
	"golang.org/x/net/bpf"

	"sixin4/encap"
)

// Where a field stands in an inner packet without extension headers.
const (
	innerLen   = 4
	innerNext  = 6
	innerAddrs = 8
	tcpCheck   = 40 + 16
	udpCheck   = 40 + 6
)

// netOff makes an offset count from the network header whatever the link header
// (SKF_NET_OFF of linux/filter.h).
const netOff = 0xfff00000

// snapLen is how much of a packet the hint socket keeps: enough to know it again.
const snapLen = 192

// suspects is which packets Read looks at twice, of those whose outer header has no
// options, as that of every merged packet: the kernel merges no others.
type suspects struct {
	linkMTU int
	port    uint16 // of this host, for IPv6 in UDP; 0: protocol 41
}

// headers is the length in bytes of their outer headers.
func (s suspects) headers() int {
	if s.port != 0 {
		return UDPHeaderLen
	}
	return encap.HeaderLen
}

// filter accepts the suspects: those longer than the link or with a TCP or UDP
// checksum that is only the sum of its pseudo-header. All others cost no copy and no
// wake-up. In UDP only a datagram that is one inner packet counts, which those that an
// ordinary sender's kernel left in one piece are not: each has headers of its own.
func (s suspects) filter() ([]bpf.RawInstruction, error) {
	f, inner := &assembly{}, s.headers()
	f.load(0, 1).unless(bpf.JumpEqual, 0x45, "reject")
	if s.port == 0 {
		f.load(9, 1).unless(bpf.JumpEqual, encap.ProtoIPv6, "reject")
	} else {
		f.load(9, 1).unless(bpf.JumpEqual, protoUDP, "reject")
		f.load(22, 2).unless(bpf.JumpEqual, uint32(s.port), "reject")
		whole := uint32(inner + encap.IPv6HeaderLen)
		f.load(inner+innerLen, 2).add(bpf.ALUOpConstant{Op: bpf.ALUOpAdd, Val: whole}).add(bpf.TAX{})
		f.load(2, 2).add(bpf.JumpIfX{Cond: bpf.JumpEqual, SkipTrue: 1}).jump("reject")
	}
	f.load(2, 2).when(bpf.JumpGreaterThan, uint32(s.linkMTU), "accept")
	f.unlessPartial(inner)
	f.label("accept")
	f.add(bpf.RetConstant{Val: snapLen})
	f.label("reject")
	f.add(bpf.RetConstant{Val: 0})
	return f.assemble()
}

// unlessPartial rejects a packet whose checksum is not that of a pseudo-header, and goes
// on, or to "accept", with one where it is or might be. The inner packet stands at inner.
func (a *assembly) unlessPartial(inner int) {
	// The checksum field is kept in scratch word 1, its protocol number in X.
	a.load(inner+innerNext, 1).add(bpf.TAX{}).when(bpf.JumpEqual, protoUDP, "udp")
	for _, extension := range []uint32{0, 43, 60} { // what stands behind is not followed here
		a.when(bpf.JumpEqual, extension, "accept")
	}
	a.unless(bpf.JumpEqual, protoTCP, "reject")
	a.load(inner+tcpCheck, 2).add(bpf.StoreScratch{Src: bpf.RegA, N: 1}).jump("sum")
	a.label("udp")
	a.load(inner+udpCheck, 2).add(bpf.StoreScratch{Src: bpf.RegA, N: 1})

	a.label("sum")
	a.load(inner+innerLen, 2).add(bpf.ALUOpX{Op: bpf.ALUOpAdd}).add(bpf.TAX{})
	for off := innerAddrs; off < innerAddrs+32; off += 2 {
		a.load(inner+off, 2).add(bpf.ALUOpX{Op: bpf.ALUOpAdd}).add(bpf.TAX{})
	}
	for range 2 { // fold the carries in
		a.add(bpf.TXA{}).add(bpf.ALUOpConstant{Op: bpf.ALUOpShiftRight, Val: 16}).add(bpf.StoreScratch{Src: bpf.RegA, N: 0})
		a.add(bpf.TXA{}).add(bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: 0xffff})
		a.add(bpf.LoadScratch{Dst: bpf.RegX, N: 0}).add(bpf.ALUOpX{Op: bpf.ALUOpAdd}).add(bpf.TAX{})
	}
	a.add(bpf.LoadScratch{Dst: bpf.RegA, N: 1})
	a.add(bpf.JumpIfX{Cond: bpf.JumpEqual, SkipTrue: 1}).jump("reject")
}

// assembly is instructions with named jump targets.
type assembly struct {
	code   []bpf.Instruction
	labels map[string]int
	jumps  []pendingJump
}

type pendingJump struct {
	at       int
	target   string
	negative bool
}

func (a *assembly) add(i bpf.Instruction) *assembly {
	a.code = append(a.code, i)
	return a
}

// load takes size bytes into A, at off from the outer header.
func (a *assembly) load(off, size int) *assembly {
	return a.add(bpf.LoadAbsolute{Off: netOff + uint32(off), Size: size})
}

func (a *assembly) label(name string) {
	if a.labels == nil {
		a.labels = map[string]int{}
	}
	a.labels[name] = len(a.code)
}

func (a *assembly) when(c bpf.JumpTest, v uint32, target string) *assembly {
	a.jumps = append(a.jumps, pendingJump{at: len(a.code), target: target})
	return a.add(bpf.JumpIf{Cond: c, Val: v})
}

func (a *assembly) unless(c bpf.JumpTest, v uint32, target string) *assembly {
	a.jumps = append(a.jumps, pendingJump{at: len(a.code), target: target, negative: true})
	return a.add(bpf.JumpIf{Cond: c, Val: v})
}

func (a *assembly) jump(target string) {
	a.jumps = append(a.jumps, pendingJump{at: len(a.code), target: target})
	a.add(bpf.Jump{})
}

func (a *assembly) assemble() ([]bpf.RawInstruction, error) {
	for _, j := range a.jumps {
		skip := a.labels[j.target] - j.at - 1
		switch in := a.code[j.at].(type) {
		case bpf.Jump:
			in.Skip = uint32(skip)
			a.code[j.at] = in
		case bpf.JumpIf:
			if j.negative {
				in.SkipFalse = uint8(skip)
			} else {
				in.SkipTrue = uint8(skip)
			}
			a.code[j.at] = in
		}
	}
	return bpf.Assemble(a.code)
}
