package pathmtu

import (
	"math/rand/v2"
	"sync"
	"testing"

	"sixin4/encap"
)

const (
	second = int64(1e9)
	minute = 60 * second
)

// TestFigures has the row of figures of the table of ICMPv4 errors, on a link of 1500:
// what the packets over the tunnel's MTU are told, and how long outer packets may be.
func TestFigures(t *testing.T) {
	cases := []struct {
		name    string
		mtu     encap.WireMTU
		quoted  int
		verdict Verdict
		wire    encap.WireMTU
		tun     encap.TunMTU
	}{
		{"fragmentation needed, 1400", 1400, 1500, Lowered, 1400, 1380},
		{"1499", 1499, 1500, Lowered, 1499, 1479},
		{"1300", 1300, 1500, Lowered, 1300, 1280},
		{"1299: outer fragments of that size", 1299, 1500, Lowered, 1299, 1280},
		{"1200: outer fragments of that size", 1200, 1500, Lowered, 1200, 1280},
		{"576", 576, 1500, Lowered, 576, 1280},
		{"575: never lower than 576 for real links", 575, 1500, Lowered, 576, 1280},
		{"400: never lower than 576 for real links", 400, 1500, Lowered, 576, 1280},
		{"296", 296, 1500, Lowered, 576, 1280},
		{"295", 295, 1500, Implausible, 1500, 1480},
		{"forged: MTU 68", 68, 1500, Implausible, 1500, 1480},
		{"forged: MTU 1", 1, 1500, Implausible, 1500, 1480},
		{"0 (old routers): the plateau below", 0, 1500, Lowered, 1492, 1472},
		{"0, about a packet of 1492", 0, 1492, Lowered, 1006, 1280},
		{"0, about a packet of 576", 0, 576, Lowered, 576, 1280},
		{"0, about a packet of 200", 0, 200, Implausible, 1500, 1480},
		{"forged: MTU larger than current", 1501, 9000, NotLower, 1500, 1480},
		{"forged: MTU larger than the packet", 1400, 1400, NotSmaller, 1500, 1480},
		{"forged: 65535", 65535, 1500, NotSmaller, 1500, 1480},
		{"what the link has", 1500, 9000, Renewed, 1500, 1480},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			var s State
			now := 5 * minute
			if got := s.Learn(now, c.mtu, c.quoted, 1500); got != c.verdict || got.Ignored() != (c.verdict != Lowered && c.verdict != Renewed) {
				t.Errorf("%v, want %v", got, c.verdict)
			}
			if got := s.Get(now, 1500); got != c.wire || got.Tun() != c.tun {
				t.Errorf("%d outside and %d inside, want %d and %d", got, got.Tun(), c.wire, c.tun)
			}
			if _, ok := s.Learnt(now); ok == c.verdict.Ignored() {
				t.Errorf("learnt: %v", ok)
			}
		})
	}
}

// TestOnlyLowers: a second message lowers, renews or changes nothing.
func TestOnlyLowers(t *testing.T) {
	var s State
	for i, c := range []struct {
		mtu     encap.WireMTU
		verdict Verdict
		want    encap.WireMTU
	}{
		{1400, Lowered, 1400}, {1450, NotLower, 1400}, {1400, Renewed, 1400}, {1300, Lowered, 1300},
		{1400, NotLower, 1300}, {68, Implausible, 1300}, {300, Lowered, 576}, {576, Renewed, 576}, {577, NotLower, 576},
	} {
		if got := s.Learn(int64(i), c.mtu, 1500, 1500); got != c.verdict || s.Get(int64(i), 1500) != c.want {
			t.Errorf("message %d, %d: %v and %d, want %v and %d", i, c.mtu, got, s.Get(int64(i), 1500), c.verdict, c.want)
		}
	}
}

// TestAges: what was learnt holds for 10 minutes from the last message, and then the link
// counts again.
func TestAges(t *testing.T) {
	var s State
	if s.Get(0, 1500) != 1500 {
		t.Error("something is known from the beginning")
	}
	s.Learn(0, 1400, 1500, 1500)
	for _, c := range []struct {
		now  int64
		want encap.WireMTU
	}{{0, 1400}, {9 * minute, 1400}, {10*minute - second, 1400}, {10*minute + second, 1500}, {600 * minute, 1500}} {
		if got := s.Get(c.now, 1500); got != c.want {
			t.Errorf("after %d s: %d, want %d", c.now/second, got, c.want)
		}
	}
	if v := s.Learn(11*minute, 1450, 1500, 1500); v != Lowered || s.Get(11*minute, 1500) != 1450 {
		t.Errorf("after it has aged a higher one is %v", v)
	}
	if v := s.Learn(20*minute, 1450, 1500, 1500); v != Renewed || s.Get(29*minute, 1500) != 1450 || s.Get(31*minute, 1500) != 1500 {
		t.Errorf("%v does not hold for 10 minutes more", v)
	}
	s.Learn(40*minute, 1300, 1500, 1500)
	if s.Forget(); s.Get(40*minute, 1500) != 1500 {
		t.Error("not forgotten")
	}
}

// TestLink: the link's own MTU and the limit of probing count too.
func TestLink(t *testing.T) {
	var s State
	s.Learn(0, 1400, 1500, 1500)
	if got := s.Get(0, 1280); got != 1280 {
		t.Errorf("a link of 1280: %d", got)
	}
	if v := s.Learn(0, 1300, 1500, 1280); v != NotLower {
		t.Errorf("1300 on a link of 1280: %v", v)
	}
	if got := s.Get(0, 552); got != 552 {
		t.Errorf("a link of 552: %d", got)
	}
	s.Limit(1350)
	if got := s.Get(0, 1500); got != 1350 {
		t.Errorf("limit 1350: %d", got)
	}
	if got := s.Get(20*minute, 1500); got != 1350 {
		t.Errorf("the limit has aged: %d", got)
	}
	s.Limit(1450)
	if got := s.Get(0, 1500); got != 1400 {
		t.Errorf("limit 1450: %d", got)
	}
	if s.Limit(0); s.Get(20*minute, 1500) != 1500 {
		t.Error("the limit is still there")
	}
}

// TestNothingGoesUnder: whatever comes, in whatever order, no tunnel has less than 1280
// bytes, no outer packet less than 576, and no message raises anything.
func TestNothingGoesUnder(t *testing.T) {
	rnd := rand.New(rand.NewPCG(11, 91))
	for range 200 {
		var s State
		link := encap.WireMTU(576 + rnd.IntN(9000))
		now := int64(rnd.Uint64N(1 << 60))
		for range 50 {
			now += rnd.Int64N(minute)
			before := s.Get(now, link)
			verdict := s.Learn(now, encap.WireMTU(rnd.IntN(1<<rnd.IntN(17))), rnd.IntN(1<<16), link)
			after := s.Get(now, link)
			if after < 576 || after > before || after.Tun() < 1280 || (after < before) != (verdict == Lowered) {
				t.Fatalf("link %d: %d became %d, %v", link, before, after, verdict)
			}
		}
	}
}

func TestConcurrent(t *testing.T) {
	var s State
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			for mtu := encap.WireMTU(1499); mtu >= 600; mtu-- {
				s.Learn(second, mtu+encap.WireMTU(i), 1600, 1500)
				if got := s.Get(second, 1500); got > mtu+encap.WireMTU(i) {
					t.Errorf("%d after %d was learnt", got, mtu)
				}
			}
		})
	}
	wg.Wait()
	if got := s.Get(second, 1500); got != 600 {
		t.Errorf("%d, want the least, 600", got)
	}
}

func TestVerdictNames(t *testing.T) {
	seen := map[string]bool{}
	for v := range Verdict(NumVerdicts) {
		seen[v.String()] = true
	}
	if len(seen) != NumVerdicts || Verdict(NumVerdicts).String() != "unknown" {
		t.Errorf("%v", seen)
	}
}

func FuzzLearn(f *testing.F) {
	f.Add(int64(5), uint16(1400), uint16(1500), uint16(1500), int64(1e12))
	f.Fuzz(func(t *testing.T, now int64, mtu, quoted, link uint16, later int64) {
		now, later = now&(1<<60-1), later&(1<<60-1)
		wire := max(encap.WireMTU(link), MinMTU)
		var s State
		v := s.Learn(now, encap.WireMTU(mtu), int(quoted), wire)
		got := s.Get(now, wire)
		if got < MinMTU || got > wire || v.Ignored() && got != wire {
			t.Fatalf("%v, %d", v, got)
		}
		if after := s.Get(now+later, wire); later > Lifetime && after != wire || later < Lifetime-1<<20 && after != got {
			t.Fatalf("%d, after %d ns %d", got, later, after)
		}
	})
}
