package netstack

import (
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
)

// serveDNS answers from a map; a name that is not there does not exist. It returns
// the questions it got.
func serveDNS(t *testing.T, d *Device, zone map[string][]netip.Addr) (asked func() []string) {
	t.Helper()
	c, err := d.ListenPacket("udp", ":53")
	if err != nil {
		t.Fatal(err)
	}
	var (
		wg  sync.WaitGroup
		mu  sync.Mutex
		all []string
	)
	wg.Go(func() {
		buf := make([]byte, 1500)
		for {
			n, from, err := c.ReadFrom(buf)
			if err != nil {
				return
			}
			var m dnsmessage.Message
			if m.Unpack(buf[:n]) != nil || len(m.Questions) != 1 {
				continue
			}
			q := m.Questions[0]
			mu.Lock()
			all = append(all, q.Type.String()+" "+q.Name.String())
			mu.Unlock()
			reply, err := answer(m, zone).Pack()
			if err == nil {
				_, _ = c.WriteTo(reply, from)
			}
		}
	})
	t.Cleanup(func() { _ = c.Close(); wg.Wait() })
	return func() []string { mu.Lock(); defer mu.Unlock(); return slices.Clone(all) }
}

func answer(m dnsmessage.Message, zone map[string][]netip.Addr) *dnsmessage.Message {
	q := m.Questions[0]
	r := &dnsmessage.Message{
		Header:    dnsmessage.Header{ID: m.ID, Response: true, RecursionAvailable: true},
		Questions: m.Questions,
	}
	addrs, known := zone[q.Name.String()]
	if !known {
		r.RCode = dnsmessage.RCodeNameError
	}
	for _, a := range addrs {
		one := dnsmessage.Resource{Header: dnsmessage.ResourceHeader{Name: q.Name, Class: dnsmessage.ClassINET, TTL: 60}}
		switch {
		case a.Is6() && q.Type == dnsmessage.TypeAAAA:
			one.Body = &dnsmessage.AAAAResource{AAAA: a.As16()}
		case a.Is4() && q.Type == dnsmessage.TypeA:
			one.Body = &dnsmessage.AResource{A: a.As4()}
		default:
			continue
		}
		r.Answers = append(r.Answers, one)
	}
	return r
}

func TestLookup(t *testing.T) {
	p := newPair(t, Config{}, nil, nil)
	web, old := netip.MustParseAddr("2001:db8:c::80"), netip.MustParseAddr("192.0.2.80")
	asked := serveDNS(t, p.b, map[string][]netip.Addr{"www.example.net.": {web}, "v4.example.net.": {old}})
	nobody := netip.MustParseAddr("2001:db8:b::99") // closed port: refused at once, for p.a itself has it
	if err := p.a.SetAddresses([]netip.Addr{addrA, nobody}); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, host string
		servers    []netip.Addr
		want       []netip.Addr
		notFound   bool
	}{
		{"found", "www.example.net", []netip.Addr{addrB}, []netip.Addr{web}, false},
		{"with the dot", "www.example.net.", []netip.Addr{addrB}, []netip.Addr{web}, false},
		{"second server", "www.example.net", []netip.Addr{nobody, addrB}, []netip.Addr{web}, false},
		{"no such name", "nothing.example.net", []netip.Addr{addrB}, nil, true},
		{"IPv4 only", "v4.example.net", []netip.Addr{addrB}, nil, true},
		{"literal", "2001:db8::7", nil, []netip.Addr{netip.MustParseAddr("2001:db8::7")}, false},
	} {
		got, err := p.a.Lookup(ctx(t), tt.servers, "ip6", tt.host)
		var dns *net.DNSError
		if notFound := errors.As(err, &dns) && dns.IsNotFound; notFound != tt.notFound || !slices.Equal(got, tt.want) {
			t.Errorf("%s: %v, %v", tt.name, got, err)
		}
	}
	for _, q := range asked() {
		if !strings.HasPrefix(q, "TypeAAAA ") || strings.Count(q, ".") != 3 {
			t.Errorf("asked for %s", q)
		}
	}
	if got, err := p.a.Lookup(ctx(t), []netip.Addr{addrB}, "ip4", "v4.example.net"); err != nil || !slices.Equal(got, []netip.Addr{old}) {
		t.Errorf("IPv4: %v, %v", got, err)
	}
	if _, err := p.a.Lookup(ctx(t), nil, "ip6", "www.example.net"); err == nil {
		t.Error("an answer without a resolver")
	}
	if _, err := p.a.Lookup(ctx(t), []netip.Addr{nobody}, "ip6", "www.example.net"); err == nil {
		t.Error("an answer from nobody")
	}
}
