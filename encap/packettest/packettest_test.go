package packettest

import (
	"bytes"
	"encoding/hex"
	"errors"
	"net/netip"
	"os"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"sixin4/encap/packet"
)

func batchOf(packets ...[]byte) *packet.Batch {
	b := packet.NewBatch(len(packets))
	for _, x := range packets {
		b.Next().Set(x, 0, nil)
	}
	return b
}

func contents(b *packet.Batch) (all [][]byte) {
	for i := range b.Packets {
		all = append(all, b.Packets[i].AppendTo(nil))
	}
	return all
}

func equal(a, b [][]byte) bool { return slices.EqualFunc(a, b, bytes.Equal) }

func TestQueueKeepsOrderAndBytes(t *testing.T) {
	q, b := NewQueue(), packet.NewBatch(2)
	q.Split = 3
	q.Push([]byte("one"), []byte("second"))
	if n, err := q.Write(batchOf([]byte("third"))); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	for _, want := range [][][]byte{{[]byte("one"), []byte("second")}, {[]byte("third")}} {
		if err := q.Read(b); err != nil || !equal(contents(b), want) {
			t.Fatalf("%q, %v; want %q", contents(b), err, want)
		}
		for i := range b.Packets {
			if p := &b.Packets[i]; p.Off != packet.Headroom || len(p.Head()) != 3 {
				t.Errorf("head %q at %d", p.Head(), p.Off)
			}
		}
	}
}

func TestQueueFails(t *testing.T) {
	q, bad := NewQueue(), errors.New("bad")
	q.Fail = func(b []byte) error {
		if b[0] == 'x' {
			return bad
		}
		return nil
	}
	b := batchOf([]byte("a"), []byte("x"), []byte("b"))
	if n, err := q.Write(b); n != 2 || err != bad || b.Packets[1].Err != bad || b.Packets[2].Err != nil {
		t.Errorf("%d, %v, %+v", n, err, b.Packets)
	}
	if all := q.Drain(); len(all) != 2 || string(all[1].Bytes) != "b" || len(q.Drain()) != 0 {
		t.Errorf("%v", all)
	}
}

func TestQueueClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, result := NewQueue(), make(chan error)
		go func() { result <- q.Read(packet.NewBatch(1)) }()
		synctest.Wait()
		if err := errors.Join(q.Close(), q.Close()); err != nil {
			t.Error(err)
		}
		if err := <-result; err != os.ErrClosed {
			t.Error(err)
		}
		b := batchOf([]byte("late"))
		if n, err := q.Write(b); n != 0 || err != os.ErrClosed || b.Packets[0].Err != err {
			t.Error(n, err)
		}
	})
}

// through sends packets 0, 1, ..., n-1 and returns them as they arrive, and when
// the last did.
func through(c *Cable, n int) (got []byte, took time.Duration) {
	start, b := time.Now(), packet.NewBatch(1)
	for i := range n {
		c.Write(batchOf([]byte{byte(i)}))
	}
	for range n - c.Stats().Lost + c.Stats().Duplicated {
		if c.Read(b) == nil {
			got = append(got, b.Packets[0].Head()[0])
		}
	}
	return got, time.Since(start)
}

func TestCable(t *testing.T) {
	for _, c := range []struct {
		name string
		cfg  CableConfig
		ok   func(s CableStats, sorted bool) bool
	}{
		{"good", CableConfig{}, func(s CableStats, sorted bool) bool { return s == CableStats{} && sorted }},
		{"delay", CableConfig{Delay: time.Hour}, func(s CableStats, sorted bool) bool { return s == CableStats{} && sorted }},
		{"loss", CableConfig{Loss: 0.3}, func(s CableStats, sorted bool) bool { return s.Lost > 40 && s.Lost < 80 && sorted }},
		{"duplicate", CableConfig{Duplicate: 0.3}, func(s CableStats, sorted bool) bool { return s.Duplicated > 40 && s.Duplicated < 80 && sorted }},
		{"reorder", CableConfig{Delay: 1, Reorder: 0.3}, func(s CableStats, sorted bool) bool { return s.Reordered > 40 && s.Reordered < 80 && !sorted }},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cable := NewCable(c.cfg)
				got, took := through(cable, 200)
				if s := cable.Stats(); !c.ok(s, slices.IsSorted(got)) || took != c.cfg.Delay {
					t.Errorf("%+v after %v: %d", s, took, got)
				}
				again := NewCable(c.cfg)
				if same, _ := through(again, 200); !bytes.Equal(same, got) {
					t.Errorf("the same seed, another treatment: %d", same)
				}
			})
		})
	}
}

// TestBuilders compares with bytes whose checksums another program computed.
func TestBuilders(t *testing.T) {
	a, b := netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::2")
	const addrs = "20010db800000000000000000000000120010db8000000000000000000000002"
	for _, c := range []struct {
		name string
		got  []byte
		want string
	}{
		// addresses, length, protocol and segment summed by another program
		{"UDP", UDP(netip.AddrPortFrom(a, 1), netip.AddrPortFrom(b, 2), []byte{0xff}), "6000000000091140" + addrs + "000100020009a563" + "ff"},
		{"TCP", TCP(netip.AddrPortFrom(a, 1), netip.AddrPortFrom(b, 2), 3, nil), "6000000000140640" + addrs + "0001000200000003000000005018ff00" + "55510000"},
		{"ICMPv6", ICMPv6(a, b, 128, 0, []byte{0, 1, 0, 2}), "6000000000083a40" + addrs + "8000244500010002"},
		{"outer", Outer(netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2"), 7, []byte{1}), "45000015000740004029b6b5c0000201c000020201"},
	} {
		if got := hex.EncodeToString(c.got); got != c.want {
			t.Errorf("%s:\n%s, want\n%s", c.name, got, c.want)
		}
	}
}
