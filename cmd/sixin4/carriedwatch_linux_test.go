package main

import (
	"encoding/binary"
	"errors"
	"net"
	"testing"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"sixin4/tun/nstest"
)

// Where things are in an Ethernet frame with IPv6 in UDP, whose IPv4 header has no options
// (RFC 791, RFC 768, RFC 8200).
const (
	frameType  = 12
	frameProto = 14 + 9
	frameSum   = 14 + 20 + 6
	frameInner = 14 + 20 + 8
	frameNext  = frameInner + 6
)

// watch sees the datagrams without a UDP checksum that come in by a link, which are what
// the kernel has carried, before anything drops them there.
type watch struct {
	t  *testing.T
	fd int
}

func watchAt(t *testing.T, ns *nstest.NS, link string) *watch {
	t.Helper()
	w := &watch{t: t}
	const none = 255 // jumps to the end
	program := []bpf.Instruction{
		bpf.LoadExtension{Num: bpf.ExtType}, bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: unix.PACKET_OUTGOING, SkipFalse: none},
		bpf.LoadAbsolute{Off: frameType, Size: 2}, bpf.JumpIf{Cond: bpf.JumpEqual, Val: unix.ETH_P_IP, SkipFalse: none},
		bpf.LoadAbsolute{Off: frameProto, Size: 1}, bpf.JumpIf{Cond: bpf.JumpEqual, Val: unix.IPPROTO_UDP, SkipFalse: none},
		bpf.LoadAbsolute{Off: frameSum, Size: 2}, bpf.JumpIf{Cond: bpf.JumpEqual, Val: 0, SkipFalse: none},
		bpf.RetConstant{Val: frameNext + 1}, bpf.RetConstant{Val: 0},
	}
	for i, x := range program {
		if j, ok := x.(bpf.JumpIf); ok {
			j.SkipFalse = uint8(len(program) - 2 - i)
			program[i] = j
		}
	}
	raw, err := bpf.Assemble(program)
	must(t, err)
	index := indexIn(t, ns, link)
	must(t, ns.Do(func() (err error) {
		// Of no protocol yet, so that nothing comes before the filter is there.
		w.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		return err
	}))
	t.Cleanup(func() { unix.Close(w.fd) })
	must(t, unix.SetsockoptSockFprog(w.fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{
		Len: uint16(len(raw)), Filter: (*unix.SockFilter)(unsafe.Pointer(&raw[0])),
	}))
	must(t, unix.Bind(w.fd, &unix.SockaddrLinklayer{Protocol: htons(unix.ETH_P_ALL), Ifindex: index}))
	return w
}

// indexIn is the number of a link.
func indexIn(t *testing.T, ns *nstest.NS, name string) int {
	t.Helper()
	var i *net.Interface
	must(t, ns.Do(func() (err error) { i, err = net.InterfaceByName(name); return err }))
	return i.Index
}

func htons(v uint16) uint16 { return binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, v)) }

// seen is how many datagrams held TCP, UDP and echo requests.
type seen struct{ tcp, udp, asks int }

// look is what came since it was called last. When much came it is not all.
func (w *watch) look() (s seen) {
	w.t.Helper()
	frame := make([]byte, frameNext+1)
	for {
		n, _, err := unix.Recvfrom(w.fd, frame, 0)
		if errors.Is(err, unix.EAGAIN) {
			return s
		}
		must(w.t, err)
		if n <= frameNext {
			continue
		}
		switch frame[frameNext] {
		case unix.IPPROTO_TCP:
			s.tcp++
		case unix.IPPROTO_UDP:
			s.udp++
		case unix.IPPROTO_ICMPV6:
			s.asks++
		}
	}
}

// dropBare has a link of a router drop datagrams without a UDP checksum that come in by it,
// without a word, until it is lifted.
func dropBare(t *testing.T, ns *nstest.NS, name string) (lift func()) {
	t.Helper()
	const (
		next = -1 // TCX_NEXT
		drop = 2  // TCX_DROP
	)
	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.SchedCLS,
		Instructions: asm.Instructions{
			asm.Mov.Reg(asm.R6, asm.R1),
			asm.LoadAbs(frameType, asm.Half), asm.JNE.Imm(asm.R0, unix.ETH_P_IP, "pass"),
			asm.LoadAbs(frameProto, asm.Byte), asm.JNE.Imm(asm.R0, unix.IPPROTO_UDP, "pass"),
			asm.LoadAbs(frameSum, asm.Half), asm.JNE.Imm(asm.R0, 0, "pass"),
			asm.Mov.Imm(asm.R0, drop), asm.Return(),
			asm.Mov.Imm(asm.R0, next).WithSymbol("pass"), asm.Return(),
		},
	})
	must(t, err)
	t.Cleanup(func() { program.Close() })
	index := indexIn(t, ns, name)
	var l link.Link
	must(t, ns.Do(func() (err error) {
		l, err = link.AttachTCX(link.TCXOptions{Interface: index, Program: program, Attach: ebpf.AttachTCXIngress})
		return err
	}))
	lift = func() { must(t, l.Close()) }
	t.Cleanup(lift)
	return lift
}
