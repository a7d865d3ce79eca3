package tun

import (
	"errors"
	"fmt"
	"os"

	wgtun "golang.zx2c4.com/wireguard/tun"

	"sixin4/encap/packet"
)

// portableReader reads through wireguard's device, which cuts super-packets
// itself and copies every payload.
type portableReader struct {
	d     *Device
	bufs  [][]byte
	sizes []int
}

func newPortableReader(d *Device) *portableReader {
	r := &portableReader{d: d}
	for range d.wg.BatchSize() {
		r.bufs = append(r.bufs, make([]byte, packet.Headroom+maxTotal))
	}
	r.sizes = make([]int, len(r.bufs))
	return r
}

func (r *portableReader) Read(b *packet.Batch) error {
	b.Reset()
	bufs := r.bufs[:min(len(r.bufs), cap(b.Packets))]
	n, err := r.d.wg.Read(bufs, r.sizes, packet.Headroom)
	switch {
	case err == nil, errors.Is(err, wgtun.ErrTooManySegments): // the first n are good
	case r.d.closed.Load():
		return os.ErrClosed // whatever wireguard's device calls it
	case errors.Is(err, os.ErrClosed):
		return fmt.Errorf("read from %s: the interface was deleted", r.d.name)
	default:
		return fmt.Errorf("read from %s: %w", r.d.name, err)
	}
	for i := range n {
		b.Next().Set(bufs[i][:packet.Headroom+r.sizes[i]], packet.Headroom, nil)
	}
	return nil
}

func (r *portableReader) Close() error { return r.d.Close() }

// portableWriter writes through wireguard's device. Merged packets are cut and
// checksums completed first: the device gets packets as they are on a wire.
type portableWriter struct {
	dev   wgtun.Device
	buf   []byte
	one   [1][]byte
	split splitBuffer
}

func newPortableWriter(dev wgtun.Device) *portableWriter {
	return &portableWriter{dev: dev, buf: make([]byte, packet.Headroom+maxTotal)}
}

func (w *portableWriter) Write(b *packet.Batch) (n int, err error) { return b.Each(w.packet) }

func (w *portableWriter) packet(p *packet.Packet) error {
	if p.Seg > 0 {
		return w.split.each(p, w.raw)
	}
	if p.Sum == packet.SumPartial {
		complete(p)
	}
	return w.raw(p)
}

// raw writes one finished packet. The copy keeps the room that the device may
// ask for in front.
func (w *portableWriter) raw(p *packet.Packet) error {
	w.buf = p.AppendTo(w.buf[:packet.Headroom])
	w.one[0] = w.buf
	_, err := w.dev.Write(w.one[:], packet.Headroom)
	return err
}
