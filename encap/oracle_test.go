package encap

import (
	"encoding/binary"
	"net/netip"
	"slices"

	"sixin4/encap/packet"
)

// The oracle says what Decap has to do, written a second time: slowly, by lists
// and arithmetic modulo 65535, with nothing of the code under test.

// oracleSum is the ones' complement sum of b: its value modulo 65535, where only
// a string of zero bytes gives 0.
func oracleSum(b []byte) uint16 {
	var value uint64
	for i, x := range b {
		if i%2 == 0 {
			value += uint64(x) * 256
		} else {
			value += uint64(x)
		}
	}
	if value != 0 && value%65535 == 0 {
		return 65535
	}
	return uint16(value % 65535)
}

func oraclePseudo(src, dst []byte, proto byte, length int) []byte {
	b := append(slices.Clone(src), dst...)
	b = binary.BigEndian.AppendUint32(b, uint32(length))
	return append(b, 0, 0, 0, proto)
}

var (
	notUnicast4 = prefixes("0.0.0.0/8", "127.0.0.0/8", "224.0.0.0/4", "240.0.0.0/4")
	private4s   = prefixes("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16")
	badSources  = []struct {
		prefix netip.Prefix
		drop   Drop
	}{
		{netip.MustParsePrefix("::1/128"), DropInnerSourceLoopback},
		{netip.MustParsePrefix("::/128"), DropInnerSourceUnspecified},
		{netip.MustParsePrefix("::/96"), DropInnerSourceCompatible},
		{netip.MustParsePrefix("::ffff:0:0/96"), DropInnerSourceMapped},
		{netip.MustParsePrefix("ff00::/8"), DropInnerSourceMulticast},
		{netip.MustParsePrefix("fec0::/10"), DropInnerSourceSiteLocal},
	}
)

func prefixes(list ...string) (out []netip.Prefix) {
	for _, s := range list {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

func within(list []netip.Prefix, a netip.Addr) bool {
	return slices.ContainsFunc(list, func(p netip.Prefix) bool { return p.Contains(a) })
}

// contains16 is Prefix.Contains for addresses that netip takes for IPv4.
func contains16(p netip.Prefix, a [16]byte) bool {
	base := p.Addr().As16()
	for i := range p.Bits() {
		if (a[i/8]^base[i/8])>>(7-i%8)&1 != 0 {
			return false
		}
	}
	return true
}

type oracleResult struct {
	src   [4]byte
	drop  Drop
	inner []byte
	sum   packet.Sum
}

func oracleDecap(b []byte) (r oracleResult) {
	header, ok := 0, false
	if header, r.drop, ok = oracleOuter(b); !ok {
		return r
	}
	total := int(b[2])<<8 + int(b[3])
	r.src = [4]byte{b[12], b[13], b[14], b[15]}
	switch {
	case b[6]&0x3f != 0 || b[7] != 0:
		r.drop = DropOuterFragment
		return r
	case b[9] != 41:
		r.drop = DropOuterProtocol
		return r
	case within(notUnicast4, netip.AddrFrom4(r.src)):
		r.drop = DropOuterSource
		return r
	}
	inner := slices.Clone(b[header:total])
	if len(inner) < 40 {
		r.drop = DropInnerShort
		return r
	}
	if inner[0]/16 != 6 {
		r.drop = DropInnerVersion
		return r
	}
	length := int(inner[4])<<8 + int(inner[5])
	if length > len(inner)-40 {
		r.drop = DropInnerLength
		return r
	}
	inner = inner[:40+length]
	if r.drop = oracleECN(b[1]%4, inner); r.drop != Forward {
		return r
	}
	if r.drop = oracleSource(inner); r.drop != Forward {
		return r
	}
	r.inner, r.sum = inner, oraclePartial(inner)
	return r
}

func oracleOuter(b []byte) (header int, d Drop, ok bool) {
	if len(b) < 20 {
		return 0, DropOuterShort, false
	}
	if b[0]/16 != 4 {
		return 0, DropOuterVersion, false
	}
	header = int(b[0]%16) * 4
	total := int(b[2])<<8 + int(b[3])
	if header < 20 || total < header || total > len(b) {
		return 0, DropOuterLength, false
	}
	if header == 20 && oracleSum(b[:header]) != 65535 {
		return 0, DropOuterChecksum, false
	}
	return header, Forward, true
}

// oracleECN is Figure 4 of RFC 6040 as text.
func oracleECN(outer byte, inner []byte) Drop {
	table := map[string]string{
		"not not": "not", "not ect0": "not", "not ect1": "not", "not ce": "drop",
		"ect0 not": "ect0", "ect0 ect0": "ect0", "ect0 ect1": "ect1", "ect0 ce": "ce",
		"ect1 not": "ect1", "ect1 ect0": "ect1", "ect1 ect1": "ect1", "ect1 ce": "ce",
		"ce not": "ce", "ce ect0": "ce", "ce ect1": "ce", "ce ce": "ce",
	}
	names := []string{"not", "ect1", "ect0", "ce"}
	in := inner[1] / 16 % 4
	out := slices.Index(names, table[names[in]+" "+names[outer]])
	if out < 0 {
		return DropECN
	}
	inner[1] = inner[1] - in*16 + byte(out)*16
	return Forward
}

func oracleSource(inner []byte) Drop {
	src := [16]byte(inner[8:24])
	for _, bad := range badSources {
		if contains16(bad.prefix, src) {
			if bad.drop == DropInnerSourceUnspecified && oracleDAD(inner) {
				return Forward
			}
			return bad.drop
		}
	}
	if src[0] == 0x20 && src[1] == 0x02 {
		v4 := netip.AddrFrom4([4]byte(src[2:6]))
		if within(notUnicast4, v4) || within(private4s, v4) {
			return DropInnerSource6to4
		}
	}
	return Forward
}

func oracleDAD(inner []byte) bool {
	if inner[6] != 58 || inner[7] != 255 || len(inner) < 64 || inner[40] != 135 || inner[41] != 0 {
		return false
	}
	target := netip.AddrFrom16([16]byte(inner[48:64]))
	node := netip.MustParseAddr("ff02::1:ff00:0").As16()
	copy(node[13:], inner[61:64])
	return !target.IsMulticast() && node == [16]byte(inner[24:40])
}

// oracleUpper follows the extension headers by recursion.
func oracleUpper(next byte, rest, dst []byte, left int) (proto byte, seg, final []byte, ok bool) {
	if next != 0 && next != 43 && next != 60 {
		return next, rest, dst, next != 44
	}
	if left == 0 || len(rest) < 8 {
		return 0, nil, nil, false
	}
	if next == 43 && rest[3] != 0 {
		if rest[2] != 2 && rest[2] != 4 || rest[1] < 2 || len(rest) < 24 {
			return 0, nil, nil, false
		}
		dst = rest[8:24]
	}
	size := 8 * (int(rest[1]) + 1)
	if size > len(rest) {
		return 0, nil, nil, false
	}
	return oracleUpper(rest[0], rest[size:], dst, left-1)
}

func oraclePartial(inner []byte) packet.Sum {
	proto, seg, dst, ok := oracleUpper(inner[6], inner[40:], inner[24:40], 8)
	var field []byte
	switch {
	case ok && proto == 6 && len(seg) >= 20 && seg[12]/16 >= 5 && int(seg[12]/16)*4 <= len(seg):
		field = seg[16:18]
	case ok && proto == 17 && len(seg) >= 8 && int(seg[4])<<8+int(seg[5]) == len(seg):
		field = seg[6:8]
	default:
		return packet.SumFull
	}
	if binary.BigEndian.Uint16(field) == oracleSum(oraclePseudo(inner[8:24], dst, proto, len(seg))) {
		return packet.SumPartial
	}
	return packet.SumFull
}
