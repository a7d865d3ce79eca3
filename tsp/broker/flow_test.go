package broker

import (
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"sixin4/tsp"
)

// TestFlowsForget: what many clients leave behind goes.
func TestFlowsForget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := new(deny)
		p := fuzzed(t, d).newPort(new(sink))
		for n := range 2000 {
			from := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(n / 256), byte(n)}), 40000)
			for i, text := range []string{"VERSION=2.0.2\r\n", "AUTHENTICATE ANONYMOUS\r\n", "x"} {
				p.take(t.Context(), stranger, from, tsp.Header{Word: 0xf00000f0 + uint32(i)}, []byte(text))
				p.turns.work.Wait()
			}
		}
		if len(p.sessions) != 2000 || len(p.sources) != 2000 {
			t.Errorf("%d sessions of %d sources", len(p.sessions), len(p.sources))
		}
		<-time.After(p.config.Limits.Session)
		for _, f := range p.expired(time.Now().Add(time.Nanosecond)) {
			f.close()
		}
		if len(p.sessions)+len(p.sources)+p.order.Len() != 0 || p.turns.free != p.config.Limits.Running {
			t.Errorf("%d sessions of %d sources, %d may run", len(p.sessions), len(p.sources), p.turns.free)
		}
	})
}

// TestFlowRenewed: behind accept a session is kept as long as its answer may be asked
// for again.
func TestFlowRenewed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := fuzzed(t, new(deny)).newPort(new(sink))
		from := netip.MustParseAddrPort("198.51.100.7:40000")
		say := func(n uint32, text string) {
			p.take(t.Context(), stranger, from, tsp.Header{Word: 0xf00000f0 + n}, []byte(text))
			p.turns.work.Wait()
		}
		say(0, "VERSION=2.0.2\r\n")
		other := netip.AddrPortFrom(from.Addr(), 40001)
		p.take(t.Context(), stranger, other, tsp.Header{Word: 0xf00000f0}, []byte("VERSION=2.0.2\r\n"))
		p.turns.work.Wait()
		say(1, "AUTHENTICATE ANONYMOUS\r\n")
		say(2, asking)
		<-time.After(time.Minute)
		say(3, "Content-length: 33\r\n<tunnel action=\"accept\"></tunnel>")
		if old := p.expired(time.Now().Add(-time.Second)); len(old) != 1 || old[0].from != other || p.find(from) == nil {
			t.Errorf("%d have had their time", len(old))
		}
	})
}
