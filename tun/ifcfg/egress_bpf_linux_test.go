package ifcfg

import (
	"errors"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"sixin4/tun/nstest"
)

// What linux/bpf.h calls BPF_PROG_LOAD, BPF_PROG_ATTACH, BPF_LINK_CREATE,
// BPF_PROG_TYPE_CGROUP_SKB, BPF_PROG_TYPE_NETFILTER and BPF_NETFILTER.
const (
	bpfLoad, bpfAttach, bpfLinkCreate = 5, 8, 28

	bpfCgroupPacket = 8
	bpfNetfilter    = 32
	bpfAtNetfilter  = 45
)

// attach gives a cgroup a program that lets everything pass.
func attach(t *testing.T, cgroup string, kind uint32) {
	t.Helper()
	program := loadProgram(t, bpfCgroupPacket, kind)
	target, err := unix.Open(cgroup, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(target)
	to := struct{ target, program, kind, flags uint32 }{uint32(target), uint32(program), kind, 0}
	if _, err := bpf(bpfAttach, unsafe.Pointer(&to), unsafe.Sizeof(to)); err != nil {
		t.Fatal(err)
	}
}

// loadProgram loads a program that returns 1, until the test ends.
func loadProgram(t *testing.T, kind, expects uint32) int {
	t.Helper()
	code := [2]uint64{0x1_0000_00b7, 0x95} // r0 = 1; exit
	if *(*byte)(unsafe.Pointer(&code[1])) != 0x95 {
		t.Fatal("the program is written for little-endian machines")
	}
	licence := [4]byte{'G', 'P', 'L'} // some kinds of programs must have it
	program := struct {
		kind, length    uint32
		code, licence   *byte
		level, logSize  uint32
		log             uint64
		version, flags  uint32
		name            [16]byte
		device, expects uint32
	}{kind: kind, length: 2, code: (*byte)(unsafe.Pointer(&code[0])), licence: &licence[0], expects: expects}
	fd, err := bpf(bpfLoad, unsafe.Pointer(&program), unsafe.Sizeof(program))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	return fd
}

// TestEachLink finds a netfilter program among the links of the machine. It sees
// IPv6, so that nobody else on the machine thinks that his packets are seen.
func TestEachLink(t *testing.T) {
	links := func() (ours []bpfLink) {
		t.Helper()
		err := eachLink(func(l bpfLink) {
			if l.kind == unix.BPF_LINK_TYPE_NETFILTER && l.priority == 4177 {
				ours = append(ours, l)
			}
		})
		if errors.Is(err, unix.EPERM) {
			t.Skipf("needs the machine's own root: list BPF links: %v", err)
		} else if err != nil {
			t.Fatal(err)
		}
		return ours
	}
	if got := links(); len(got) != 0 {
		t.Fatalf("before: %+v", got)
	}
	inNew(t, func(*nstest.NS) {
		to := struct {
			program, target, kind, flags uint32
			family, hook                 uint32
			priority                     int32
			linkFlags                    uint32
		}{program: uint32(loadProgram(t, bpfNetfilter, bpfAtNetfilter)), kind: bpfAtNetfilter,
			family: unix.NFPROTO_IPV6, hook: hookLocalOut, priority: 4177}
		link, err := bpf(bpfLinkCreate, unsafe.Pointer(&to), unsafe.Sizeof(to))
		if errors.Is(err, unix.EINVAL) {
			t.Skip("the kernel has no BPF netfilter programs (CONFIG_NETFILTER_BPF_LINK, Linux 6.4)")
		} else if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(link)
		got := links()
		if len(got) != 1 || got[0].family != unix.NFPROTO_IPV6 || got[0].hook != hookLocalOut {
			t.Errorf("%+v, want the program", got)
		}
	})
}

func TestLinkSees(t *testing.T) {
	at := func(hook uint32) bpfLink {
		return bpfLink{kind: unix.BPF_LINK_TYPE_NETFILTER, family: unix.NFPROTO_IPV4, hook: hook}
	}
	ofIPv6, other := at(hookLocalOut), at(hookLocalIn)
	ofIPv6.family, other.kind = unix.NFPROTO_IPV6, 6
	for _, tt := range []struct {
		name    string
		link    bpfLink
		out, in bool
	}{
		{"prerouting", at(hookPreRouting), false, true},
		{"input", at(hookLocalIn), false, true},
		{"forward", at(2), false, false},
		{"output", at(hookLocalOut), true, false},
		{"postrouting", at(hookPostRouting), true, false},
		{"IPv6", ofIPv6, false, false},
		{"another kind of link", other, false, false},
	} {
		if out, in := tt.link.sees(outward), tt.link.sees(inwardAt("a0")); out != tt.out || in != tt.in {
			t.Errorf("%s: output %t, input %t; want %t, %t", tt.name, out, in, tt.out, tt.in)
		}
	}
}
