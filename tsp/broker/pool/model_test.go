package pool

import (
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// line is the dumbest space: one element for each smallest block.
type line []bool // taken

func (l line) free(from, size int) bool {
	return !slices.Contains(l[from:from+size], true)
}

func (l line) set(from, size int, taken bool) {
	for i := range size {
		l[from+i] = taken
	}
}

// expect is where the next block of a size must be: the first in the smallest free
// block that is large enough; false when there is none.
func (l line) expect(size int) (int, bool) {
	for block := size; block <= len(l); block *= 2 {
		for from := 0; from < len(l); from += block {
			parent := from &^ (2*block - 1)
			larger := block < len(l) && l.free(parent, 2*block) // what is free here is larger
			if l.free(from, block) && !larger {
				return from, true
			}
		}
	}
	return 0, false
}

func (l line) taken() (n int) {
	for _, taken := range l {
		if taken {
			n++
		}
	}
	return n
}

// model is the dumbest pool, of a /56 and its first 64 addresses.
type model struct {
	networks, addresses line
	blocks, hosts       []netip.Prefix
	rand                *rand.Rand
}

var modelRoot = prefix("2001:db8:0:ff00::/56")

func newModel(seed uint64) *model {
	m := &model{networks: make(line, 256), addresses: make(line, 64), rand: rand.New(rand.NewPCG(seed, 0))}
	m.networks.set(0, 1, true)
	m.addresses.set(0, 2, true)
	return m
}

// network is a block at an index of networks.
func network(from, bits int) netip.Prefix {
	addr := modelRoot.Addr().As16()
	addr[7] = byte(from)
	return netip.PrefixFrom(netip.AddrFrom16(addr), bits)
}

// place is where in networks a block is, and how long.
func place(b netip.Prefix) (from, size int) {
	addr := b.Addr().As16()
	return int(addr[7]), 1 << (64 - b.Bits())
}

// host is the address at an index of addresses.
func host(i int) netip.Prefix {
	addr := modelRoot.Addr().As16()
	binary.BigEndian.PutUint16(addr[14:], uint16(i))
	return netip.PrefixFrom(netip.AddrFrom16(addr), 128)
}

// remove takes an element out at random.
func (m *model) remove(from *[]netip.Prefix) (netip.Prefix, bool) {
	if len(*from) == 0 {
		return netip.Prefix{}, false
	}
	i := m.rand.IntN(len(*from))
	b := (*from)[i]
	*from = slices.Delete(*from, i, i+1)
	return b, true
}

// step does one operation on both.
func (m *model) step(t *rapid.T, p *Pool) {
	switch m.rand.IntN(8) {
	case 0, 1:
		m.prefix(t, p, 57+m.rand.IntN(8))
	case 2:
		m.take(t, p, 57+m.rand.IntN(8))
	case 3, 4, 5:
		if b, ok := m.remove(&m.blocks); ok {
			from, size := place(b)
			m.networks.set(from, size, false)
			must(t, p.Free(b))
		}
	case 6:
		m.address(t, p)
	case 7:
		if b, ok := m.remove(&m.hosts); ok {
			addr := b.Addr().As16()
			m.addresses.set(int(addr[15]), 1, false)
			must(t, p.Free(b))
		}
	}
}

func (m *model) prefix(t *rapid.T, p *Pool, bits int) {
	from, ok := m.networks.expect(1 << (64 - bits))
	got, err := p.Prefix(bits)
	switch {
	case !ok && !errors.Is(err, ErrFull):
		t.Fatalf("/%d of a full pool: %v, %v", bits, got, err)
	case ok && (err != nil || got != network(from, bits)):
		t.Fatalf("/%d: %v (%v), want %v", bits, got, err, network(from, bits))
	case ok:
		m.networks.set(from, 1<<(64-bits), true)
		m.blocks = append(m.blocks, got)
	}
}

// take takes any block, free or not.
func (m *model) take(t *rapid.T, p *Pool, bits int) {
	b := network(m.rand.IntN(256), bits).Masked()
	from, size := place(b)
	err := p.Take(b)
	if m.networks.free(from, size) != (err == nil) || err != nil && !errors.Is(err, ErrTaken) {
		t.Fatalf("take %v: %v", b, err)
	}
	if err == nil {
		m.networks.set(from, size, true)
		m.blocks = append(m.blocks, b)
	}
}

func (m *model) address(t *rapid.T, p *Pool) {
	i, ok := m.addresses.expect(1)
	if !ok { // the pool has more
		return
	}
	got, err := p.Address()
	if must(t, err); got != host(i).Addr() {
		t.Fatalf("address %v, want %v", got, host(i))
	}
	m.addresses.set(i, 1, true)
	m.hosts = append(m.hosts, host(i))
}

// check compares what can be seen, and what a restart makes of it.
func (m *model) check(t *rapid.T, p *Pool) {
	want := Usage{Addresses: len(m.hosts), Prefixes: len(m.blocks), Free: uint64(256 - m.networks.taken())}
	got := p.Usage()
	want.Largest = got.Largest // compared below, by what can be had
	if got != want {
		t.Fatalf("usage %+v, want %+v", got, want)
	}
	var taken []Taken
	for _, b := range slices.Concat(m.blocks, m.hosts) {
		taken = append(taken, Taken{b, "x"})
	}
	m.rand.Shuffle(len(taken), func(i, j int) { taken[i], taken[j] = taken[j], taken[i] })
	again := mustPool(t, modelRoot, taken)
	if again.Usage() != got {
		t.Fatalf("usage after a restart %+v, was %+v", again.Usage(), got)
	}
	for bits := 57; bits <= 64; bits++ {
		from, ok := m.networks.expect(1 << (64 - bits))
		b, err := again.Prefix(bits)
		if ok != (err == nil) || ok && b != network(from, bits) || ok != (got.Largest != 0 && got.Largest <= bits) {
			t.Fatalf("/%d after a restart: %v (%v), want %v %v; usage %+v", bits, b, err, network(from, bits), ok, got)
		}
		if ok {
			must(t, again.Free(b))
		}
	}
}

func must(t *rapid.T, err error) {
	if err != nil {
		t.Fatal(err)
	}
}

func mustPool(t *rapid.T, root netip.Prefix, taken []Taken) *Pool {
	p, err := New(root, taken)
	must(t, err)
	return p
}

// TestModel: a million operations, each answered as the model says (100 runs are
// rapid's default).
func TestModel(t *testing.T) {
	const runs, steps = 100, 10_000
	done := 0
	rapid.Check(t, func(t *rapid.T) {
		m, p := newModel(rapid.Uint64().Draw(t, "seed")), mustPool(t, modelRoot, nil)
		for i := range steps {
			m.step(t, p)
			if i%500 == 0 || i < 20 {
				m.check(t, p)
			}
			done++
		}
	})
	if done < runs*steps {
		t.Errorf("only %d operations", done)
	}
}

// TestWidePool: prefixes of all lengths out of a large pool never overlap, and when all
// is given back it is whole again.
func TestWidePool(t *testing.T) {
	root := prefix("2001:d00::/24")
	rapid.Check(t, func(t *rapid.T) {
		p := mustPool(t, root, nil)
		fresh := p.Usage()
		var taken []Taken
		for _, bits := range rapid.SliceOfN(rapid.IntRange(MinPrefix, MaxPrefix), 1, 200).Draw(t, "lengths") {
			b, err := p.Prefix(bits)
			must(t, err)
			taken = append(taken, Taken{b, "x"})
		}
		must(t, disjoint(append(taken, Taken{netip.PrefixFrom(root.Addr(), 64), "the broker"})))
		for _, b := range rapid.Permutation(taken).Draw(t, "order") {
			must(t, p.Free(b.Block))
		}
		if p.Usage() != fresh {
			t.Fatalf("usage %+v, was %+v", p.Usage(), fresh)
		}
		kept := MaxPrefix - root.Bits() // nodes on the way to the first /64
		if got := len(p.networks.nodes) - first - len(p.networks.spare); got != kept {
			t.Fatalf("%d nodes are in use, want %d", got, kept)
		}
	})
}
