package wire

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"sixin4/encap"
	"sixin4/encap/packet"
	"sixin4/encap/packettest"
	"sixin4/tun/nstest"
)

// BenchmarkWires sends and receives over a veth pair, in turn, on one thread: what a
// packet costs a wire and the kernel. The raw socket is protocol 41. Each batch is 128
// packets of one peer.
func BenchmarkWires(b *testing.B) {
	for _, size := range []int{1400, 100} {
		b.Run(fmt.Sprintf("raw/%d", size), func(b *testing.B) {
			top := pair(b)
			from, to := listen(b, top.B, Config{Local: top.AddrB}), listen(b, top.A, Config{Local: top.AddrA})
			benchWire(b, newWriter(b, top.B, from), to.Reader(), packettest.Outer(outer2, outer1, 1, numbered(1, size)))
		})
		for _, unsegmented := range []bool{false, true} {
			b.Run(fmt.Sprintf("udp/unsegmented=%t/%d", unsegmented, size), func(b *testing.B) {
				cfg := UDPConfig{Unsegmented: unsegmented}
				p := newUDPPair(b, cfg, cfg)
				w, err := p.client.NewWriter()
				if err != nil {
					b.Fatal(err)
				}
				benchWire(b, w, p.server.Reader(), p.up(0, numbered(1, size)))
			})
		}
	}
}

func benchWire(b *testing.B, w Writer, r Reader, pkt []byte) {
	const n = 128
	packets := make([][]byte, n)
	for i := range packets {
		packets[i] = pkt
	}
	out, in := batchOf(packets...), packet.NewBatch(n)
	b.SetBytes(int64(len(pkt)))
	b.ReportAllocs()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	before, ops := threadTime(b), 0
	for done := 0; b.Loop(); done++ {
		if ops++; done%n > 0 {
			continue // an op is a packet
		}
		if sent, err := w.Write(out); sent != n {
			b.Fatal(sent, err)
		}
		for got := 0; got < n; got += in.Len() {
			if err := r.Read(in); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.ReportMetric(float64(threadTime(b)-before)/float64(ops), "cpu-ns/op")
}

// threadTime is the processor time of this thread, with that of the kernel for it.
func threadTime(b *testing.B) time.Duration {
	b.Helper()
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_THREAD, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkUDPReceive: a broker with 64 peers that send all they can, from one thread.
// It has one socket, or as many as said (SO_REUSEPORT) among which a BPF filter steers
// by the source port, each with a thread of its own. An op is a packet received.
//
// A broker has one socket. Processor time of the receiving threads for a packet, medians
// of 3 (two cores of 2.5 GHz, Linux 6.18, other work beside):
//
//	datagrams                    one socket   two sockets
//	1400 bytes, merged           0.48 us      0.47 us
//	1400 bytes, one by one       2.6 us       2.8 us
//	100 bytes, merged            0.17 us      0.14 us
//	100 bytes, one by one        2.7 us       4.1 us
//
// So a second socket saves nothing, and a core of its own it would take from the kernel
// that delivers. What is lost differs more between runs than between the two.
//
//	go test -run '^$' -bench UDPReceive -benchtime 500000x -count 3 ./encap/wire
func BenchmarkUDPReceive(b *testing.B) {
	for _, size := range []int{1400, 100} {
		for _, unsegmented := range []bool{false, true} {
			for _, sockets := range []int{1, 2} {
				b.Run(fmt.Sprintf("size=%d/unsegmented=%t/sockets=%d", size, unsegmented, sockets), func(b *testing.B) {
					benchReceive(b, size, sockets, UDPConfig{Unsegmented: unsegmented})
				})
			}
		}
	}
}

func benchReceive(b *testing.B, size, sockets int, cfg UDPConfig) {
	top := pair(b)
	servers := openShared(b, top.B, sockets, cfg)
	stop := flood(b, top, size, cfg)
	var (
		wg         sync.WaitGroup
		left, busy atomic.Int64
	)
	left.Store(int64(b.N))
	lost := func() (n uint64) {
		for _, s := range servers {
			n += s.Stats().Overflow
		}
		return n
	}
	b.SetBytes(int64(size))
	b.ResetTimer()
	before := lost()
	for _, s := range servers {
		wg.Go(func() {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			began := threadTime(b)
			defer func() { busy.Add(int64(threadTime(b) - began)) }()
			batch := packet.NewBatch(128)
			for left.Load() > 0 && s.Reader().Read(batch) == nil {
				left.Add(-int64(batch.Len()))
			}
		})
	}
	wg.Wait()
	b.StopTimer()
	n := lost() - before
	b.ReportMetric(float64(busy.Load())/float64(b.N), "cpu-ns/op")
	b.ReportMetric(100*float64(n)/float64(n+uint64(b.N)), "lost%")
	stop()
}

// openShared makes sockets of one address, among which the source port decides.
func openShared(b *testing.B, ns *nstest.NS, sockets int, cfg UDPConfig) (all []*UDP) {
	b.Helper()
	program, err := bpf.Assemble([]bpf.Instruction{
		bpf.LoadAbsolute{Off: netOff + 20, Size: 2},
		bpf.ALUOpConstant{Op: bpf.ALUOpMod, Val: uint32(sockets)},
		bpf.RetA{},
	})
	if err != nil {
		b.Fatal(err)
	}
	share := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) (err error) {
		c.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1) })
		return err
	}}
	err = ns.Do(func() error {
		for range sockets {
			conn, err := share.ListenPacket(context.Background(), "udp4", serverPort.String())
			if err != nil {
				return err
			}
			cfg.Conn = conn.(*net.UDPConn)
			u, err := NewUDP(cfg)
			if err != nil {
				return err
			}
			b.Cleanup(func() { u.Close() })
			all = append(all, u)
		}
		return nil
	})
	if err == nil && sockets > 1 {
		err = attachProgram(all[0].fd, unix.SO_ATTACH_REUSEPORT_CBPF, program)
	}
	if err != nil {
		b.Fatal(err)
	}
	return all
}

// flood has 64 peers send batches in turn until it is stopped.
func flood(b *testing.B, top *nstest.Topology, size int, cfg UDPConfig) (stop func()) {
	b.Helper()
	type peer struct {
		w   Writer
		out *packet.Batch
	}
	var peers []peer
	for i := range 64 {
		u := openUDP(b, top.A, netip.AddrPortFrom(anyPort4.Addr(), uint16(20000+i)), serverPort, cfg)
		w, err := u.NewWriter()
		if err != nil {
			b.Fatal(err)
		}
		packets := make([][]byte, 32)
		for k := range packets {
			packets[k] = datagram(u.LocalAddr(), serverPort, 0, numbered(i, size))
		}
		peers = append(peers, peer{w, batchOf(packets...)})
	}
	var done atomic.Bool
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := 0; !done.Load(); i++ {
			p := &peers[i%len(peers)]
			if _, err := p.w.Write(p.out); err != nil {
				b.Error(err)
				return
			}
		}
	})
	return func() {
		done.Store(true)
		wg.Wait()
	}
}

func attachProgram(fd, option int, program []bpf.RawInstruction) error {
	filters := make([]unix.SockFilter, len(program))
	for i, in := range program {
		filters[i] = unix.SockFilter{Code: in.Op, Jt: in.Jt, Jf: in.Jf, K: in.K}
	}
	prog := unix.SockFprog{Len: uint16(len(filters)), Filter: &filters[0]}
	return unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, option, &prog)
}

// BenchmarkUDPReader: what a datagram costs Read itself, without the kernel, and Decap, which
// reads the same bytes. An op is a packet. What came alone is looked at, what was cut is not.
//
//	go test -run '^$' -bench UDPReader -count 5 ./encap/wire
func BenchmarkUDPReader(b *testing.B) {
	for name, inner := range map[string][]byte{
		"TCP": tcp(1340), "UDP": udp(1352), "ICMPv6": packettest.ICMPv6(inner6.Addr(), inner7.Addr(), 128, 0, make([]byte, 1352)),
	} {
		b.Run("alone/"+name, func(b *testing.B) { benchReader(b, BatchSize, inner, 0) })
	}
	b.Run("cut/TCP", func(b *testing.B) { benchReader(b, 2, bytes.Repeat(tcp(1340), 46), 1400) })
	b.Run("merged/TCP", func(b *testing.B) { benchReader(b, 4, partial(tcp(60_000)), 0) })
}

// benchReader has n messages come at a time, of datagrams of seg bytes if that is not 0.
func benchReader(b *testing.B, n int, data []byte, seg uint32) {
	_, r := scripted(b, UDPConfig{})
	for i := range n {
		deliver(&r.msgs[i], data)
	}
	r.recv = func(_ int, msgs []mmsghdr) (int, unix.Errno) {
		for i := range n {
			if msgs[i].hdr.Controllen = 0; seg > 0 {
				note(&msgs[i], unix.IPPROTO_UDP, unix.UDP_GRO, seg)
			}
		}
		return n, 0
	}
	in := packet.NewBatch(BatchSize)
	b.ReportAllocs()
	for left := 0; b.Loop(); left-- {
		if left == 0 {
			if err := r.Read(in); err != nil {
				b.Fatal(err)
			}
			left = in.Len()
		}
		if _, _, d := encap.DecapUDP(&in.Packets[left-1]); d != encap.Forward {
			b.Fatal(d)
		}
	}
}
