package netstack

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"
)

// dnsPort is where resolvers are asked (RFC 1035, Section 4.2).
const dnsPort = 53

// lookupTime is how long one resolver is waited for while there is another one.
const lookupTime = 5 * time.Second

// Lookup asks resolvers through the tunnel for addresses of a name: IPv6 (AAAA, RFC 3596)
// where network is ip6, IPv4 where it is ip4. The first of servers that has an answer, also
// that there is no such name, is believed. The name is taken as a whole; nothing is appended
// to it. An address literal is its own answer. A name without such an address is a
// net.DNSError with IsNotFound.
func (d *Device) Lookup(ctx context.Context, servers []netip.Addr, network, name string) ([]netip.Addr, error) {
	if a, err := netip.ParseAddr(name); err == nil {
		return []netip.Addr{a}, nil
	}
	if len(servers) == 0 {
		return nil, fmt.Errorf("netstack: look up %s: no resolver", name)
	}
	var errs []error
	for _, s := range servers {
		all, err := d.ask(ctx, s, network, name)
		var dns *net.DNSError
		if err == nil || errors.As(err, &dns) && dns.IsNotFound {
			return all, err
		}
		errs = append(errs, err)
	}
	return nil, errors.Join(errs...)
}

// ask asks one resolver, by UDP, and by TCP where the answer is too long for that.
func (d *Device) ask(ctx context.Context, server netip.Addr, network, name string) ([]netip.Addr, error) {
	ctx, cancel := context.WithTimeout(ctx, lookupTime)
	defer cancel()
	r := net.Resolver{
		PreferGo: true,
		Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return d.DialContext(ctx, network, netip.AddrPortFrom(server, dnsPort).String())
		},
	}
	return r.LookupNetIP(ctx, network, strings.TrimSuffix(name, ".")+".")
}
