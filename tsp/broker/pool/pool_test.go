package pool

import (
	"errors"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"testing"
)

func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }

func mustNew(t testing.TB, root string, taken ...Taken) *Pool {
	t.Helper()
	p, err := New(prefix(root), taken)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func (p *Pool) mustPrefix(t testing.TB, bits int) netip.Prefix {
	t.Helper()
	b, err := p.Prefix(bits)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestLayout is the example of the package's documentation.
func TestLayout(t *testing.T) {
	p := mustNew(t, "2001:db8:1000::/36")
	if got := p.Server(); got != netip.MustParseAddr("2001:db8:1000::1") {
		t.Errorf("the broker is %v", got)
	}
	for _, want := range []string{"2001:db8:1000::2", "2001:db8:1000::3"} {
		if got, err := p.Address(); err != nil || got != netip.MustParseAddr(want) {
			t.Errorf("address %v (%v), want %s", got, err, want)
		}
	}
	for _, want := range []string{"2001:db8:1001::/48", "2001:db8:1000:1::/64", "2001:db8:1000:100::/56", "2001:db8:1002::/48", "2001:db8:1000:2::/64"} {
		if got := p.mustPrefix(t, prefix(want).Bits()); got != prefix(want) {
			t.Errorf("prefix %v, want %s", got, want)
		}
	}
	want := Usage{Addresses: 2, Prefixes: 5, Free: 1<<28 - 1 - 2*65536 - 2 - 256, Largest: 48}
	if got := p.Usage(); got != want {
		t.Errorf("usage %+v, want %+v", got, want)
	}
}

func TestNewRefuses(t *testing.T) {
	tests := []struct {
		name, prefix string
		taken        []Taken
		want         []string // in the error
	}{
		{"too short", "2001::/19", nil, []string{"/19", "/20 to /64"}},
		{"too long", "2001:db8::/65", nil, []string{"/65"}},
		{"IPv4", "192.0.2.0/24", nil, []string{"not an IPv6 prefix"}},
		{"mapped", "::ffff:0:0/36", nil, []string{"not an IPv6 prefix"}},
		{"host bits", "2001:db8::1/48", nil, []string{"write 2001:db8::/48"}},
		{"same prefix twice", "2001:db8::/36", []Taken{
			{prefix("2001:db8:1::/48"), "ann"}, {prefix("2001:db8:1::/48"), "bob"}}, []string{"ann", "bob", "two owners"}},
		{"prefix in prefix", "2001:db8::/36", []Taken{
			{prefix("2001:db8:1:ff::/64"), "ann"}, {prefix("2001:db8:2::/48"), "cid"}, {prefix("2001:db8:1::/48"), "bob"}}, []string{"ann", "bob", "two owners"}},
		{"far inside", "2001:db8::/36", []Taken{
			{prefix("2001:db8:1::/48"), "ann"}, {prefix("2001:db8:1:ff::1/128"), "cid"}}, []string{"ann", "cid"}},
		{"outside", "2001:db8::/36", []Taken{{prefix("2001:db9::/48"), "ann"}}, []string{"ann", "outside"}},
		{"larger than the pool", "2001:db8::/56", []Taken{{prefix("2001:db8::/48"), "ann"}}, []string{"ann", "outside"}},
		{"the broker's address", "2001:db8::/36", []Taken{{prefix("2001:db8::1/128"), "ann"}}, []string{"ann", "taken"}},
		{"the tunnels' network", "2001:db8::/36", []Taken{{prefix("2001:db8::/56"), "ann"}}, []string{"ann", "taken"}},
		{"beyond the addresses", "2001:db8::/36", []Taken{{prefix("2001:db8::1:0:2/128"), "ann"}}, []string{"ann", "taken"}},
		{"odd length", "2001:db8::/36", []Taken{{prefix("2001:db8:1::/80"), "ann"}}, []string{"ann", "neither"}},
		{"host bits of an owner", "2001:db8::/36", []Taken{{prefix("2001:db8:1::1/64"), "ann"}}, []string{"ann"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := New(prefix(tt.prefix), tt.taken)
			if err == nil {
				t.Fatal("accepted")
			}
			for _, word := range tt.want {
				if !strings.Contains(err.Error(), word) {
					t.Errorf("%q does not say %q", err, word)
				}
			}
		})
	}
}

func TestFull(t *testing.T) {
	p := mustNew(t, "2001:db8::/62")
	if _, err := p.Prefix(48); !errors.Is(err, ErrFull) {
		t.Errorf("a /48 of a /62: %v", err)
	}
	if _, err := p.Prefix(47); err == nil || errors.Is(err, ErrFull) {
		t.Errorf("a /47: %v", err)
	}
	for _, want := range []string{"2001:db8:0:1::/64", "2001:db8:0:2::/64", "2001:db8:0:3::/64"} {
		if got := p.mustPrefix(t, 64); got != prefix(want) {
			t.Errorf("prefix %v, want %s", got, want)
		}
	}
	if _, err := p.Prefix(64); !errors.Is(err, ErrFull) {
		t.Errorf("a fourth: %v", err)
	}
	if u := p.Usage(); u.Free != 0 || u.Largest != 0 || u.Prefixes != 3 {
		t.Errorf("usage %+v", u)
	}
	if u := mustNew(t, "2001:db8::/64").Usage(); u != (Usage{}) {
		t.Errorf("usage of a /64: %+v", u)
	}
}

func TestFreeRefuses(t *testing.T) {
	p := mustNew(t, "2001:db8::/36", Taken{prefix("2001:db8:7:1::2/128"), "ann"})
	p.mustPrefix(t, 56)
	for _, b := range []string{
		"2001:db8::1/128", "2001:db8::2/128", "2001:db8::/64", "2001:db8:1::/48", "2001:db8:0:100::/57",
		"2001:db8::/48", "2001:db8:7:1::/64", "2001:db8:7:1::3/128", "2001:db9::/48", "2001:db8:1::/80",
	} {
		if err := p.Free(prefix(b)); err == nil {
			t.Errorf("%s was free, and is freed", b)
		}
	}
}

// TestOddAddress: a pool that grew downwards begins elsewhere; nobody loses an address.
func TestOddAddress(t *testing.T) {
	odd := []netip.Prefix{prefix("2001:db8:1008::2/128"), prefix("2001:db8:1008::3/128")}
	p := mustNew(t, "2001:db8:1000::/36", Taken{odd[0], "ann"}, Taken{odd[1], "bob"})
	network := prefix("2001:db8:1008::/64")
	for range 2 {
		if err := p.Take(odd[1]); !errors.Is(err, ErrTaken) {
			t.Errorf("taken twice: %v", err)
		}
		if err := p.Take(network); !errors.Is(err, ErrTaken) {
			t.Errorf("their network: %v", err)
		}
		if u := p.Usage(); u.Addresses != 2 || u.Prefixes != 0 || u.Free != 1<<28-2 {
			t.Errorf("usage %+v", u)
		}
	}
	for _, b := range odd {
		if err := p.Free(b); err != nil {
			t.Error(err)
		}
	}
	if err := p.Take(network); err != nil {
		t.Errorf("when both are gone: %v", err)
	}
}

// TestManyFit: 100 000 users with a prefix, 20 000 of them with a tunnel.
func TestManyFit(t *testing.T) {
	taken := many(t)
	before := heap()
	p, err := New(prefix("2001:d00::/24"), taken)
	if err != nil {
		t.Fatal(err)
	}
	used := heap() - before
	runtime.KeepAlive(taken)
	if u := p.Usage(); u.Addresses != 20_000 || u.Prefixes != 100_000 {
		t.Errorf("usage %+v", u)
	}
	if used > 16<<20 {
		t.Errorf("%d bytes", used)
	}
}

// many makes owners; half of the prefixes are /48, half /56.
func many(t testing.TB) []Taken {
	p := mustNew(t, "2001:d00::/24")
	var taken []Taken
	for i := range 100_000 {
		taken = append(taken, Taken{p.mustPrefix(t, 48+i%2*8), "user"})
		if i%5 == 0 {
			a, err := p.Address()
			if err != nil {
				t.Fatal(err)
			}
			taken = append(taken, Taken{netip.PrefixFrom(a, 128), "user"})
		}
	}
	return taken
}

func heap() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

func BenchmarkPrefix(b *testing.B) {
	taken := many(b)
	p, err := New(prefix("2001:d00::/24"), taken)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		got, err := p.Prefix(48)
		if err != nil {
			b.Fatal(err)
		}
		if err := p.Free(got); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkNew(b *testing.B) {
	taken := many(b)
	slices.Reverse(taken)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := New(prefix("2001:d00::/24"), taken); err != nil {
			b.Fatal(err)
		}
	}
}
