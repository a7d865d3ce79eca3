package ifcfg

import (
	"encoding/binary"
	"errors"
	"fmt"
	"syscall"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// netfilterDump puts one question to netfilter, and gives take the contents of
// each answer, which has the type answer, until it has enough. It reads by itself,
// since the netlink library leaves out messages that do not carry the number of
// our socket, and those about hooks carry none: it would find no hook, ever.
func netfilterDump(question *nl.NetlinkRequest, answer uint16, take func([]byte) (enough bool, err error)) error {
	socket, err := nl.Subscribe(unix.NETLINK_NETFILTER)
	if err != nil {
		return err
	}
	defer socket.Close()
	if err := socket.SetReceiveTimeout(&nl.SocketTimeoutTv); err != nil {
		return err
	}
	if err := socket.Send(question); err != nil {
		return err
	}
	for {
		messages, from, err := socket.Receive()
		if err != nil {
			return err
		}
		if from.Pid != nl.PidKernel {
			continue
		}
		for _, m := range messages {
			if done, err := readDump(m, answer, take); done || err != nil {
				return err
			}
		}
	}
}

// readDump reads one message of a dump, and reports whether no other is wanted.
// What the kernel does not vouch for is an error.
func readDump(m syscall.NetlinkMessage, answer uint16, take func([]byte) (bool, error)) (done bool, err error) {
	if m.Header.Flags&unix.NLM_F_DUMP_INTR != 0 {
		return true, netlink.ErrDumpInterrupted
	}
	switch m.Header.Type {
	case answer:
		return take(m.Data)
	case unix.NLMSG_DONE, unix.NLMSG_ERROR:
		if len(m.Data) < 4 {
			return true, errShort
		}
		if code := int32(binary.NativeEndian.Uint32(m.Data)); code != 0 {
			return true, syscall.Errno(-code)
		}
		if m.Header.Type == unix.NLMSG_DONE {
			return true, nil
		}
	}
	return true, fmt.Errorf("a message of type %d, which was not asked for", m.Header.Type)
}

// notThere recognises that the kernel has not the part of netfilter that was
// asked, or nothing that could ask it.
func notThere(err error) bool {
	return errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EPROTONOSUPPORT)
}

var errShort = errors.New("an answer of the kernel is too short")

// attributes returns netlink attributes by their number. Bad ones are no EINVAL,
// as for the netlink library: that would be notThere.
func attributes(b []byte) (map[uint16][]byte, error) {
	list, err := nl.ParseRouteAttr(b)
	if err != nil {
		return nil, errShort
	}
	byNumber := make(map[uint16][]byte, len(list))
	for _, a := range list {
		byNumber[a.Attr.Type&nl.NLA_TYPE_MASK] = a.Value
	}
	return byNumber, nil
}

func text(b []byte) string { return unix.ByteSliceToString(b) }
