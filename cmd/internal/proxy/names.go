package proxy

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/netip"
	"time"

	"github.com/things-go/go-socks5/statute"
)

// Limits of the names of one association, which are looked up beside the datagrams to
// others.
const (
	maxLookups = 16          // at a time
	maxWaiting = 4           // datagrams for one name
	failedTime = time.Second // before a name that was not found is looked up again
)

// name is a destination of datagrams that is being looked up, or was.
type name struct {
	addr    netip.Addr // once it is known
	err     error      // why it is not
	failed  time.Time  // when err came
	waiting []waiting  // while neither is there
}

// waiting is a datagram for a name whose address is not known yet.
type waiting struct {
	port uint16
	data []byte
}

// settle takes the result of resolve.
func (n *name) settle(all []netip.Addr, err error) {
	if err != nil {
		n.err, n.failed = err, time.Now()
		return
	}
	n.addr = all[0]
}

// isOver reports whether a failure is old enough to be forgotten.
func (n *name) isOver() bool { return n.err != nil && time.Since(n.failed) >= failedTime }

// send sends a datagram of the client, or keeps it until its name is looked up. Those to
// one name stay in order.
func (a *association) send(ctx context.Context, d *statute.Datagram) error {
	to, err := a.target(ctx, d)
	if err == nil && to.IsValid() {
		a.write(to, d.Data)
	}
	return err
}

// write sends to a target. Datagrams may be lost.
func (a *association) write(to netip.AddrPort, data []byte) {
	_, _ = a.outside(to).WriteTo(data, net.UDPAddrFromAddrPort(to))
}

// outside is the socket that a destination is reached by.
func (a *association) outside(to netip.AddrPort) net.PacketConn {
	if to.Addr().Is4() {
		return a.direct
	}
	return a.far
}

// target is where a datagram goes; answers may come from there then. It is not valid, and
// nothing failed, while the datagram waits for it.
func (a *association) target(ctx context.Context, d *statute.Datagram) (to netip.AddrPort, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	n := a.names[hostOf(&d.DstAddr)]
	if n == nil || n.isOver() {
		if n, err = a.begin(ctx, &d.DstAddr); err != nil {
			return to, err
		}
	}
	port := uint16(d.DstAddr.Port)
	switch {
	case n.err != nil:
		return to, n.err
	case n.addr.IsValid():
		to = netip.AddrPortFrom(n.addr, port)
		return to, a.expect(to)
	case len(n.waiting) == maxWaiting:
		return to, errors.New("too many datagrams wait for this name")
	}
	n.waiting = append(n.waiting, waiting{port, bytes.Clone(d.Data)})
	return to, nil
}

// begin finds the address of a literal, and has that of a name looked up. mu is held.
func (a *association) begin(ctx context.Context, d *statute.AddrSpec) (*name, error) {
	host, n := hostOf(d), new(name)
	if len(a.names) >= maxTargets {
		a.forget()
	}
	switch {
	case len(a.names) >= maxTargets:
		return nil, errTargets
	case d.FQDN == "":
		n.settle(a.s.resolve(ctx, host)) // waits for nothing
	case a.lookups == maxLookups:
		return nil, errors.New("too many names are being looked up")
	default:
		a.lookups++
		a.running.Go(func() { a.lookUp(ctx, host, n) })
	}
	a.names[host] = n
	return n, nil
}

// forget makes room for other names.
func (a *association) forget() {
	for host, n := range a.names {
		if n.isOver() {
			delete(a.names, host)
		}
	}
}

// lookUp looks a name up, and sends what has waited for it before anything else goes there.
func (a *association) lookUp(ctx context.Context, host string, n *name) {
	all, err := a.s.resolve(ctx, host)
	if err != nil {
		a.s.log.Debug("socks datagram", "to", host, "error", err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.lookups--
	n.settle(all, err)
	for _, w := range n.waiting {
		to := netip.AddrPortFrom(n.addr, w.port)
		if n.err == nil && a.expect(to) == nil {
			a.write(to, w.data)
		}
	}
	n.waiting = nil
}

var errTargets = errors.New("too many destinations")

// expect notes that answers may come from a target. mu is held.
func (a *association) expect(to netip.AddrPort) error {
	if !a.targets[to] && len(a.targets) == maxTargets {
		return errTargets
	}
	a.targets[to] = true
	return nil
}
