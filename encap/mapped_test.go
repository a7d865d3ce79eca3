package encap

import (
	"net/netip"
	"strings"
	"testing"
)

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// The mappings of the tests: a 6to4 site at 192.0.2.1, with a relay and without; 6rd
// domains of 2001:db8::/32 with whole and with shortened addresses; an ISATAP host.
var (
	map6to4      = must(Map6to4(addr(ours4), addr("198.51.100.9")))
	map6to4Alone = must(Map6to4(addr(ours4)))
	map6rd       = must(Map6rd(addr("10.1.2.3"), netip.MustParsePrefix("2001:db8::/32"), 0, addr("10.255.0.1")))
	map6rdShort  = must(Map6rd(addr("10.1.2.3"), netip.MustParsePrefix("2001:db8:f000::/36"), 8, addr("10.255.0.1"), addr("10.255.0.2")))
	map6rdPublic = must(Map6rd(addr(ours4), netip.MustParsePrefix("2001:db8::/32"), 0, addr("192.0.2.254")))
	mapISATAP    = must(MapISATAP(addr("10.1.2.3"), []netip.Prefix{netip.MustParsePrefix("2001:db8:5::/64")}, addr("10.0.0.1"), addr("10.0.0.2")))
)

// TestMappingHere: what is of this site, which has a prefix by 6to4 and 6rd only.
func TestMappingHere(t *testing.T) {
	for _, c := range []struct {
		name string
		m    *Mapping
		a    string
		want bool
	}{
		{"6to4", map6to4, "2002:c000:201:ffff::1", true}, {"6to4, another site", map6to4, "2002:c000:202::1", false},
		{"6rd", map6rdShort, "2001:db8:f010:2030::1", true}, {"6rd, another site", map6rdShort, "2001:db8:f010:2040::1", false},
		{"native", map6rdShort, "2001:db9::1", false}, {"ISATAP", mapISATAP, "2001:db8:5::5efe:10.1.2.3", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := c.m.Here(addr(c.a)); got != c.want || got != (c.m.Prefix().IsValid() && c.m.Prefix().Contains(addr(c.a))) {
				t.Errorf("%t, want %t; prefix %v", got, c.want, c.m.Prefix())
			}
		})
	}
}

func TestMappedOutbound(t *testing.T) {
	none := ""
	cases := []struct {
		name string
		m    *Mapping
		dst  string
		to   string
		drop Drop
	}{
		{"6to4: to the IPv4 in 2002:V4::", map6to4, "2002:cb00:7105::1", "203.0.113.5", Forward},
		{"6to4: another subnet there", map6to4, "2002:cb00:7105:1:2:3:4:5", "203.0.113.5", Forward},
		{"6to4: to native destinations by the gateway", map6to4, "2001:db8::1", "198.51.100.9", Forward},
		{"6to4: to native destinations without a gateway: error", map6to4Alone, "2001:db8::1", none, DropNoRelay},
		{"6to4: 127.0.0.1 refused", map6to4, "2002:7f00:1::1", none, DropMappedDestination},
		{"6to4: 224.0.0.1 refused", map6to4, "2002:e000:1::1", none, DropMappedDestination},
		{"6to4: broadcast refused", map6to4, "2002:ffff:ffff::1", none, DropMappedDestination},
		{"6to4: 240/4 refused", map6to4, "2002:f000:1::1", none, DropMappedDestination},
		{"6to4: 0/8 refused", map6to4, "2002::1", none, DropMappedDestination},
		{"6to4: private when our own is public: 10/8", map6to4, "2002:a00:1::1", none, DropMappedDestination},
		{"6to4: private when our own is public: 172.16/12", map6to4, "2002:ac10:1::1", none, DropMappedDestination},
		{"6to4: private when our own is public: 192.168/16", map6to4, "2002:c0a8:1::1", none, DropMappedDestination},
		{"6to4: private when our own is public: 169.254/16", map6to4, "2002:a9fe:1::1", none, DropMappedDestination},
		{"6to4: our own", map6to4, "2002:c000:201::1", none, DropMappedDestination},
		{"6to4: multicast", map6to4, "ff0e::1", none, DropMappedDestination},
		{"6to4: link-local", map6to4, "fe80::cb00:7105", none, DropMappedDestination},
		{"6to4: link-local, without a gateway", map6to4Alone, "febf::1", none, DropMappedDestination},

		{"6rd: prefix and IPv4 give the destination", map6rd, "2001:db8:a01:204::1", "10.1.2.4", Forward},
		{"6rd: masked IPv4 bits give the destination", map6rdShort, "2001:db8:f010:2040::1", "10.1.2.4", Forward},
		{"6rd: masked IPv4 bits, subnet", map6rdShort, "2001:db8:ffff:ffef::1", "10.255.255.254", Forward},
		{"6rd: outside of the domain by the relay", map6rd, "2001:db9::1", "10.255.0.1", Forward},
		{"6rd: outside of the shortened domain", map6rdShort, "2001:db8:e010:2040::1", "10.255.0.1", Forward},
		{"6rd: our own", map6rd, "2001:db8:a01:203::1", none, DropMappedDestination},
		{"6rd: 224.0.0.1 refused", map6rd, "2001:db8:e000:1::1", none, DropMappedDestination},
		{"6rd: private when our own is public", map6rdPublic, "2001:db8:a01:203::1", none, DropMappedDestination},
		{"6rd: multicast", map6rd, "ff02::1", none, DropMappedDestination},

		{"ISATAP: ::0:5efe:V4", mapISATAP, "2001:db8:5::5efe:10.9.9.9", "10.9.9.9", Forward},
		{"ISATAP: ::200:5efe:V4", mapISATAP, "2001:db8:5::200:5efe:203.0.113.5", "203.0.113.5", Forward},
		{"ISATAP: link-local", mapISATAP, "fe80::5efe:10.9.9.9", "10.9.9.9", Forward},
		{"ISATAP: elsewhere by the router", mapISATAP, "2001:db8:6::5efe:10.9.9.9", "10.0.0.1", Forward},
		{"ISATAP: native by the router", mapISATAP, "2001:db8::1", "10.0.0.1", Forward},
		{"ISATAP: router solicitation", mapISATAP, "ff02::2", "10.0.0.1", Forward},
		{"ISATAP: other multicast", mapISATAP, "ff02::1", none, DropMappedDestination},
		{"ISATAP: on the link and no ISATAP address", mapISATAP, "2001:db8:5::1", none, DropMappedDestination},
		{"ISATAP: link-local and no ISATAP address", mapISATAP, "fe80::1", none, DropMappedDestination},
		{"ISATAP: 224.0.0.1 refused", mapISATAP, "2001:db8:5::5efe:224.0.0.1", none, DropMappedDestination},
		{"ISATAP: our own", mapISATAP, "fe80::5efe:10.1.2.3", none, DropMappedDestination},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			to, d := c.m.Outbound(ip6("2001:db8:77::1", c.dst, 59, nil))
			if d != c.drop || d == Forward && netip.AddrFrom4(to) != addr(c.to) {
				t.Errorf("%v, %v; want %q, %v", netip.AddrFrom4(to), d, c.to, c.drop)
			}
		})
	}
}

func TestMappedInbound(t *testing.T) {
	const (
		own6to4 = "2002:c000:201::1"
		own6rd  = "2001:db8:a01:203::1"
	)
	cases := []struct {
		name          string
		m             *Mapping
		from, src, to string
		drop          Drop
	}{
		{"6to4: a 2002: source holds the outer source", map6to4, "203.0.113.5", "2002:cb00:7105::1", own6to4, Forward},
		{"6to4: a 2002: source holds another", map6to4, "203.0.113.6", "2002:cb00:7105::1", own6to4, DropMappedSource},
		{"6to4: a 2002: source from the relay", map6to4, "198.51.100.9", "2002:cb00:7105::1", own6to4, DropMappedSource},
		{"6to4: a native source from the relay", map6to4, "198.51.100.9", "2001:db8::1", own6to4, Forward},
		{"6to4: a native source from another", map6to4, "203.0.113.5", "2001:db8::1", own6to4, DropNotRelay},
		{"6to4: a native source, no relay", map6to4Alone, "203.0.113.5", "2001:db8::1", own6to4, DropNotRelay},
		{"6to4: link-local", map6to4, "203.0.113.5", "fe80::cb00:7105", own6to4, DropNotRelay},
		{"6to4: our own outer source", map6to4, ours4, "2002:c000:201::1", own6to4, DropOuterSource},
		{"6to4: to another site", map6to4, "203.0.113.5", "2002:cb00:7105::1", "2002:c000:202::1", DropMappedOther},
		{"6to4: to a native destination", map6to4, "203.0.113.5", "2002:cb00:7105::1", "2001:db8::9", DropMappedOther},
		{"6to4: to another site, from the relay", map6to4, "198.51.100.9", "2001:db8::1", "2002:c000:202::1", DropMappedOther},
		{"6to4: multicast", map6to4, "203.0.113.5", "2002:cb00:7105::1", "ff02::1", DropMappedOther},

		{"6rd: a source in the 6rd prefix matches", map6rd, "10.1.2.4", "2001:db8:a01:204::1", own6rd, Forward},
		{"6rd: masked bits match", map6rdShort, "10.1.2.4", "2001:db8:f010:2040::1", "2001:db8:f010:2030::9", Forward},
		{"6rd: masked bits match, the others do not", map6rdShort, "11.1.2.4", "2001:db8:f010:2040::1", "2001:db8:f010:2030::9", DropMappedSource},
		{"6rd: a source in the 6rd prefix does not match", map6rd, "10.1.2.5", "2001:db8:a01:204::1", own6rd, DropMappedSource},
		{"6rd: others from the border relay", map6rd, "10.255.0.1", "2001:db9::1", own6rd, Forward},
		{"6rd: others from the second border relay", map6rdShort, "10.255.0.2", "2001:db9::1", "2001:db8:f010:2030::9", Forward},
		{"6rd: others from somebody", map6rd, "10.1.2.4", "2001:db9::1", own6rd, DropNotRelay},
		{"6rd: in the prefix, from the relay", map6rd, "10.255.0.1", "2001:db8:a01:204::1", own6rd, DropMappedSource},
		{"6rd: to another site", map6rd, "10.1.2.4", "2001:db8:a01:204::1", "2001:db8:a01:205::1", DropMappedOther},

		{"ISATAP: the source matches", mapISATAP, "10.9.9.9", "2001:db8:5::5efe:10.9.9.9", "2001:db8:5::5efe:10.1.2.3", Forward},
		{"ISATAP: the source matches, universal", mapISATAP, "203.0.113.5", "2001:db8:5::200:5efe:203.0.113.5", "2001:db8:5::5efe:10.1.2.3", Forward},
		{"ISATAP: link-local", mapISATAP, "10.9.9.9", "fe80::5efe:10.9.9.9", "fe80::5efe:10.1.2.3", Forward},
		{"ISATAP: the source does not match", mapISATAP, "10.9.9.8", "2001:db8:5::5efe:10.9.9.9", "2001:db8:5::5efe:10.1.2.3", DropMappedSource},
		{"ISATAP: from a listed router", mapISATAP, "10.0.0.2", "2001:db8::1", "2001:db8:5::5efe:10.1.2.3", Forward},
		{"ISATAP: from somebody else", mapISATAP, "10.9.9.9", "2001:db8::1", "2001:db8:5::5efe:10.1.2.3", DropNotRelay},
		{"ISATAP: an ISATAP address of another site", mapISATAP, "10.9.9.9", "2001:db8:6::5efe:10.9.9.9", "2001:db8:5::5efe:10.1.2.3", DropNotRelay},
		{"ISATAP: on the link and no ISATAP address", mapISATAP, "10.9.9.9", "2001:db8:5::1", "2001:db8:5::5efe:10.1.2.3", DropNotRelay},
		{"ISATAP: our own outer source", mapISATAP, "10.1.2.3", "fe80::5efe:10.1.2.3", "fe80::5efe:10.1.2.3", DropOuterSource},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if d := c.m.Inbound(addr(c.from).As4(), ip6(c.src, c.to, 59, nil)); d != c.drop {
				t.Errorf("%v, want %v", d, c.drop)
			}
		})
	}
}

func TestMappedPrefix(t *testing.T) {
	for _, c := range []struct {
		name string
		m    *Mapping
		want string
	}{
		{"6to4", map6to4, "2002:c000:201::/48"}, {"6rd", map6rd, "2001:db8:a01:203::/64"},
		{"6rd, masked", map6rdShort, "2001:db8:f010:2030::/60"}, {"ISATAP", mapISATAP, "invalid Prefix"},
		// RFC 5969, Section 4 has this as its example.
		{"6rd of RFC 5969", must(Map6rd(addr("10.100.100.1"), netip.MustParsePrefix("2001:db8::/32"), 8, addr("10.0.0.1"))), "2001:db8:6464:100::/56"},
	} {
		if got := c.m.Prefix().String(); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
	for local, want := range map[string]string{"10.1.2.3": "2001:db8:5::5efe:10.1.2.3", ours4: "2001:db8:5::200:5efe:192.0.2.1"} {
		if got := ISATAPAddr(netip.MustParsePrefix("2001:db8:5::7/64"), addr(local)); got != addr(want) {
			t.Errorf("ISATAP address of %s: %v, want %s", local, got, want)
		}
	}
}

func TestMappingErrors(t *testing.T) {
	prefix := netip.MustParsePrefix
	local, relay := addr("10.1.2.3"), addr("10.255.0.1")
	err := func(_ *Mapping, err error) error { return err }
	cases := []struct {
		name string
		err  error
		want string
	}{
		{"6to4 at a private address", err(Map6to4(local)), "6to4: local address 10.1.2.3 is private; 6to4 needs a public one"},
		{"6to4 at an IPv6 address", err(Map6to4(addr(ours6))), "6to4: local address 2001:db8:1::1 is not an IPv4 unicast address"},
		{"6to4 at no address", err(Map6to4(netip.Addr{})), "6to4: local address invalid IP is not an IPv4 unicast address"},
		{"6to4 by a multicast relay", err(Map6to4(ours, addr("224.0.0.1"))), "6to4: relay 224.0.0.1 is not the IPv4 unicast address of another host"},
		{"6to4 by itself", err(Map6to4(ours, ours)), "6to4: relay 192.0.2.1 is not the IPv4 unicast address of another host"},
		{"6rd without a prefix", err(Map6rd(local, netip.Prefix{}, 0, relay)), "6rd: prefix invalid Prefix is not one of IPv6 unicast addresses"},
		{"6rd with an IPv4 prefix", err(Map6rd(local, prefix("10.0.0.0/8"), 0, relay)), "6rd: prefix 10.0.0.0/8 is not one of IPv6 unicast addresses"},
		{"6rd with a multicast prefix", err(Map6rd(local, prefix("ff00::/8"), 0, relay)), "6rd: prefix ff00::/8 is not one of IPv6 unicast addresses"},
		{"6rd with ::/0", err(Map6rd(local, prefix("::/0"), 0, relay)), "6rd: prefix ::/0 leaves no address outside"},
		{"6rd, too long", err(Map6rd(local, prefix("2001:db8::/40"), 7, relay)), "6rd: prefix 2001:db8::/40 and 25 bits of IPv4 are more than 64 bits"},
		{"6rd, mask 32", err(Map6rd(local, prefix("2001:db8::/32"), 32, relay)), "6rd: IPv4 mask length 32: want 0 to 31"},
		{"6rd, mask -1", err(Map6rd(local, prefix("2001:db8::/32"), -1, relay)), "6rd: IPv4 mask length -1: want 0 to 31"},
		{"6rd without a relay", err(Map6rd(local, prefix("2001:db8::/32"), 0)), "6rd: the border relay is missing"},
		{"ISATAP without a router", err(MapISATAP(local, nil)), "isatap: the router is missing"},
		{"ISATAP at loopback", err(MapISATAP(addr("127.0.0.1"), nil, relay)), "isatap: local address 127.0.0.1 is not an IPv4 unicast address"},
		{"ISATAP with a prefix of 48", err(MapISATAP(local, []netip.Prefix{prefix("2001:db8::/48")}, relay)), "isatap: prefix 2001:db8::/48 on the link is not an IPv6 prefix of 64 bits"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if c.err == nil || c.err.Error() != c.want {
				t.Errorf("got  %v\nwant %s", c.err, c.want)
			}
		})
	}
}

// TestHeaderTo: a header for a destination is the same, bit by bit, as one that was made
// for it.
func TestHeaderTo(t *testing.T) {
	o := Outer{Src: ours, DSCP: 184, TTL: 9}
	template, err := o.Template()
	if err != nil {
		t.Fatal(err)
	}
	inner := udp6(ours6, peer6, pattern(33), full)
	h := template
	for _, dst := range []string{peer4, "0.0.0.1", "223.255.255.255", "198.51.100.9"} {
		h = h.To(addr(dst).As4()) // from the template and from the one before
		fresh := template.To(addr(dst).As4())
		for _, made := range []Header{h, fresh} {
			p := newPacket(inner)
			made.Encap(p, 7)
			b := whole(p)
			if IPv4(b).Check() != Forward || IPv4(b).Dst() != addr(dst) || IPv4(b).Src() != ours || b[1] != 184 || b[8] != 9 {
				t.Errorf("to %s: % x", dst, b[:20])
			}
		}
		if o.Dst = addr(dst); dst != "0.0.0.1" {
			if want, err := o.Header(); err != nil || want != fresh {
				t.Errorf("to %s: %+v, %v; want %+v", dst, fresh, err, want)
			}
		}
	}
	if _, err := (Outer{Src: ours, DSCP: 3}).Template(); err == nil || !strings.HasPrefix(err.Error(), "outer header: DSCP 3") {
		t.Errorf("%v", err)
	}
}

// FuzzMapping: whoever a mapped address leads to is the one that may send from it, and
// nobody else, and no packet leads to what is no host or to ourselves.
func FuzzMapping(f *testing.F) {
	for _, dst := range []string{"2002:cb00:7105::1", "2001:db8:a01:204::1", "2001:db8:f010:2040::1", "2001:db8:5::5efe:10.9.9.9", "ff02::2", "fe80::200:5efe:1.2.3.4"} {
		a := addr(dst).As16()
		f.Add(a[:], []byte{203, 0, 113, 5})
	}
	all := []*Mapping{map6to4, map6to4Alone, map6rd, map6rdShort, map6rdPublic, mapISATAP}
	f.Fuzz(func(t *testing.T, a, from []byte) {
		if len(a) != 16 || len(from) != 4 {
			return
		}
		out, in := ip6(ours6, ours6, 59, nil), ip6(ours6, ours6, 59, nil)
		copy(out[24:], a)
		copy(in[8:], a)
		for i, m := range all {
			if own := m.Prefix(); own.IsValid() {
				dst := own.Addr().As16()
				copy(in[24:], dst[:])
			}
			to, d := m.Outbound(out)
			verdict := m.Inbound([4]byte(from), in)
			if d != Forward {
				continue
			}
			if !netip.AddrFrom4(to).IsGlobalUnicast() && !netip.AddrFrom4(to).IsLinkLocalUnicast() || to == m.local || to[0] == 0 || to[0] >= 240 {
				t.Fatalf("mapping %d: %x is sent to %v", i, a, to)
			}
			if a[0] == 0xff {
				continue // the router solicitation
			}
			if back := m.Inbound(to, in); back != Forward {
				t.Fatalf("mapping %d: %x is sent to %v, from where it is %v", i, a, to, back)
			}
			if relay := m.isRelay([4]byte(from)); verdict == Forward && [4]byte(from) != to && !relay {
				t.Fatalf("mapping %d: %x belongs to %v and is taken from %v", i, a, to, from)
			}
		}
	})
}
