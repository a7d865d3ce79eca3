package nstest

import (
	"errors"
	"fmt"
	"net/netip"
)

// Topology is two hosts, A and B, that reach each other over IPv4, with or
// without a router R between them.
type Topology struct {
	A, B *NS
	R    *NS // nil when A and B share a link

	LinkA, LinkB string     // the interface of A and of B: "a0" and "b0"
	AddrA, AddrB netip.Addr // their addresses
}

// The router's interfaces in Routed: LinkRA is joined to A, LinkRB to B.
const (
	LinkRA = "ra0"
	LinkRB = "rb0"
)

// Pair makes two hosts on one link: A with 192.0.2.1/24 on a0, B with
// 192.0.2.2/24 on b0.
func Pair() (*Topology, error) {
	t := &Topology{
		LinkA: "a0", AddrA: netip.MustParseAddr("192.0.2.1"),
		LinkB: "b0", AddrB: netip.MustParseAddr("192.0.2.2"),
	}
	return t.built(t.buildPair())
}

// Routed makes two hosts with an IPv4 router between them: A with 192.0.2.1/24
// on a0, B with 198.51.100.2/24 on b0, and R, which is 192.0.2.254 on ra0 and
// 198.51.100.254 on rb0 and the default gateway of both.
func Routed() (*Topology, error) {
	t := &Topology{
		LinkA: "a0", AddrA: netip.MustParseAddr("192.0.2.1"),
		LinkB: "b0", AddrB: netip.MustParseAddr("198.51.100.2"),
	}
	return t.built(t.buildRouted())
}

// Close closes all namespaces of the topology. It is idempotent.
func (t *Topology) Close() error {
	var errs []error
	for _, ns := range []*NS{t.A, t.B, t.R} {
		if ns != nil {
			errs = append(errs, ns.Close())
		}
	}
	return errors.Join(errs...)
}

func (t *Topology) built(err error) (*Topology, error) {
	if err != nil {
		return nil, errors.Join(fmt.Errorf("build topology: %w", err), t.Close())
	}
	return t, nil
}

func (t *Topology) buildPair() error {
	return inOrder(
		func() error { return open(&t.A, &t.B) },
		func() error { return Link(t.A, t.LinkA, t.B, t.LinkB) },
		func() error { return t.A.AddAddr(t.LinkA, t.AddrA.String()+"/24") },
		func() error { return t.B.AddAddr(t.LinkB, t.AddrB.String()+"/24") },
	)
}

func (t *Topology) buildRouted() error {
	return inOrder(
		func() error { return open(&t.A, &t.B, &t.R) },
		func() error { return Link(t.A, t.LinkA, t.R, LinkRA) },
		func() error { return Link(t.R, LinkRB, t.B, t.LinkB) },
		func() error { return t.A.AddAddr(t.LinkA, t.AddrA.String()+"/24") },
		func() error { return t.B.AddAddr(t.LinkB, t.AddrB.String()+"/24") },
		func() error { return t.R.AddAddr(LinkRA, "192.0.2.254/24") },
		func() error { return t.R.AddAddr(LinkRB, "198.51.100.254/24") },
		func() error { return t.A.AddRoute("0.0.0.0/0", "192.0.2.254") },
		func() error { return t.B.AddRoute("0.0.0.0/0", "198.51.100.254") },
		func() error { return t.R.Sysctl("net/ipv4/ip_forward", "1") },
	)
}

// open makes one namespace for each place.
func open(places ...**NS) error {
	for _, place := range places {
		ns, err := New()
		if err != nil {
			return err
		}
		*place = ns
	}
	return nil
}

// inOrder runs the steps up to the first that fails.
func inOrder(steps ...func() error) error {
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}
