package daemon

import (
	"errors"
	"maps"
	"net/netip"
	"slices"

	"sixin4/tun/ifcfg"
)

// worn is what an interface has by our doing, each with its undo.
type worn struct{ addresses, routes map[netip.Prefix]ifcfg.Undo }

// routeAdder is what adds the routes of a shape.
func (t *tunnel) routeAdder(s shape) func(netip.Prefix) (ifcfg.Undo, error) {
	if !s.neighbour.IsValid() {
		return t.iface.AddRoute
	}
	return func(p netip.Prefix) (ifcfg.Undo, error) { return t.iface.AddRouteVia(p, s.neighbour) }
}

// missing puts on those of want that have does not hold, and returns them. Their
// undos are on fresh too, for the case that the whole change fails.
func (w *worn) missing(have map[netip.Prefix]ifcfg.Undo, want []netip.Prefix,
	add func(netip.Prefix) (ifcfg.Undo, error), fresh *ifcfg.Stack) (map[netip.Prefix]ifcfg.Undo, error) {
	put := make(map[netip.Prefix]ifcfg.Undo)
	for _, p := range want {
		if _, ok := have[p]; ok {
			continue
		}
		undo, err := add(p)
		if err := fresh.Keep(undo, err); err != nil {
			return nil, err
		}
		put[p] = undo
	}
	return put, nil
}

// add notes what was put on.
func (w *worn) add(put worn) {
	if w.addresses == nil {
		w.addresses, w.routes = make(map[netip.Prefix]ifcfg.Undo), make(map[netip.Prefix]ifcfg.Undo)
	}
	maps.Copy(w.addresses, put.addresses)
	maps.Copy(w.routes, put.routes)
}

// keepOnly takes off what s does not have, routes first.
func (w *worn) keepOnly(s shape) error {
	return errors.Join(takeOff(w.routes, slices.Concat(s.routes, s.spare)), takeOff(w.addresses, s.addresses))
}

// takeOff takes everything off.
func (w *worn) takeOff() error { return w.keepOnly(shape{}) }

func takeOff(have map[netip.Prefix]ifcfg.Undo, but []netip.Prefix) error {
	var errs []error
	for p, undo := range have {
		if slices.Contains(but, p) {
			continue
		}
		if err := undo(); err != nil {
			errs = append(errs, err)
			continue
		}
		delete(have, p)
	}
	return errors.Join(errs...)
}
