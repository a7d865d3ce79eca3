package wire

import (
	"errors"
	"net/netip"

	"sixin4/encap/packet"
)

// UDPWay is a writer for packets of IPv6 in UDP, by the socket that is bound to Local.
type UDPWay struct {
	Local  netip.AddrPort
	Writer Writer
}

// Both returns a writer of packets that go several ways: those whose outer header says UDP
// to the one that has their outer source, address and port, all others to raw, each way in
// their order. Runs of packets that go one way are written as one batch.
func Both(raw Writer, udp ...UDPWay) Writer {
	w := &bothWriter{raw: raw, udp: make([]udpEnd, len(udp))}
	for i, way := range udp {
		w.udp[i] = udpEnd{endpoint{way.Local.Addr().As4(), way.Local.Port()}, way.Writer}
	}
	return w
}

type bothWriter struct {
	raw  Writer
	udp  []udpEnd
	part packet.Batch // one run: here, as a variable would be allocated for each
}

type udpEnd struct {
	at endpoint
	to Writer
}

// Write writes the packets of b.
func (w *bothWriter) Write(b *packet.Batch) (n int, err error) {
	for rest := b.Packets; len(rest) > 0; {
		from, over := sourceOf(&rest[0])
		size := 1
		for size < len(rest) {
			if f, o := sourceOf(&rest[size]); o != over || f != from {
				break
			}
			size++
		}
		to := w.raw
		if over {
			to = w.by(from)
		}
		w.part.Packets = rest[:size]
		sent, e := to.Write(&w.part)
		if sent == 0 && e != nil { // a closed one may have marked nothing
			w.part.Fail(e)
		}
		if n += sent; err == nil {
			err = e
		}
		rest = rest[size:]
	}
	return n, err
}

// by is the writer of packets from an address and port.
func (w *bothWriter) by(from endpoint) Writer {
	for i := range w.udp {
		if w.udp[i].at == from {
			return w.udp[i].to
		}
	}
	return noWay{}
}

// noWay takes nothing.
type noWay struct{}

func (noWay) Write(b *packet.Batch) (int, error) {
	b.Fail(errNoSocket)
	return 0, errNoSocket
}

var errNoSocket = errors.New("UDP wire: no socket has the outer source of the packet")

// sourceOf is the outer source of a packet of IPv6 in UDP; false for any other.
func sourceOf(p *packet.Packet) (from endpoint, over bool) {
	f, over := flowOf(p)
	if over {
		from = endpoint{f.src4(), f.port(8)}
	}
	return from, over
}
