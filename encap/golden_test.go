package encap

import (
	"net/netip"
	"strings"
	"testing"

	"sixin4/encap/packet"
)

var (
	ours = netip.MustParseAddr(ours4)
	peer = netip.MustParseAddr(peer4)
)

func TestGoldenEncap(t *testing.T) {
	cases := []struct {
		file  string
		outer Outer
		id    uint16
	}{
		{"out-default", Outer{}, 1},
		{"out-ecn-ce", Outer{}, 65535},
		{"out-inherit", Outer{InheritTTL: true, InheritDSCP: true, ClearDF: true}, 0x0102},
		{"out-fixed", Outer{TTL: 255, DSCP: 184}, 0x0102},
	}
	if files := goldenNames(t, "out-*"); len(files) != len(cases) {
		t.Errorf("files %v and %d cases", files, len(cases))
	}
	for _, c := range cases {
		t.Run(c.file, func(t *testing.T) {
			g := readGolden(t, c.file)
			c.outer.Src, c.outer.Dst = ours, peer
			p := newPacket(g.bytes["inner"])
			header := mustHeader(t, c.outer)
			header.Encap(p, c.id)
			equalBytes(t, "outer packet", whole(p), g.bytes["outer"])
		})
	}
}

func TestGoldenDecap(t *testing.T) {
	for _, file := range goldenNames(t, "in-*") {
		t.Run(file, func(t *testing.T) {
			g := readGolden(t, file)
			p := newPacket(g.bytes["outer"])
			src, d := Decap(p)
			if reason, ok := g.arg["drop"]; ok {
				if d.String() != reason {
					t.Fatalf("verdict %v, want %s", d, reason)
				}
				return
			}
			if d != Forward || netip.AddrFrom4(src) != peer {
				t.Fatalf("Decap = %v, %v", netip.AddrFrom4(src), d)
			}
			equalBytes(t, "inner packet", whole(p), g.bytes["inner"])
			checkGoldenSum(t, g, p)
		})
	}
}

func checkGoldenSum(t *testing.T, g golden, p *packet.Packet) {
	t.Helper()
	want := packet.SumFull
	if _, ok := g.bytes["partial"]; ok {
		want = packet.SumPartial
	}
	if p.Sum != want {
		t.Errorf("Sum = %d, want %d", p.Sum, want)
	}
	if completed, ok := g.bytes["completed"]; ok {
		CompleteSum(p)
		equalBytes(t, "completed packet", whole(p), completed)
	}
}

func TestGoldenUnreachable(t *testing.T) {
	g := readGolden(t, "unreachable")
	got := AppendUnreachable(nil, UnreachableNoRoute, netip.MustParseAddr(peer6), newPacket(g.bytes["inner"]))
	equalBytes(t, "answer", got, g.bytes["answer"])
}

// TestGoldenICMP4 has what real routers say.
func TestGoldenICMP4(t *testing.T) {
	for _, name := range goldenNames(t, "icmp4-*") {
		t.Run(name, func(t *testing.T) {
			g := readGolden(t, name)
			b := g.bytes["message"]
			e, why := ParseICMP4(b, fakeSent{})
			if why != DoubtNone || e.Kind.String() != g.arg["message"] || e.ID != 7 || e.Size != int(b[30])<<8+int(b[31]) {
				t.Fatalf("%v, %+v", why, e)
			}
			equalBytes(t, "inner packet", e.Inner, b[48:])
			answer := AppendRelayed(nil, &e, router)
			switch code, ok := e.Kind.Unreachable(); {
			case ok:
				checkAnswer(t, answer, b[48:], 1, code, 0)
			default:
				checkAnswer(t, answer, b[48:], 2, 0, 1380)
			}
		})
	}
}

// TestGoldenFilesAreUsed finds a file that no test above reads.
func TestGoldenFilesAreUsed(t *testing.T) {
	for _, name := range goldenNames(t, "*") {
		if !strings.HasPrefix(name, "in-") && !strings.HasPrefix(name, "out-") &&
			!strings.HasPrefix(name, "icmp4-") && name != "unreachable" {
			t.Errorf("%s.hex: no test reads it", name)
		}
	}
}

func mustHeader(t testing.TB, o Outer) Header {
	t.Helper()
	if !o.Src.IsValid() {
		o.Src, o.Dst = ours, peer
	}
	h, err := o.Header()
	if err != nil {
		t.Fatal(err)
	}
	return h
}
