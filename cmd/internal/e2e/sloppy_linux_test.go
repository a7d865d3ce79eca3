package e2e

import (
	"encoding/binary"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"sixin4/tun/nstest"
)

// sloppy is a far end as a kernel on the same machine is one: it leaves every
// checksum to be done, by the virtio header of a packet socket. Here a TUN device
// that has checksum offload and nothing else stands for that kernel.
type sloppy struct {
	ns      *nstest.NS
	tun     *os.File
	in      net.PacketConn
	out     int // packet socket
	link    int
	header  []byte // Ethernet and IPv4, as a template
	partial atomic.Int64
}

const (
	vnetLen = 10
	ethLen  = 14
)

// newSloppy runs one at A, whose peer is B.
func newSloppy(t testing.TB, top *nstest.Topology) *sloppy {
	t.Helper()
	s := &sloppy{ns: top.A}
	must(t, s.ns.Do(func() error { return s.open(top) }))
	must(t, s.ns.Sysctl("net/ipv6/conf/"+device+"/addr_gen_mode", "1"), s.ns.SetMTU(device, 1480),
		s.ns.SetUp(device), s.ns.AddAddr(device, innerA+"/64"), s.ns.AddRoute("2001:db8:c::/64", device))
	to, _ := mac(t, top.B, top.LinkB)
	from, link := mac(t, top.A, top.LinkA)
	s.link = link
	s.header = append(append(append(s.header, to...), from...), 8, 0)
	s.header = append(s.header, outerPacket(top.AddrA, top.AddrB, 1, nil)...)
	ended := make(chan bool, 2)
	go func() { s.encap(); ended <- true }()
	go func() { s.decap(); ended <- true }()
	t.Cleanup(func() {
		s.tun.Close()
		s.in.Close()
		within(t, "loop ends", ended)
		within(t, "loop ends", ended)
		unix.Close(s.out)
	})
	return s
}

func (s *sloppy) open(top *nstest.Topology) error {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	request, err := unix.NewIfreq(device)
	if err != nil {
		return err
	}
	request.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, request); err != nil {
		return err
	}
	if err := unix.IoctlSetInt(fd, unix.TUNSETOFFLOAD, unix.TUN_F_CSUM); err != nil {
		return err
	}
	s.tun = os.NewFile(uintptr(fd), "tun")
	if s.in, err = net.ListenPacket("ip4:41", top.AddrA.String()); err != nil {
		return err
	}
	_ = s.in.(*net.IPConn).SetReadBuffer(4 << 20)
	s.out, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	return unix.SetsockoptInt(s.out, unix.SOL_PACKET, unix.PACKET_VNET_HDR, 1)
}

// encap carries packets out, as they are.
func (s *sloppy) encap() {
	buf := make([]byte, 1<<16)
	front := vnetLen + len(s.header)
	to := &unix.SockaddrLinklayer{Protocol: 8, Ifindex: s.link}
	for id := uint16(1); ; id++ {
		n, err := s.tun.Read(buf[len(s.header):])
		if err != nil {
			return
		}
		h := [vnetLen]byte(buf[len(s.header):])
		if h[0]&1 != 0 { // the checksum is still to be done
			s.partial.Add(1)
			start := binary.NativeEndian.Uint16(h[6:])
			binary.NativeEndian.PutUint16(h[6:], start+uint16(len(s.header)))
		}
		copy(buf, h[:])
		copy(buf[vnetLen:], s.header)
		ip := buf[vnetLen+ethLen : n+len(s.header)]
		binary.BigEndian.PutUint16(ip[2:], uint16(len(ip)))
		binary.BigEndian.PutUint16(ip[4:], id)
		fix4(ip)
		if err := unix.Sendto(s.out, buf[:front+n-vnetLen], 0, to); err != nil && err != syscall.ENOBUFS {
			return
		}
	}
}

// decap carries packets in.
func (s *sloppy) decap() {
	buf := make([]byte, vnetLen+1<<16)
	for {
		n, _, err := s.in.ReadFrom(buf[vnetLen:])
		if err != nil {
			return
		}
		if _, err := s.tun.Write(buf[:vnetLen+n]); err != nil {
			return
		}
	}
}

// fix4 makes the checksum of an IPv4 header without options right.
func fix4(b []byte) {
	b[10], b[11] = 0, 0
	var sum uint32
	for i := 0; i < 20; i += 2 {
		sum += uint32(b[i])<<8 | uint32(b[i+1])
	}
	sum = sum>>16 + sum&0xffff
	binary.BigEndian.PutUint16(b[10:], ^uint16(sum>>16+sum&0xffff))
}

// outerPacket is an IPv4 packet of protocol 41.
func outerPacket(src, dst netip.Addr, id uint16, inner []byte, edits ...func([]byte)) []byte {
	b := make([]byte, 20, 20+len(inner))
	b[0], b[6], b[8], b[9] = 0x45, 0x40, 64, 41
	binary.BigEndian.PutUint16(b[2:], uint16(20+len(inner)))
	binary.BigEndian.PutUint16(b[4:], id)
	copy(b[12:], src.AsSlice())
	copy(b[16:], dst.AsSlice())
	b = append(b, inner...)
	for _, e := range edits {
		e(b)
	}
	fix4(b)
	return b
}
