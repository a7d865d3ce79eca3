//go:build !linux || !(386 || amd64 || arm || arm64 || loong64 || mipsle || mips64le || ppc64le || riscv64)

package kernelpath

import (
	"errors"
	"fmt"
	"net/netip"
)

type path struct{}

func open(Config) (*Path, error) {
	return nil, fmt.Errorf("kernel path: %w on this system", errors.ErrUnsupported)
}

func (*path) set(*Flow) error                                { return errors.ErrUnsupported }
func (*path) putPeer(Peer) error                             { return errors.ErrUnsupported }
func (*path) removePeer(_, _ netip.AddrPort) error           { return errors.ErrUnsupported }
func (*path) statsOf(_, _ netip.AddrPort) (s Stats, ok bool) { return s, false }
func (*path) stats() (Stats, error)                          { return Stats{}, errors.ErrUnsupported }
func (*path) others() ([]string, error)                      { return nil, errors.ErrUnsupported }
func (*path) intact() bool                                   { return true }
func (*path) programs(int) ([]uint32, error)                 { return nil, errors.ErrUnsupported }
func (*path) close() error                                   { return nil }
