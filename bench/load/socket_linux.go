package load

import (
	"errors"
	"net"
	"net/netip"
	"sync"
	"syscall"

	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"
)

// queueSize is how much may wait in a socket, in bytes: a crowd is answered at once.
const queueSize = 64 << 20

// enlarge makes the queues of a socket large, as far as the system lets it.
func enlarge(c syscall.Conn) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	return raw.Control(func(fd uintptr) {
		for _, o := range []int{unix.SO_RCVBUFFORCE, unix.SO_SNDBUFFORCE} {
			_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, o, queueSize) // else as large as it is
		}
	})
}

// packetSize is what a packet may have, in bytes.
const packetSize = 2048

// rawPackets receives by one socket and sends, with any source, by another.
type rawPackets struct {
	in, out *net.IPConn
	to      *net.IPAddr
	batch   []ipv4.Message // of the receiver

	mu      sync.Mutex
	sending []ipv4.Message
}

func openPackets(broker netip.Addr) (packets, error) {
	in, err := net.ListenIP("ip4:41", nil)
	if err != nil {
		return nil, err
	}
	out, err := net.ListenIP("ip4:255", nil) // IPPROTO_RAW: with the IPv4 header
	if err != nil {
		return nil, errors.Join(err, in.Close())
	}
	r := &rawPackets{in: in, out: out, to: &net.IPAddr{IP: broker.AsSlice()}}
	r.batch = make([]ipv4.Message, batchSize)
	r.sending = make([]ipv4.Message, batchSize)
	for i := range r.batch {
		r.batch[i].Buffers = [][]byte{make([]byte, packetSize)}
		r.sending[i].Buffers = make([][]byte, 1)
		r.sending[i].Addr = r.to
	}
	return r, errors.Join(enlarge(in), enlarge(out))
}

func (r *rawPackets) receive(f func([]byte)) error {
	n, err := ipv4.NewPacketConn(r.in).ReadBatch(r.batch, 0)
	for _, m := range r.batch[:max(n, 0)] {
		f(m.Buffers[0][:m.N])
	}
	return err
}

func (r *rawPackets) send(all [][]byte) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	for len(all) > 0 {
		n := min(len(all), batchSize)
		for i := range n {
			r.sending[i].Buffers[0] = all[i]
		}
		n, err := ipv4.NewPacketConn(r.out).WriteBatch(r.sending[:n], 0)
		if err != nil {
			return err
		}
		all = all[n:]
	}
	return nil
}

func (r *rawPackets) forge(packet []byte) error {
	_, err := r.out.WriteTo(packet, r.to)
	return err
}

func (r *rawPackets) Close() error { return errors.Join(r.in.Close(), r.out.Close()) }

// udp is a socket for all addresses. Which of them it is, is said with each datagram.
type udp struct {
	conn *net.UDPConn
	to   netip.AddrPort
	oob  []byte // of the receiver
}

func openDatagrams(broker netip.AddrPort) (datagrams, error) {
	conn, err := net.ListenUDP("udp4", nil)
	if err != nil {
		return nil, err
	}
	u := &udp{conn: conn, to: broker, oob: ipv4.NewControlMessage(ipv4.FlagDst)}
	return u, errors.Join(enlarge(conn), ipv4.NewPacketConn(conn).SetControlMessage(ipv4.FlagDst, true))
}

func (u *udp) port() uint16 { return u.conn.LocalAddr().(*net.UDPAddr).AddrPort().Port() }

func (u *udp) send(from netip.Addr, b []byte) error {
	cm := ipv4.ControlMessage{Src: from.AsSlice()}
	_, _, err := u.conn.WriteMsgUDPAddrPort(b, cm.Marshal(), u.to)
	return err
}

func (u *udp) receive(b []byte) (int, netip.Addr, error) {
	n, oobn, _, _, err := u.conn.ReadMsgUDPAddrPort(b, u.oob)
	if err != nil {
		return 0, netip.Addr{}, err
	}
	var cm ipv4.ControlMessage
	if err := cm.Parse(u.oob[:oobn]); err != nil {
		return 0, netip.Addr{}, err
	}
	to, _ := netip.AddrFromSlice(cm.Dst.To4())
	return n, to, nil
}

func (u *udp) Close() error { return u.conn.Close() }
