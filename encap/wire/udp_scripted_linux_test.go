package wire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"sixin4/encap/packet"
	"sixin4/tun/nstest"
)

// scripted is a wire whose kernel is the test: each Read brings the given datagrams, all
// from peer4. It never asks about them.
func scripted(t testing.TB, cfg UDPConfig, datagrams ...[]byte) (*UDP, *udpReader) {
	t.Helper()
	conn, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.MustParseAddrPort("127.0.0.1:0")))
	if err != nil {
		t.Fatal(err)
	}
	cfg.Conn = conn
	u, err := NewUDP(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { u.Close() })
	u.reader.hints.failed = true
	u.reader.recv = func(_ int, msgs []mmsghdr) (int, unix.Errno) {
		for i, d := range datagrams {
			deliver(&msgs[i], d)
		}
		return len(datagrams), 0
	}
	return u, u.reader
}

var peer4 = netip.MustParseAddrPort("192.0.2.77:4077")

// deliver puts a datagram where the kernel would.
func deliver(m *mmsghdr, d []byte) {
	m.n, m.hdr.Controllen = uint32(len(d)), 0
	*(*unix.RawSockaddrInet4)(unsafe.Pointer(m.hdr.Name)) = sockaddr(endpoint{peer4.Addr().As4(), peer4.Port()})
	for _, v := range unsafe.Slice(m.hdr.Iov, m.hdr.Iovlen) {
		d = d[copy(unsafe.Slice(v.Base, v.Len), d):]
	}
}

// note adds a control message of one number.
func note(m *mmsghdr, level, kind int32, value uint32) {
	c := (*unix.Cmsghdr)(unsafe.Pointer(m.hdr.Control))
	c.Level, c.Type = level, kind
	c.SetLen(unix.CmsgLen(4))
	*(*uint32)(unsafe.Pointer(&bytesAt(m.hdr.Control, unix.CmsgLen(4))[unix.CmsgLen(0)])) = value
	m.hdr.Controllen = uint64(unix.CmsgSpace(4))
}

// know has the kernel's word about a datagram from peer4 ready.
func (r *udpReader) know(t testing.TB, d []byte, h hint) {
	t.Helper()
	e := &r.hints.ring[r.hints.next]
	if !e.key.set(datagram(peer4, r.u.LocalAddr(), 0, d), UDPHeaderLen) {
		t.Fatal("no headers")
	}
	e.used, e.hint = true, h
	r.hints.bound, r.hints.failed = true, false
	r.hints.next = (r.hints.next + 1) % len(r.hints.ring)
}

// readOne reads a batch that is one packet.
func readOne(t testing.TB, r *udpReader) *packet.Packet {
	t.Helper()
	b := packet.NewBatch(BatchSize)
	if err := r.Read(b); err != nil || b.Len() != 1 {
		t.Fatalf("%d packets, %v", b.Len(), err)
	}
	return &b.Packets[0]
}

// virtualLink makes ns receive datagrams from 198.51.100.0/24 as from a network card, with
// the checksum inside left undone or not, and TCP inside that is merged of segments of seg
// bytes, if that is not 0. A veth would cut those: it does not know the sender.
func virtualLink(t *testing.T, ns *nstest.NS) (send func(datagram []byte, partial bool, seg int)) {
	t.Helper()
	const name = "virtual"
	var fd int
	err := ns.Do(func() (err error) {
		if fd, err = unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0); err != nil {
			return err
		}
		t.Cleanup(func() { unix.Close(fd) })
		ifr, err := unix.NewIfreq(name)
		if err != nil {
			return err
		}
		ifr.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
		return unix.IoctlIfreq(fd, unix.TUNSETIFF, ifr)
	})
	if err = errors.Join(err, ns.AddAddr(name, "198.51.100.1/24"), ns.SetUp(name)); err != nil {
		t.Fatal(err)
	}
	return func(datagram []byte, partial bool, seg int) {
		t.Helper()
		datagram[10], datagram[11] = 0, 0
		binary.BigEndian.PutUint16(datagram[10:], ^packet.Fold(packet.AddBytes(0, datagram[:20])))
		head := make([]byte, vnetLen)
		if field := bytes.Index([]byte{17, 6}, datagram[34:35]); partial {
			head[0] = unix.VIRTIO_NET_HDR_F_NEEDS_CSUM
			binary.NativeEndian.PutUint16(head[6:], UDPHeaderLen+40)
			binary.NativeEndian.PutUint16(head[8:], uint16(6+10*field))
		}
		if seg > 0 {
			head[1] = byte(gsoTCP6)
			binary.NativeEndian.PutUint16(head[2:], UDPHeaderLen+60)
			binary.NativeEndian.PutUint16(head[4:], uint16(seg))
		}
		if _, err := unix.Write(fd, append(head, datagram...)); err != nil {
			t.Fatalf("the kernel takes no %d bytes in segments of %d: %v", len(datagram), seg, err)
		}
	}
}
