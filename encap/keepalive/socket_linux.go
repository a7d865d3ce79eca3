package keepalive

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// socket is a raw ICMPv6 socket of one interface. The kernel makes and checks the
// checksums (RFC 3542, Section 3.1).
type socket struct {
	pc *net.IPConn
	to *net.IPAddr
}

func openSocket(cfg Config) (conn, error) {
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) (err error) {
		if e := c.Control(func(fd uintptr) { err = prepare(int(fd), cfg.Interface) }); e != nil {
			return e
		}
		return err
	}}
	pc, err := lc.ListenPacket(context.Background(), "ip6:58", cfg.Source.String())
	if err != nil {
		return nil, openError(cfg, err)
	}
	return &socket{pc: pc.(*net.IPConn), to: &net.IPAddr{IP: cfg.To.AsSlice(), Zone: cfg.To.Zone()}}, nil
}

// prepare makes a socket that is not bound yet let nothing in but echo replies
// from the interface.
func prepare(fd int, link string) error {
	if err := unix.BindToDevice(fd, link); err != nil {
		return fmt.Errorf("bind to interface %s: %w", link, err)
	}
	if err := unix.SetsockoptICMPv6Filter(fd, unix.IPPROTO_ICMPV6, unix.ICMPV6_FILTER, repliesOnly()); err != nil {
		return fmt.Errorf("ICMPv6 filter: %w", err)
	}
	return nil
}

// repliesOnly is a filter that blocks every type but one (RFC 3542, Section 3.2).
func repliesOnly() *unix.ICMPv6Filter {
	var f unix.ICMPv6Filter
	for i := range f.Data {
		f.Data[i] = ^uint32(0)
	}
	f.Data[typeReply/32] &^= 1 << (typeReply % 32)
	return &f
}

func openError(cfg Config, err error) error {
	// The package net repeats what we are about to say.
	if e, ok := errors.AsType[*net.OpError](err); ok {
		err = e.Err
	}
	switch {
	case errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES):
		return fmt.Errorf("open ICMPv6 socket: %w: this needs the capability CAP_NET_RAW (run as root, or the container with --cap-add NET_RAW)", err)
	case errors.Is(err, unix.EADDRNOTAVAIL):
		return fmt.Errorf("open ICMPv6 socket on %v: %w: no interface of this host has that address", cfg.Source, err)
	}
	return fmt.Errorf("open ICMPv6 socket on %v: %w", cfg.Source, err)
}

func (s *socket) send(message []byte) error {
	_, err := s.pc.WriteToIP(message, s.to)
	return err
}

func (s *socket) receive(b []byte, deadline time.Time) (n int, from netip.Addr, err error) {
	if err = s.pc.SetReadDeadline(deadline); err != nil {
		return 0, from, err
	}
	n, a, err := s.pc.ReadFromIP(b)
	if err == nil {
		from, _ = netip.AddrFromSlice(a.IP)
	}
	return n, from, err
}

func (s *socket) close() error {
	if err := s.pc.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}
