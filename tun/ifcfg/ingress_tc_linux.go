package ifcfg

import (
	"errors"
	"fmt"
	"slices"
	"unsafe"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// bpfAtIngress is what linux/bpf.h calls BPF_TCX_INGRESS.
const bpfAtIngress = 46

// disciplines finds the queueing discipline that filters of traffic control for
// arriving packets hang on.
func (l arrival) disciplines() (seen []string, err error) {
	all, err := dump(func() ([]netlink.Qdisc, error) { return netlink.QdiscList(&netlink.Dummy{LinkAttrs: *l.LinkAttrs}) })
	if err != nil {
		return nil, fmt.Errorf("list queueing disciplines of %s: %w", l.Name, err)
	}
	for _, q := range all {
		if q.Attrs().Parent == netlink.HANDLE_INGRESS { // the same number as HANDLE_CLSACT
			seen = append(seen, "queueing discipline "+q.Type()+" of "+l.Name)
		}
	}
	return seen, nil
}

// programs finds tcx programs at the link's ingress. Kernels that know of none
// say EINVAL, or ENOSYS where they have no BPF.
func (l arrival) programs() (seen []string, err error) {
	ids, err := tcxPrograms(l.Index)
	switch {
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOSYS):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("list tcx programs of %s: %w", l.Name, err)
	}
	for _, id := range ids {
		if !slices.Contains(l.except, id) {
			seen = append(seen, fmt.Sprintf("tcx program %d of %s", id, l.Name))
		}
	}
	return seen, nil
}

// tcxPrograms returns the numbers of all programs. The kernel has room for 64, its
// BPF_MPROG_MAX; should there be more, that is the error ENOSPC.
func tcxPrograms(link int) ([]uint32, error) {
	var ids [64]uint32
	query := struct {
		link, kind, flags, attached uint32
		ids                         *[64]uint32
		_                           [unsafe.Sizeof(uint64(0)) - unsafe.Sizeof(uintptr(0))]byte
		count, _                    uint32
		programFlags, links         uint64
		linkFlags, revision         uint64
	}{link: uint32(link), kind: bpfAtIngress, ids: &ids, count: uint32(len(ids))}
	if _, err := bpf(bpfProgQuery, unsafe.Pointer(&query), unsafe.Sizeof(query)); err != nil {
		return nil, err
	}
	return ids[:query.count], nil
}
