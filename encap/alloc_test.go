//go:build !race

package encap

import (
	"testing"

	"sixin4/encap/packet"
)

// The race detector allocates on its own, so that this file is left out there.

// TestNoAllocations is the promise of the package, function by function.
func TestNoAllocations(t *testing.T) {
	var (
		h       = mustHeader(t, Outer{})
		part    = tcp6(peer6, ours6, pattern(1400), partial)
		inner   = newSplit(part, 60)
		outer   = ip4(peer4, part)
		buf     = append(make([]byte, packet.Headroom), outer...)
		options = append(make([]byte, packet.Headroom), withOptions(outer, []byte{1, 1, 1, 0})...)
		batch   = packet.NewBatch(8)
		room    = make([]byte, 1000)
		answer  = make([]byte, 0, 1280)
		silent  = newPacket(icmpOf(3))
		bucket  TokenBucket
		notice  Notice
		table   Sent = sent
		icmp         = tooLong(1300, 548)
		opening      = newPacket(syn(2, usual(9000), nil, full))
		nested       = newPacket(in6(in4(part)))
		mapped       = newPacket(udp6("2002:cb00:7105::1", "2002:cb00:7105::1", nil, full))
		ids     IDs
		now     int64
		sink    int
		p       packet.Packet
	)
	cases := []struct {
		name string
		f    func()
	}{
		{"Encap", func() { h.Encap(inner, 1); inner.Pull(HeaderLen) }},
		{"Decap", func() { p.Set(buf, packet.Headroom, nil); Decap(&p) }},
		{"Decap with options", func() { p.Set(options, packet.Headroom, nil); Decap(&p) }},
		{"Decap that drops", func() { p.Set(buf[:70], packet.Headroom, nil); Decap(&p) }},
		{"CheckInner", func() { sink += int(CheckInner(inner)) }},
		{"MarkSum", func() { MarkSum(inner) }},
		{"CompleteSum", func() { inner.Sum = packet.SumPartial; CompleteSum(inner) }},
		{"Transport and MakePartial", func() { Transport(inner); MakePartial(inner) }},
		{"FillChecksum", func() { IPv4(outer).FillChecksum() }},
		{"VerifySum", func() { VerifySum(inner) }},
		{"Fragment", func() {
			batch.Reset()
			h.Encap(inner, 1)
			Fragment(inner, 576, batch, room)
			inner.Pull(HeaderLen)
		}},
		{"AppendUnreachable", func() { sink += len(AppendUnreachable(answer, 0, router, inner)) }},
		{"AppendPacketTooBig", func() { sink += len(AppendPacketTooBig(answer, 1280, router, inner)) }},
		{"AppendUnreachable that is silent", func() { sink += len(AppendUnreachable(answer, 0, router, silent)) }},
		{"TokenBucket", func() { now += 1e7; bucket.Allow(now) }},
		{"IDs", func() { sink += int(NextID(ids.Reserve(3))) }},
		{"addresses", func() { sink += IPv6(inner.Head()).Src().BitLen() + IPv4(outer).Src().BitLen() }},
		{"LinkScope", func() { LinkScope(inner.Head()) }},
		{"ParseICMP4 and AppendRelayed", func() {
			e, _ := ParseICMP4(icmp, table)
			sink += len(AppendRelayed(answer, &e, router))
		}},
		{"Notice", func() { now++; notice.Leave(now, 3); notice.Take(now) }},
		{"ClampMSS", func() { opening.Head()[62], opening.Head()[63] = 9, 9; ClampMSS(opening, 1220) }},
		{"CheckNesting", func() { CheckNesting(nested, DefaultNesting, table) }},
		{"Mapping", func() {
			dst, _ := map6to4.Outbound(mapped.Head())
			map6to4.Inbound(dst, mapped.Head())
			mapISATAP.Outbound(mapped.Head())
			mapISATAP.Inbound(dst, mapped.Head())
			to := h.To(dst)
			to.Encap(mapped, 1)
			mapped.Pull(HeaderLen)
		}},
		{"Drop.String", func() { sink += len(DropECN.String()) }},
		{"Drops", func() {
			for d := range Drops() {
				sink += int(d)
			}
		}},
	}
	for _, c := range cases {
		if n := testing.AllocsPerRun(100, c.f); n != 0 {
			t.Errorf("%s: %v allocations", c.name, n)
		}
	}
}
