//go:build 386 || amd64 || arm || arm64 || loong64 || mipsle || mips64le || ppc64le || riscv64

package kernelpath

import (
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
)

func (p *path) others() (seen []string, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	all, err := attachedTo(p.device, ebpf.AttachTCXEgress)
	if err != nil {
		return nil, err
	}
	own := p.out.program()
	for _, id := range all {
		if id != own {
			seen = append(seen, fmt.Sprintf("BPF program %d of traffic control at the tunnel", id))
		}
	}
	return seen, nil
}

func (p *path) programs(at int) (ids []uint32, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	all, err := attachedTo(at, ebpf.AttachTCXIngress)
	if err != nil {
		return nil, err
	}
	own := p.in[at].program()
	for _, id := range all {
		if id == own || name(id) == programIn {
			ids = append(ids, uint32(id))
		}
	}
	return ids, nil
}

func (p *path) intact() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, a := range p.in {
		if a.cut() {
			return false
		}
	}
	return !p.out.cut()
}

// cut reports whether somebody else has detached the program.
func (a *attached) cut() bool {
	if a.link == nil {
		return false
	}
	info, err := a.link.Info()
	if err != nil || info.TCX() == nil {
		return false
	}
	return info.TCX().Ifindex == 0
}

func attachedTo(at int, kind ebpf.AttachType) (ids []ebpf.ProgramID, err error) {
	all, err := link.QueryPrograms(link.QueryOptions{Target: at, Attach: kind})
	if err != nil {
		return nil, fmt.Errorf("kernel path: %w", err)
	}
	for _, p := range all.Programs {
		ids = append(ids, p.ID)
	}
	return ids, nil
}

// program returns the ID of the program, 0 when there is none.
func (a *attached) program() ebpf.ProgramID {
	if a == nil || a.link == nil {
		return 0
	}
	info, err := a.link.Info()
	if err != nil {
		return 0
	}
	return info.Program
}

// name returns the name of a program, or nothing where it may not be known.
func name(id ebpf.ProgramID) string {
	p, err := ebpf.NewProgramFromID(id)
	if err != nil {
		return ""
	}
	defer p.Close() // only looked at
	info, err := p.Info()
	if err != nil {
		return ""
	}
	return info.Name
}
