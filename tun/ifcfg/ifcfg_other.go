//go:build !linux

package ifcfg

import (
	"context"
	"errors"
	"net/netip"
)

func byName(string) (*Interface, error) { return nil, errors.ErrUnsupported }
func exists(string) (bool, error)       { return false, errors.ErrUnsupported }

func (i *Interface) setMTU(int) (Undo, error)              { return nil, errors.ErrUnsupported }
func (i *Interface) up() (Undo, error)                     { return nil, errors.ErrUnsupported }
func (i *Interface) addAddress(netip.Prefix) (Undo, error) { return nil, errors.ErrUnsupported }
func (i *Interface) addRoute(netip.Prefix, netip.Addr) (Undo, error) {
	return nil, errors.ErrUnsupported
}
func (i *Interface) noAutoLinkLocal() (Undo, error)       { return nil, errors.ErrUnsupported }
func (i *Interface) enableIPv6() (Undo, error)            { return nil, errors.ErrUnsupported }
func (i *Interface) noAutoConfig() (Undo, error)          { return nil, errors.ErrUnsupported }
func (i *Interface) state() (bool, []netip.Prefix, error) { return false, nil, errors.ErrUnsupported }
func (i *Interface) setTxQueueLen(int) (Undo, error)      { return nil, errors.ErrUnsupported }

func routeTo(netip.Addr, string) (Route, error)           { return Route{}, errors.ErrUnsupported }
func hasAddress(netip.Addr) (bool, error)                 { return false, errors.ErrUnsupported }
func addresses() ([]netip.Addr, error)                    { return nil, errors.ErrUnsupported }
func hostPrefixes(int) ([]netip.Prefix, error)            { return nil, errors.ErrUnsupported }
func hostAddresses(int) ([]netip.Addr, error)             { return nil, errors.ErrUnsupported }
func (w *Ways) to(_, _ netip.Addr, _ string) (Way, error) { return Way{}, errors.ErrUnsupported }
func watch(context.Context, func()) error                 { return errors.ErrUnsupported }
func nextHop(_, _ netip.Addr, _ string) (Hop, error)      { return Hop{}, errors.ErrUnsupported }

func addUnreachable(netip.Prefix) (Undo, error) { return nil, errors.ErrUnsupported }
func deleteUnreachable(netip.Prefix) error      { return errors.ErrUnsupported }
