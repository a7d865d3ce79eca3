package load

import (
	"encoding/binary"
	"net/netip"
	"testing"
)

func TestFloodConfig(t *testing.T) {
	good := aFlood()
	if err := good.check(); err != nil {
		t.Error(err)
	}
	for name, spoil := range map[string]func(*Flood){
		"rate":   func(f *Flood) { f.Rate = 0 },
		"inner":  func(f *Flood) { f.Inner = f.Client },
		"client": func(f *Flood) { f.Client = f.Inner },
		"to":     func(f *Flood) { f.To = netip.AddrPort{} },
		"random": func(f *Flood) { f.Random = netip.Prefix{} },
	} {
		bad := aFlood()
		spoil(&bad)
		if _, err := bad.Run(t.Context(), nil, nil); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func aFlood() Flood {
	return Flood{
		To: netip.MustParseAddrPort("192.0.2.2:3653"), Rate: 1, Client: netip.MustParseAddr("192.0.2.1"),
		Inner: netip.MustParseAddr("2001:db8::2"), Random: netip.MustParsePrefix("198.18.0.0/15"),
	}
}

// TestFloodForges looks at what is sent: a quarter each of data from anywhere, data from
// the client's address, new messages, and an old one.
func TestFloodForges(t *testing.T) {
	f := aFlood()
	const tries = 400
	var data, control, own int
	old := map[string]int{}
	for i := range int64(tries) {
		p := f.forge(i)
		if int(binary.BigEndian.Uint16(p[2:])) != len(p) || binary.BigEndian.Uint16(p[22:]) != f.To.Port() {
			t.Fatalf("datagram %d: % x", i, p[:28])
		}
		src := netip.AddrFrom4([4]byte(p[12:]))
		if src == f.Client {
			own++
		} else if !f.Random.Contains(src) {
			t.Errorf("source %v", src)
		}
		switch inner := p[28:]; inner[0] >> 4 {
		case 6:
			data++
			if netip.AddrFrom16([16]byte(inner[8:])) != f.Inner {
				t.Errorf("data of % x", inner[8:24])
			}
		case 0xf:
			control++
			old[string(p)]++
		}
	}
	most := 0
	for _, n := range old {
		most = max(most, n)
	}
	if data != tries/2 || control != tries/2 || own != tries/4 || most != tries/4 {
		t.Errorf("%d of data, %d of control, %d from the client's address, %d of one message; of %d", data, control, own, most, tries)
	}
}
