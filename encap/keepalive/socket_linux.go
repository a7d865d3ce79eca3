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

// anyID lets replies with every identifier in.
const anyID = -1

// openSocket opens a socket for replies with an identifier, or anyID.
func openSocket(cfg Config, id int) (conn, error) {
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) (err error) {
		if e := c.Control(func(fd uintptr) { err = prepare(int(fd), cfg.Interface, id) }); e != nil {
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
// from the interface, and of these only our own: the others, of which there may be
// as many as somebody likes to send, would fill the queue.
func prepare(fd int, link string, id int) error {
	if err := unix.BindToDevice(fd, link); err != nil {
		return fmt.Errorf("bind to interface %s: %w", link, err)
	}
	if err := unix.SetsockoptICMPv6Filter(fd, unix.IPPROTO_ICMPV6, unix.ICMPV6_FILTER, repliesOnly()); err != nil {
		return fmt.Errorf("ICMPv6 filter: %w", err)
	}
	if id == anyID {
		return nil
	}
	code := identifierOnly(uint32(id))
	if err := unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER,
		&unix.SockFprog{Len: uint16(len(code)), Filter: &code[0]}); err != nil {
		return fmt.Errorf("filter: %w", err)
	}
	return nil
}

// identifierOnly is a program for the kernel's packet filter that lets in ICMPv6 echo
// messages with one identifier, which such a socket sees from the type on.
func identifierOnly(id uint32) []unix.SockFilter {
	return []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_H | unix.BPF_ABS, K: 4},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: id, Jf: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: 0xffff},
		{Code: unix.BPF_RET | unix.BPF_K},
	}
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

// manyQueue is how much may wait for an Asker, in bytes: the answers of thousands.
const manyQueue = 4 << 20

// openMany opens a socket for the replies of many.
func openMany(cfg AskerConfig, id int) (manyConn, error) {
	c, err := openSocket(Config{Interface: cfg.Interface, Source: cfg.Source, To: cfg.Source}, id)
	if err != nil {
		return nil, err
	}
	s := c.(*socket)
	_ = s.pc.SetReadBuffer(manyQueue) // else it stays as it is
	return s, nil
}

func (s *socket) sendTo(message []byte, to netip.Addr) error {
	_, err := s.pc.WriteToIP(message, &net.IPAddr{IP: to.AsSlice(), Zone: to.Zone()})
	return err
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
