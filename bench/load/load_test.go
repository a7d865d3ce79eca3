package load

import (
	"context"
	"errors"
	"net/netip"
	"sync/atomic"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestConfig(t *testing.T) {
	server := netip.MustParseAddrPort("192.0.2.2:3653")
	first := netip.MustParseAddr("198.18.0.1")
	for _, tt := range []struct {
		name string
		cfg  Config
		ok   bool
	}{
		{"least", Config{Server: server, First: first}, true},
		{"many", Config{Server: server, First: first, Count: 20_000, Ports: 8}, true},
		{"no broker", Config{First: first}, false},
		{"no address", Config{Server: server}, false},
		{"IPv6", Config{Server: netip.MustParseAddrPort("[2001:db8::1]:3653"), First: first}, false},
		{"less than none", Config{Server: server, First: first, Count: -1}, false},
		{"up to the last address", Config{Server: server, First: netip.MustParseAddr("255.255.255.0"), Count: 256}, true},
		{"more than there are", Config{Server: server, First: netip.MustParseAddr("255.255.255.0"), Count: 257}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, err := tt.cfg.withDefaults()
			if (err == nil) != tt.ok || tt.ok && (c.Count < 1 || c.Ports < 1) {
				t.Errorf("%+v, %v", c, err)
			}
		})
	}
}

func TestEach(t *testing.T) {
	errBroken := errors.New("broken")
	for _, tt := range []struct {
		name       string
		n, atATime int
		fails      int // the first that does, -1 for none
		err        error
	}{
		{"all", 100, 7, -1, nil},
		{"none", 0, 7, -1, nil},
		{"fewer than may run", 3, 100, -1, nil},
		{"one fails", 1000, 1, 5, errBroken},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var calls [1000]atomic.Int32
			err := Each(t.Context(), tt.n, tt.atATime, func(_ context.Context, i int) error {
				calls[i].Add(1)
				if i == tt.fails {
					return errBroken
				}
				return nil
			})
			if !errors.Is(err, tt.err) {
				t.Errorf("error %v, want %v", err, tt.err)
			}
			for i := range tt.n {
				want := int32(1)
				if tt.fails >= 0 && i > tt.fails {
					want = 0
				}
				if n := calls[i].Load(); n != want {
					t.Errorf("number %d: %d calls, want %d", i, n, want)
				}
			}
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Each(ctx, 1, 1, func(context.Context, int) error { t.Error("called"); return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}

func TestAddresses(t *testing.T) {
	c := &Crowd{cfg: Config{First: netip.MustParseAddr("198.18.0.250")}, slots: make([]slot, 10)}
	if a := c.Addr(9); a != netip.MustParseAddr("198.18.1.3") {
		t.Errorf("the tenth is %v", a)
	}
	for _, tt := range []struct {
		addr string
		want *slot
	}{
		{"198.18.0.250", &c.slots[0]}, {"198.18.1.3", &c.slots[9]}, {"198.18.0.249", nil}, {"198.18.1.4", nil}, {"0.0.0.0", nil},
	} {
		if got := c.at(number(netip.MustParseAddr(tt.addr))); got != tt.want {
			t.Errorf("%s: the wrong client", tt.addr)
		}
	}
}
