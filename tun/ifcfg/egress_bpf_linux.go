package ifcfg

import (
	"errors"
	"fmt"
	"slices"
	"unsafe"

	"golang.org/x/sys/unix"
)

// netfilterPrograms finds BPF programs that are hooks themselves (from Linux 6.4
// on). The kernel does not tell the namespace of one, so those of all count; and
// it tells nothing without CAP_SYS_ADMIN in the initial user namespace. Then they
// are taken for not there: else no container could ever tell, and attaching such a
// program takes CAP_BPF there, which few have without the other.
func (d direction) netfilterPrograms() (seen []string, err error) {
	err = eachLink(func(l bpfLink) {
		if l.sees(d) {
			seen = append(seen, fmt.Sprintf("BPF netfilter program (link %d)", l.id))
		}
	})
	switch {
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOSYS):
		return nil, nil // not permitted; before Linux 5.8; a kernel without BPF
	case err != nil:
		return nil, fmt.Errorf("list BPF links: %w", err)
	}
	return seen, nil
}

// bpfLink begins as struct bpf_link_info of linux/bpf.h does, for a link of the
// type BPF_LINK_TYPE_NETFILTER.
type bpfLink struct {
	kind, id, _, _ uint32
	family, hook   uint32
	priority       int32
}

func (l bpfLink) sees(d direction) bool {
	return l.kind == unix.BPF_LINK_TYPE_NETFILTER && l.family == unix.NFPROTO_IPV4 && slices.Contains(d.hooks, l.hook)
}

// eachLink calls found for each BPF link of the machine.
func eachLink(found func(bpfLink)) error {
	walk := struct{ start, next, flags uint32 }{}
	for {
		_, err := bpf(unix.BPF_LINK_GET_NEXT_ID, unsafe.Pointer(&walk), unsafe.Sizeof(walk))
		if errors.Is(err, unix.ENOENT) {
			return nil
		}
		if err != nil {
			return err
		}
		link, err := linkByID(walk.next)
		if err != nil && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.EAGAIN) {
			return err // it is neither gone by now nor still being made
		}
		found(link)
		walk.start = walk.next
	}
}

func linkByID(id uint32) (link bpfLink, err error) {
	open := struct{ id, next, flags uint32 }{id: id}
	fd, err := bpf(unix.BPF_LINK_GET_FD_BY_ID, unsafe.Pointer(&open), unsafe.Sizeof(open))
	if err != nil {
		return bpfLink{}, err
	}
	defer func() { _ = unix.Close(fd) }() // nothing was written
	ask := struct {
		fd, size uint32
		info     *bpfLink
		_        uint32 // the kernel reads 64 bits of address everywhere
	}{fd: uint32(fd), size: uint32(unsafe.Sizeof(link)), info: &link}
	_, err = bpf(unix.BPF_OBJ_GET_INFO_BY_FD, unsafe.Pointer(&ask), 16)
	return link, err
}

// bpf is bpf(2).
func bpf(command int, attr unsafe.Pointer, size uintptr) (int, error) {
	r, _, errno := unix.Syscall(unix.SYS_BPF, uintptr(command), uintptr(attr), size)
	if errno != 0 {
		return 0, errno
	}
	return int(r), nil
}
