//go:build 386 || amd64 || arm || arm64 || loong64 || mipsle || mips64le || ppc64le || riscv64

package kernelpath

import (
	"bytes"
	_ "embed"
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
)

// object is bpf/path.c, compiled by `make bpf`.
//
//go:embed bpf/path.o
var object []byte

// The names in bpf/path.c.
const (
	mapCounters = "counters"
	mapIDs      = "ids"
	mapPeers    = "peers"
	mapRoutes   = "routes"
	varFlow     = "flow"
	programOut  = "sixin4_out"
	programIn   = "sixin4_in"
)

func spec() (*ebpf.CollectionSpec, error) {
	return ebpf.LoadCollectionSpecFromReader(bytes.NewReader(object))
}

// newMaps makes what the programs of all flows of a path share. There is room for so many
// peers of a hub.
func newMaps(peers int) (maps map[string]*ebpf.Map, err error) {
	s, err := spec()
	if err != nil {
		return nil, err
	}
	maps = make(map[string]*ebpf.Map)
	for _, name := range []string{mapCounters, mapIDs, mapPeers, mapRoutes} {
		if s.Maps[name] == nil {
			return maps, fmt.Errorf("no map %s in the object", name)
		}
		switch name {
		case mapPeers:
			s.Maps[name].MaxEntries = uint32(max(peers, 1))
		case mapRoutes:
			s.Maps[name].MaxEntries = uint32(max(peers, 1) * MaxPrefixes)
		}
		m, err := ebpf.NewMap(s.Maps[name])
		if err != nil {
			return maps, fmt.Errorf("map %s: %w", name, err)
		}
		maps[name] = m
	}
	return maps, nil
}

// programs are those for one flow.
type programs struct{ out, in *ebpf.Program }

// load makes programs in which f is a constant, so that the kernel's verifier removes
// what f has no use for.
func load(f *flow, maps map[string]*ebpf.Map) (p programs, err error) {
	s, err := spec()
	if err != nil {
		return p, err
	}
	if s.Variables[varFlow] == nil {
		return p, fmt.Errorf("no variable %s in the object", varFlow)
	}
	if err := s.Variables[varFlow].Set(f); err != nil {
		return p, err
	}
	for name, m := range maps {
		s.Maps[name].MaxEntries = m.MaxEntries()
	}
	c, err := ebpf.NewCollectionWithOptions(s, ebpf.CollectionOptions{MapReplacements: maps})
	if err != nil {
		return p, err
	}
	defer c.Close() // of the programs only those that stay in it
	p = programs{c.DetachProgram(programOut), c.DetachProgram(programIn)}
	if p.out == nil || p.in == nil {
		p.close()
		return p, errors.New("a program is missing in the object")
	}
	return p, nil
}

func (p programs) close() {
	for _, prog := range []*ebpf.Program{p.out, p.in} {
		if prog != nil {
			_ = prog.Close() // the descriptor is gone whatever it says
		}
	}
}
