package wire

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"

	"golang.org/x/net/ipv4"

	"sixin4/encap"
	"sixin4/encap/packet"
)

// portable is a connection by golang.org/x/net/ipv4: one packet a system call,
// on every system that has raw sockets.
type portable struct {
	conn *ipv4.RawConn
	buf  []byte
}

// errPortableInterface is about Config.Interface, which takes the system's own calls.
var errPortableInterface = fmt.Errorf("bind raw socket to one interface: %w", errors.ErrUnsupported)

func listenPortable(local netip.Addr, receiveBuffer int) (*portable, error) {
	pc, err := net.ListenPacket("ip4:41", local.String())
	if err != nil {
		return nil, fmt.Errorf("open raw socket: %w", err)
	}
	if ip, ok := pc.(*net.IPConn); ok {
		_ = ip.SetReadBuffer(receiveBuffer) // as far as the system lets it grow
	}
	conn, err := ipv4.NewRawConn(pc)
	if err != nil {
		pc.Close()
		return nil, fmt.Errorf("open raw socket: %w", err)
	}
	return &portable{conn: conn, buf: make([]byte, packet.Headroom+maxPacket)}, nil
}

// maxPacket is the longest IPv4 packet; merged ones come close to it.
const maxPacket = 65535

// Read brings one packet. The header is made anew from what the system gave,
// since some systems hand over its fields in another byte order.
func (r *portable) Read(b *packet.Batch) error {
	b.Reset()
	h, payload, _, err := r.conn.ReadFrom(r.buf[packet.Headroom:])
	if errors.Is(err, net.ErrClosed) {
		return os.ErrClosed
	}
	if err != nil {
		return fmt.Errorf("receive on raw socket: %w", err)
	}
	h.TotalLen = h.Len + len(payload)
	header, err := h.Marshal()
	if err != nil {
		return fmt.Errorf("received header: %w", err)
	}
	raw := r.buf[packet.Headroom : packet.Headroom+h.TotalLen]
	copy(raw, header)
	encap.IPv4(raw).FillChecksum()
	b.Next().Set(r.buf[:packet.Headroom+h.TotalLen], packet.Headroom, nil)
	return nil
}

func (r *portable) Close() error {
	if err := r.conn.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}

func (r *portable) writer() Writer { return &portableWriter{conn: r.conn} }

type portableWriter struct {
	conn *ipv4.RawConn
	buf  []byte
}

func (w *portableWriter) Write(b *packet.Batch) (n int, err error) { return b.Each(w.packet) }

func (w *portableWriter) packet(p *packet.Packet) error {
	h, err := ipv4.ParseHeader(p.Head())
	if err != nil {
		return err
	}
	w.buf = p.AppendTo(w.buf[:0])
	if err = w.conn.WriteTo(h, w.buf[h.Len:], nil); errors.Is(err, net.ErrClosed) {
		return os.ErrClosed
	}
	return err
}
