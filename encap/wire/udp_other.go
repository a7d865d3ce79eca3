//go:build !linux

package wire

import (
	"errors"
	"net/netip"

	"sixin4/encap"
)

type udpSocket struct{}

func (u *UDP) open() error                                   { return errors.ErrUnsupported }
func (u *UDP) countDrops()                                   {}
func (u *UDP) close() error                                  { return nil }
func (u *UDP) theReader() Reader                             { return nil }
func (u *UDP) newWriter() (Writer, error)                    { return nil, errors.ErrUnsupported }
func (u *UDP) setDF(bool) error                              { return errors.ErrUnsupported }
func (u *UDP) sendDatagram([]byte, netip.AddrPort) error     { return errors.ErrUnsupported }
func (u *UDP) pathMTU(netip.AddrPort) (encap.WireMTU, error) { return 0, errors.ErrUnsupported }
