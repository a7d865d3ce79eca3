//go:build !linux

package nstest

import (
	"errors"
	"os/exec"
)

func newNS() (*NS, error)               { return nil, errors.ErrUnsupported }
func (ns *NS) do(func() error) error    { return errors.ErrUnsupported }
func (ns *NS) start(*exec.Cmd) error    { return errors.ErrUnsupported }
func (ns *NS) close() error             { return nil }
func (ns *NS) sysctl(_, _ string) error { return errors.ErrUnsupported }

func link(_ *NS, _ string, _ *NS, _ string) error       { return errors.ErrUnsupported }
func (ns *NS) addAddr(_, _ string) error                { return errors.ErrUnsupported }
func (ns *NS) delAddr(_, _ string) error                { return errors.ErrUnsupported }
func (ns *NS) addRoute(_, _ string) error               { return errors.ErrUnsupported }
func (ns *NS) delRoute(_, _ string) error               { return errors.ErrUnsupported }
func (ns *NS) setMTU(string, int) error                 { return errors.ErrUnsupported }
func (ns *NS) setUp(string, bool) error                 { return errors.ErrUnsupported }
func (ns *NS) delLink(string) error                     { return errors.ErrUnsupported }
func (ns *NS) linkStats(string) (Stats, error)          { return Stats{}, errors.ErrUnsupported }
func (ns *NS) setFeature(_, _ string, _ bool) error     { return errors.ErrUnsupported }
func (ns *NS) features(string) (map[string]bool, error) { return nil, errors.ErrUnsupported }
func (ns *NS) setGRODefer(string, int, int) error       { return errors.ErrUnsupported }

func missing() string                    { return "network namespaces exist on Linux only" }
func reexecAsRoot([]string) (int, error) { return 0, errors.ErrUnsupported }

func arriveAsRoot() error    { return nil }
func machineMissing() string { return missing() }
