package wire

import "golang.org/x/net/bpf"

// Where a field stands in a packet of protocol 41 whose outer header has no
// options, as that of every merged packet: the kernel merges no others.
const (
	innerOff   = 20
	innerLen   = innerOff + 4
	innerNext  = innerOff + 6
	innerAddrs = innerOff + 8
	tcpCheck   = innerOff + 40 + 16
	udpCheck   = innerOff + 40 + 6
)

// netOff makes an offset count from the network header whatever the link header
// (SKF_NET_OFF of linux/filter.h).
const netOff = 0xfff00000

// snapLen is how much of a packet the hint socket keeps: enough to know it again.
const snapLen = 192

// suspiciousFilter accepts the packets that Read looks at twice: protocol 41,
// longer than the link or with a TCP or UDP checksum that is only the sum of its
// pseudo-header. All others cost no copy and no wake-up.
func suspiciousFilter(linkMTU int) ([]bpf.RawInstruction, error) {
	load := func(off, size int) bpf.Instruction { return bpf.LoadAbsolute{Off: netOff + uint32(off), Size: size} }
	f := &assembly{}
	f.add(load(0, 1)).unless(bpf.JumpEqual, 0x45, "reject")
	f.add(load(9, 1)).unless(bpf.JumpEqual, 41, "reject")
	f.add(load(2, 2)).when(bpf.JumpGreaterThan, uint32(linkMTU), "accept")

	// The checksum field is kept in scratch word 1, its protocol number in X.
	f.add(load(innerNext, 1)).add(bpf.TAX{}).when(bpf.JumpEqual, protoUDP, "udp")
	for _, extension := range []uint32{0, 43, 60} { // what stands behind is not followed here
		f.when(bpf.JumpEqual, extension, "accept")
	}
	f.unless(bpf.JumpEqual, 6, "reject")
	f.add(load(tcpCheck, 2)).add(bpf.StoreScratch{Src: bpf.RegA, N: 1}).jump("sum")
	f.label("udp")
	f.add(load(udpCheck, 2)).add(bpf.StoreScratch{Src: bpf.RegA, N: 1})

	f.label("sum")
	f.add(load(innerLen, 2)).add(bpf.ALUOpX{Op: bpf.ALUOpAdd}).add(bpf.TAX{})
	for off := innerAddrs; off < innerAddrs+32; off += 2 {
		f.add(load(off, 2)).add(bpf.ALUOpX{Op: bpf.ALUOpAdd}).add(bpf.TAX{})
	}
	for range 2 { // fold the carries in
		f.add(bpf.TXA{}).add(bpf.ALUOpConstant{Op: bpf.ALUOpShiftRight, Val: 16}).add(bpf.StoreScratch{Src: bpf.RegA, N: 0})
		f.add(bpf.TXA{}).add(bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: 0xffff})
		f.add(bpf.LoadScratch{Dst: bpf.RegX, N: 0}).add(bpf.ALUOpX{Op: bpf.ALUOpAdd}).add(bpf.TAX{})
	}
	f.add(bpf.LoadScratch{Dst: bpf.RegA, N: 1}).add(bpf.JumpIfX{Cond: bpf.JumpNotEqual, SkipTrue: 1})
	f.label("accept")
	f.add(bpf.RetConstant{Val: snapLen})
	f.label("reject")
	f.add(bpf.RetConstant{Val: 0})
	return f.assemble()
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
