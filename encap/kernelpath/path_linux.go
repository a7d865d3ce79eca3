//go:build 386 || amd64 || arm || arm64 || loong64 || mipsle || mips64le || ppc64le || riscv64

package kernelpath

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

type path struct {
	device, room int

	mu       sync.Mutex // over all below
	maps     map[string]*ebpf.Map
	in       map[int]*attached // by interface index
	out      attached
	peers    map[ends]Peer // of a hub
	closed   bool
	lastStat Stats // when closed
}

func open(cfg Config) (*Path, error) {
	if cfg.Device <= 0 {
		return nil, fmt.Errorf("kernel path: device %d: no interface index", cfg.Device)
	}
	p := &Path{path{device: cfg.Device, room: cfg.Peers, in: make(map[int]*attached), peers: make(map[ends]Peer)}}
	if err := p.begin(); err != nil {
		return nil, errors.Join(fmt.Errorf("kernel path: %w", err), p.Close())
	}
	return p, nil
}

// begin makes what outlives a flow, and tries whether programs can be attached, since
// the kernel may take one and then have no TCX.
func (p *path) begin() error {
	maps, err := newMaps(p.room)
	p.maps = maps // some, for close, also when not all could be made
	if err != nil {
		return cannot("make maps", err)
	}
	programs, err := load(&flow{}, p.maps)
	if err != nil {
		return cannot("load programs", err)
	}
	defer programs.close()
	// A program without a flow carries nothing: no packet fits an MTU of 0.
	l, err := link.AttachTCX(link.TCXOptions{Interface: p.device, Program: programs.out, Attach: ebpf.AttachTCXEgress})
	if err != nil {
		return cannot("attach programs", err)
	}
	return l.Close()
}

func (p *path) set(f *Flow) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return os.ErrClosed
	}
	err := p.replace(f)
	if err != nil {
		err = errors.Join(fmt.Errorf("kernel path: %w", err), p.detach())
	}
	return err
}

// replace puts programs for f in the place of those there are.
func (p *path) replace(f *Flow) error {
	if f == nil {
		return p.detach()
	}
	if err := f.check(); err != nil {
		return err
	}
	programs, err := load(f.forKernel(p.device), p.maps)
	if err != nil {
		return cannot("load programs", err)
	}
	defer programs.close() // a link holds its own
	if err := p.listen(f.links(), programs.in); err != nil {
		return cannot("attach to the link", err)
	}
	p.out.at = p.device
	if err := p.out.become(ebpf.AttachTCXEgress, programs.out); err != nil {
		return cannot("attach to the device", err)
	}
	return nil
}

// listen attaches a program to links, and to no others.
func (p *path) listen(links []int, program *ebpf.Program) error {
	for _, at := range links {
		if p.in[at] == nil {
			p.in[at] = &attached{at: at}
		}
		if err := p.in[at].become(ebpf.AttachTCXIngress, program); err != nil {
			return err
		}
	}
	for at, a := range p.in {
		if slices.Contains(links, at) {
			continue
		}
		delete(p.in, at)
		if err := a.end(); err != nil {
			return err
		}
	}
	return nil
}

func (p *path) detach() error {
	err := p.out.end()
	for _, a := range p.in {
		err = errors.Join(err, a.end())
	}
	clear(p.in)
	return err
}

func (p *path) close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil
	}
	p.closed = true
	err := p.detach()
	p.lastStat, _ = p.count()
	for _, m := range p.maps {
		err = errors.Join(err, m.Close())
	}
	return err
}

// attached is a program at an interface, or none.
type attached struct {
	link link.Link
	at   int
}

// become replaces the program without a moment in which there is none.
func (a *attached) become(kind ebpf.AttachType, program *ebpf.Program) (err error) {
	if a.link != nil {
		if err := a.link.Update(program); err == nil {
			return nil
		}
	}
	if err := a.end(); err != nil {
		return err
	}
	l, err := link.AttachTCX(link.TCXOptions{Interface: a.at, Program: program, Attach: kind})
	if err != nil {
		return err
	}
	a.link = l
	return nil
}

func (a *attached) end() error {
	if a.link == nil {
		return nil
	}
	l := a.link
	a.link = nil
	return l.Close()
}

// cannot says what failed, and wraps errors.ErrUnsupported where trying again is in vain.
// What the library adds to a refusal is about kernels that have no TCX anyway.
func cannot(op string, err error) error {
	var verifier *ebpf.VerifierError
	switch {
	case errors.As(err, &verifier) && !errors.Is(err, syscall.EPERM):
		return fmt.Errorf("%s: %w: this kernel does not take them: %w", op, errors.ErrUnsupported, err)
	case errors.Is(err, ebpf.ErrNotSupported), errors.Is(err, syscall.ENOSYS):
		return fmt.Errorf("%s: %w: needs Linux 6.6: %w", op, errors.ErrUnsupported, err)
	case errors.Is(err, syscall.EPERM), errors.Is(err, syscall.EACCES):
		return fmt.Errorf("%s: %w: needs Linux 6.6, CAP_BPF and CAP_NET_ADMIN on the machine: %w", op, errors.ErrUnsupported, syscall.EPERM)
	}
	return fmt.Errorf("%s: %w", op, err)
}

func (p *path) stats() (Stats, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return p.lastStat, nil
	}
	return p.count()
}

// counters is struct counters of bpf/path.c.
type counters struct {
	TxPackets, TxBytes, RxPackets, RxBytes uint64
	Heard                                  uint64
	TxLost, RxLost                         uint64
	TxWhole, RxWhole                       uint64
}

func (p *path) count() (s Stats, err error) {
	var each []counters // by processor
	m := p.maps[mapCounters]
	if m == nil {
		return s, nil
	}
	if err := m.Lookup(uint32(0), &each); err != nil {
		return s, fmt.Errorf("kernel path: read counters: %w", err)
	}
	var heard uint64
	for _, c := range each {
		s.Tx.Packets += c.TxPackets
		s.Tx.Bytes += c.TxBytes
		s.Rx.Packets += c.RxPackets
		s.Rx.Bytes += c.RxBytes
		s.TxLost += c.TxLost
		s.RxLost += c.RxLost
		s.TxWhole += c.TxWhole
		s.RxWhole += c.RxWhole
		heard = max(heard, c.Heard)
	}
	s.LastHeard, err = wallClock(heard)
	return s, err
}

// wallClock is the time of day when the kernel's clock for BPF programs showed ns; zero for 0.
func wallClock(ns uint64) (time.Time, error) {
	if ns == 0 {
		return time.Time{}, nil
	}
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		return time.Time{}, fmt.Errorf("kernel path: clock: %w", err)
	}
	return time.Now().Add(time.Duration(int64(ns) - now.Nano())).Round(0), nil
}
