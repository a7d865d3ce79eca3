//go:build 386 || amd64 || arm || arm64 || loong64 || mipsle || mips64le || ppc64le || riscv64

package kernelpath

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"sixin4/tun/nstest"
)

// inNamespace runs do with a path at a TUN, and the index of a link.
func inNamespace(t *testing.T, do func(p *Path, device, link int) error) {
	t.Helper()
	withRoom(t, 0, do)
}

// withRoom is inNamespace for a hub of so many peers. There is a second link, b0.
func withRoom(t *testing.T, peers int, do func(p *Path, device, link int) error) {
	t.Helper()
	ns := nstest.Open(t)
	if err := nstest.Link(ns, "a0", ns, "b0"); err != nil {
		t.Fatal(err)
	}
	err := ns.Do(func() error {
		device := makeTUN(t, "six0")
		l, err := net.InterfaceByName("a0")
		if err != nil {
			return err
		}
		p, err := Open(Config{Device: device, Peers: peers})
		if errors.Is(err, errors.ErrUnsupported) {
			t.Skipf("kernel feature: TCX: %v", err)
		}
		if err != nil {
			return err
		}
		return errors.Join(do(p, device, l.Index), p.Close())
	})
	if err != nil {
		t.Fatal(err)
	}
}

// makeTUN makes a device that lives as long as the test.
func makeTUN(t *testing.T, name string) (index int) {
	t.Helper()
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	request, err := unix.NewIfreq(name)
	if err != nil {
		t.Fatal(err)
	}
	request.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, request); err != nil {
		t.Fatal(err)
	}
	i, err := net.InterfaceByName(name)
	if err != nil {
		t.Fatal(err)
	}
	return i.Index
}

// TestSet attaches, replaces and detaches, and looks at what is attached.
func TestSet(t *testing.T) {
	inNamespace(t, func(p *Path, device, link int) error {
		look := func(when string, want int) {
			t.Helper()
			ours, err := p.Programs(link)
			others, err2 := p.Others()
			if len(ours) != want || len(others) != 0 || err != nil || err2 != nil {
				t.Errorf("%s: programs %v at the link, others %v at the device, %v, %v; want %d and none", when, ours, others, err, err2, want)
			}
		}
		look("before", 0)
		f := aFlow()
		f.Link = link
		for _, when := range []string{"set", "set again"} {
			if err := p.Set(f); err != nil {
				t.Errorf("%s: %v", when, err)
			}
			look(when, 1)
		}
		second, err := Open(Config{Device: device})
		if err != nil {
			return err
		}
		if err := second.Set(f); err != nil {
			t.Errorf("a second path: %v", err)
		}
		if ours, err := p.Programs(link); len(ours) != 2 || err != nil {
			t.Errorf("with a second path: programs %v, %v; want both", ours, err)
		}
		if seen, err := p.Others(); len(seen) != 1 || err != nil {
			t.Errorf("with a second path: others %q, %v; want one", seen, err)
		}
		if err := second.Close(); err != nil {
			t.Error(err)
		}
		look("the second is closed", 1)
		bad := *f
		bad.MTU = 0
		if err := p.Set(&bad); err == nil {
			t.Error("a flow without MTU: no error")
		}
		look("after an error", 0)
		if err := errors.Join(p.Set(f), p.Set(nil), p.Set(nil)); err != nil {
			t.Error(err)
		}
		look("set to nothing", 0)
		bad = *f
		bad.Link = 1 << 20
		if err := p.Set(&bad); err == nil || errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("a link that is not there: %v", err)
		}
		return nil
	})
}

// TestIntact: a program that somebody detaches is noticed, and put back by Set.
func TestIntact(t *testing.T) {
	inNamespace(t, func(p *Path, _, link int) error {
		f := aFlow()
		f.Link = link
		if !p.Intact() {
			t.Error("a path without a flow is not intact")
		}
		for name, a := range map[string]func() *attached{"in": func() *attached { return p.in[link] }, "out": func() *attached { return &p.out }} {
			if err := p.Set(f); err != nil || !p.Intact() {
				t.Fatalf("set: %v, intact %t", err, p.Intact())
			}
			if err := a().link.Detach(); err != nil {
				return err
			}
			if p.Intact() {
				t.Errorf("%s is detached, and nobody sees it", name)
			}
		}
		if err := p.Set(f); err != nil || !p.Intact() {
			t.Errorf("set again: %v, intact %t", err, p.Intact())
		}
		return p.Set(nil)
	})
}

func TestClose(t *testing.T) {
	inNamespace(t, func(p *Path, _, link int) error {
		f := aFlow()
		f.Link = link
		if err := errors.Join(p.Set(f), p.Close(), p.Close()); err != nil {
			t.Error(err)
		}
		if err := p.Set(f); !errors.Is(err, os.ErrClosed) {
			t.Errorf("set after close: %v", err)
		}
		if s, err := p.Stats(); err != nil || s != (Stats{}) {
			t.Errorf("stats after close: %+v, %v", s, err)
		}
		if ours, err := p.Programs(link); len(ours) != 0 || err != nil {
			t.Errorf("after close: %v, %v", ours, err)
		}
		return nil
	})
}

func TestOpenErrors(t *testing.T) {
	if _, err := Open(Config{}); err == nil {
		t.Error("no device: no error")
	}
	inNamespace(t, func(*Path, int, int) error {
		if _, err := Open(Config{Device: 1 << 20}); err == nil || errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("a device that is not there: %v", err)
		}
		return nil
	})
}

// TestCannot: what a person is told of each kind of failure.
func TestCannot(t *testing.T) {
	for _, tt := range []struct {
		name        string
		err         error
		want        string
		unsupported bool
	}{
		{"no capability", fmt.Errorf("map create: %w (MEMLOCK may be too low)", unix.EPERM),
			"load: unsupported operation: needs Linux 6.6, CAP_BPF and CAP_NET_ADMIN on the machine: operation not permitted", true},
		{"security module", unix.EACCES, "needs Linux 6.6, CAP_BPF and CAP_NET_ADMIN", true},
		{"verifier", &ebpf.VerifierError{Cause: unix.EACCES, Log: []string{"invalid access"}}, "this kernel does not take them", true},
		{"no TCX", fmt.Errorf("tcx: %w", ebpf.ErrNotSupported), "needs Linux 6.6", true},
		{"no BPF", unix.ENOSYS, "needs Linux 6.6", true},
		{"no memory", unix.ENOMEM, "load: cannot allocate memory", false},
	} {
		err := cannot("load", tt.err)
		if !strings.Contains(err.Error(), tt.want) || errors.Is(err, errors.ErrUnsupported) != tt.unsupported {
			t.Errorf("%s: %v; want %q, unsupported %t", tt.name, err, tt.want, tt.unsupported)
		}
	}
}
