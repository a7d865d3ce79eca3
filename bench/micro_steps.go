package bench

import (
	"context"
	"encoding/binary"
	"fmt"
	"net/netip"
	"time"

	"sixin4/encap"
	"sixin4/encap/engine"
	"sixin4/encap/packet"
)

const (
	microBatch = engine.BatchSize
	microSize  = 1400 // bytes of the inner packet
	microHub   = 1000 // peers of a hub
)

func microSteps() ([]*step, error) {
	steps := []*step{
		{name: "checksum", bytes: microSize, run: checksumStep},
		{name: "split", bytes: microSize, run: splitStep},
		{name: "join", bytes: microSize, run: joinStep},
	}
	for _, peers := range []int{1, microHub} {
		m, err := newMicro(peers)
		if err != nil {
			return nil, err
		}
		many := fmt.Sprintf("%d peers", peers)
		if peers == 1 {
			many = "1 peer"
			steps = append(steps,
				&step{name: "encap", bytes: microSize, run: m.encap},
				&step{name: "decap", bytes: microSize, run: m.decap})
		}
		steps = append(steps,
			&step{name: "look-up and encap, " + many, bytes: microSize, run: m.wayOut},
			&step{name: "decap and look-up, " + many, bytes: microSize, run: m.wayIn})
	}
	return steps, nil
}

// micro is packets to and from the peers of a table. Peers have addresses of the
// range that RFC 6890 keeps for benchmarks.
type micro struct {
	table   *engine.Table
	header  encap.Header
	inner   [][]byte // from us to a peer, with headroom
	outer   [][]byte // the same the other way round, as it comes from the wire
	scratch packet.Packet
}

var (
	microLocal  = netip.MustParseAddr("198.18.255.254")
	microSource = netip.MustParseAddr("2001:db8:ffff::1")
)

func microRemote(peer int) netip.Addr {
	return netip.AddrFrom4([4]byte{198, 18, byte(peer >> 8), byte(peer)})
}

// microInner is an address of the peer's prefix.
func microInner(peer int) netip.Addr {
	a := [16]byte{0x20, 0x01, 0x0d, 0xb8, 15: 1}
	binary.BigEndian.PutUint16(a[4:], uint16(peer))
	return netip.AddrFrom16(a)
}

func newMicro(peers int) (*micro, error) {
	var cfg engine.TableConfig
	for i := range peers {
		prefix := netip.PrefixFrom(microInner(i+1), 48).Masked()
		if peers == 1 {
			prefix = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
		}
		cfg.Peers = append(cfg.Peers, engine.Peer{
			Remote: microRemote(i + 1), Prefixes: []netip.Prefix{prefix}, Outer: encap.Outer{Src: microLocal},
		})
	}
	m := new(micro)
	var err error
	if m.table, err = engine.NewTable(cfg); err != nil {
		return nil, err
	}
	if m.header, err = (encap.Outer{Src: microLocal, Dst: microRemote(1)}).Header(); err != nil {
		return nil, err
	}
	for i := range microBatch {
		if err := m.add(i*peers/microBatch + 1); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// add makes one packet to a peer and one from it.
func (m *micro) add(peer int) error {
	m.inner = append(m.inner, microPacket(microSource, microInner(peer)))
	from, err := encap.Outer{Src: microRemote(peer), Dst: microLocal}.Header()
	if err != nil {
		return err
	}
	var p packet.Packet
	p.Set(microPacket(microInner(peer), microSource), packet.Headroom, nil)
	from.Encap(&p, uint16(peer))
	m.outer = append(m.outer, p.Buf)
	return nil
}

// microPacket is a TCP segment, with headroom in front. Its checksum is wrong,
// which is nobody's business on the way.
func microPacket(src, dst netip.Addr) []byte {
	buf := make([]byte, packet.Headroom+microSize)
	b := buf[packet.Headroom:]
	b[0] = 0x60
	binary.BigEndian.PutUint16(b[4:], microSize-40)
	b[6], b[7] = 6, 64
	copy(b[8:], src.AsSlice())
	copy(b[24:], dst.AsSlice())
	b[40+12] = 5 << 4 // the length of the TCP header
	b[40+16] = 0xff   // not the pseudo-header's sum
	return buf
}

func checksumStep(_ context.Context, n int) (time.Duration, error) {
	buf := make([]byte, microSize)
	start := time.Now()
	var sum uint64
	for range n {
		sum = packet.AddBytes(sum, buf)
	}
	took := time.Since(start)
	if packet.Fold(sum) != 0 {
		return 0, fmt.Errorf("sum of zeros is %d", sum)
	}
	return took, nil
}

func (m *micro) encap(_ context.Context, n int) (time.Duration, error) {
	p := &m.scratch
	start := time.Now()
	for i := range n {
		p.Set(m.inner[i%microBatch], packet.Headroom, nil)
		m.header.Encap(p, uint16(i))
	}
	return time.Since(start), nil
}

func (m *micro) decap(_ context.Context, n int) (time.Duration, error) {
	p := &m.scratch
	start := time.Now()
	for i := range n {
		p.Set(m.outer[i%microBatch], packet.Headroom-encap.HeaderLen, nil)
		if _, drop := encap.Decap(p); drop != encap.Forward {
			return 0, fmt.Errorf("packet was refused: %v", drop)
		}
	}
	return time.Since(start), nil
}
