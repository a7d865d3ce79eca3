package client

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"sixin4/tsp"
)

const (
	// echoLimit bounds measuring how far brokers are.
	echoLimit = 3 * time.Second
	// After the first answer, others are waited for this many round trip times of it, and
	// at least this long: whoever takes longer is not near.
	echoRTTs  = 4
	echoLeast = 500 * time.Millisecond
)

var (
	errLoop    = errors.New("redirected in a circle")
	errNowhere = errors.New("not an address that a broker may send its clients to")
)

// choose makes targets of a broker list, the nearest first, and remembers them.
func (a *attempt) choose(ctx context.Context, from place, status *tsp.Error) ([]target, error) {
	if len(status.Brokers) == 0 {
		return nil, status
	}
	targets, err := a.usable(ctx, from, status.Brokers)
	if err != nil {
		return nil, err
	}
	if len(targets) > 1 {
		targets = a.nearest(ctx, targets)
	}
	var list []string
	for _, t := range targets {
		list = append(list, t.String())
	}
	if err := a.cfg.Memory.SetList(list); err != nil {
		a.log.Warn("the brokers are not remembered", "error", err)
	}
	return targets, nil
}

// usable are the brokers of a list that may be asked, in their order. All names are
// looked up at a time.
func (a *attempt) usable(ctx context.Context, from place, brokers []tsp.Broker) ([]target, error) {
	targets, errs := make([]target, len(brokers)), make([]error, len(brokers))
	var lookups sync.WaitGroup
	for i, b := range brokers {
		lookups.Go(func() {
			targets[i], errs[i] = a.target(ctx, from, b)
		})
	}
	lookups.Wait()
	var good []target
	for i, err := range errs {
		if err != nil {
			a.log.Info("a broker of the list is left out", "broker", brokers[i].String(), "error", err)
			continue
		}
		good = append(good, targets[i])
	}
	if good == nil {
		return nil, fmt.Errorf("none of %d brokers can be used, %s: %w", len(brokers), brokers[0], errs[0])
	}
	return good, nil
}

// target is an entry of a broker list, without the addresses that nobody may send us to.
func (a *attempt) target(ctx context.Context, from place, b tsp.Broker) (target, error) {
	t := target{Server: Server{Host: b.String()}}
	addrs, err := a.resolve(ctx, t.Host)
	if err != nil {
		return t, err
	}
	for _, addr := range addrs {
		switch {
		case !mayPoint(from.at.Addr(), addr):
			err = errNowhere
		case a.been[netip.AddrPortFrom(addr, t.port())]:
			err = errLoop
		default:
			t.addrs = append(t.addrs, addr)
		}
	}
	if t.addrs != nil {
		err = nil
	}
	return t, err
}

// mayPoint reports whether a broker may send its clients to an address. One on this very
// host may send them to itself.
func mayPoint(from, to netip.Addr) bool {
	switch {
	case to.IsLoopback():
		return from.IsLoopback()
	case to.IsUnspecified(), to.IsMulticast(), to == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return false
	}
	return true
}

// distance is how far a target is; rtt is only valid when it answered.
type distance struct {
	index    int
	answered bool
	rtt      time.Duration
}

// nearest sorts targets by the time that they take to answer an echo request; those that
// do not answer in time come last, in their order.
func (a *attempt) nearest(ctx context.Context, targets []target) []target {
	far := a.measure(ctx, targets)
	slices.SortStableFunc(far, func(x, y distance) int {
		switch {
		case x.answered && y.answered:
			return cmp.Compare(x.rtt, y.rtt)
		case x.answered:
			return -1
		case y.answered:
			return 1
		}
		return 0
	})
	sorted := make([]target, len(far))
	for i, d := range far {
		sorted[i] = targets[d.index]
		a.log.Debug("distance", "broker", sorted[i].String(), "answered", d.answered, "rtt", d.rtt)
	}
	return sorted
}

// measure asks all targets at a time.
func (a *attempt) measure(ctx context.Context, targets []target) []distance {
	ctx, cancel := context.WithTimeout(ctx, echoLimit)
	var echoes sync.WaitGroup
	defer echoes.Wait()
	defer cancel()
	far := make([]distance, len(targets))
	answers := make(chan distance, len(targets))
	for i, t := range targets {
		far[i].index = i
		echoes.Go(func() {
			rtt, err := a.echo(ctx, netip.AddrPortFrom(t.addrs[0], t.port()))
			answers <- distance{i, err == nil, rtt}
		})
	}
	var enough <-chan time.Time
	for range targets {
		select {
		case d := <-answers:
			if far[d.index] = d; d.answered && enough == nil {
				enough = time.After(max(echoRTTs*d.rtt, echoLeast))
			}
		case <-enough:
			return far
		case <-ctx.Done():
			return far
		}
	}
	return far
}

// echo measures the round trip time to a broker.
func (a *attempt) echo(ctx context.Context, to netip.AddrPort) (time.Duration, error) {
	conn, err := a.cfg.Network.Dial(ctx, "udp", to)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	return tsp.NewDatagrams(conn, tsp.DatagramConfig{}).Echo(ctx)
}
