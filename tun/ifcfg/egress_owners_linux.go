package ifcfg

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
)

// hookOwners knows all parts of the kernel that can make an IPv4 netfilter hook.
// (What they are, and how each shows, is from memory of the
// kernel's source. Modules that are not part of it are not known.)
type hookOwners struct {
	root    string                                     // before each path; empty except in tests
	chains  func(direction) (seen []string, err error) // asks nf_tables
	list    sync.Once                                  // has been looked for: of what is built into the kernel
	modular atomic.Bool                                // nf_tables is a module, so sysfs shows it while it is loaded
}

var host = &hookOwners{chains: nftChains}

// owners finds those that are in use in the namespace of the calling thread.
func (h *hookOwners) owners(d direction) ([]string, error) {
	nftables := func() ([]string, error) { return h.nftables(d) }
	return firstFound(h.readable, nftables, h.iptables, h.connections, h.ipvs, h.securityModules, d.netfilterPrograms)
}

// readable sees nothing. It makes sure that a file that is not there means that
// the kernel does not have it.
func (h *hookOwners) readable() ([]string, error) {
	for _, always := range []string{netFile("dev"), "/sys/module"} {
		if _, err := os.Stat(h.root + always); err != nil {
			return nil, fmt.Errorf("look for netfilter hooks: %w", err)
		}
	}
	return nil, nil
}

// netFile names a file about the namespace of the calling thread.
func netFile(name string) string { return "/proc/thread-self/net/" + name }

// read returns the text of a file, and whether it is there.
func (h *hookOwners) read(path string) (text string, there bool, err error) {
	b, err := os.ReadFile(h.root + path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", false, nil
	}
	return string(b), err == nil, err
}

func (h *hookOwners) loaded(module string) (bool, error) {
	_, err := os.Stat(h.root + "/sys/module/" + module)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// iptables finds the tables of the older iptables: each has a hook in both
// directions, with rules or without. Those of IPv6 and of bridges have none.
func (h *hookOwners) iptables() (seen []string, err error) {
	names, _, err := h.read(netFile("ip_tables_names"))
	if err != nil {
		return nil, fmt.Errorf("list tables of iptables: %w", err)
	}
	for _, name := range strings.Fields(names) {
		seen = append(seen, "iptables table "+name)
	}
	return seen, nil
}

// connections finds connection tracking that neither nftables nor iptables has
// asked for (Open vSwitch, traffic control, a parameter of the module): nothing
// else shows it than that it tracks something.
func (h *hookOwners) connections() ([]string, error) {
	some := []string{"connection tracking, which knows connections"}
	text, there, err := h.read("/proc/sys/net/netfilter/nf_conntrack_count")
	if err == nil && there {
		var count int
		if count, err = strconv.Atoi(strings.TrimSpace(text)); count > 0 {
			return some, nil
		}
	}
	if err != nil {
		return nil, fmt.Errorf("count tracked connections: %w", err)
	}
	if there {
		return nil, nil
	}
	return h.connectionList(some)
}

// connectionList looks where older kernels do not tell user namespaces the count.
func (h *hookOwners) connectionList(some []string) ([]string, error) {
	fail := func(err error) ([]string, error) { return nil, fmt.Errorf("list tracked connections: %w", err) }
	f, err := os.Open(h.root + netFile("nf_conntrack"))
	if errors.Is(err, fs.ErrNotExist) {
		if loaded, err := h.loaded("nf_conntrack"); loaded || err != nil {
			return fail(errors.Join(err, errNoConnections))
		}
		return nil, nil
	}
	if err != nil {
		return fail(err)
	}
	defer func() { _ = f.Close() }() // nothing was written
	switch _, err := f.Read(make([]byte, 1)); {
	case errors.Is(err, io.EOF):
		return nil, nil
	case err != nil:
		return fail(err)
	}
	return some, nil
}

var errNoConnections = errors.New("the kernel tracks connections, and does not show them here")

// ipvs finds services of IPVS. Without any, its hooks let everything pass.
func (h *hookOwners) ipvs() ([]string, error) {
	table, _, err := h.read(netFile("ip_vs"))
	if err != nil {
		return nil, fmt.Errorf("list IPVS services: %w", err)
	}
	for line := range strings.Lines(table) {
		switch first, _, _ := strings.Cut(strings.TrimSpace(line), " "); first {
		case "", "IP", "Prot", "->": // headings, and servers of a service
		default:
			return []string{"IPVS services"}, nil
		}
	}
	return nil, nil
}

// securityModules finds those whose hooks judge every packet. They have a file
// system when, and only when, they have been switched on at boot, and with it
// their hooks in every namespace. AppArmor's hook does not count: see ofAppArmor.
func (h *hookOwners) securityModules() (seen []string, err error) {
	systems, err := os.ReadFile(h.root + "/proc/filesystems")
	if err != nil {
		return nil, fmt.Errorf("look for security modules: %w", err)
	}
	names := map[string]string{"selinuxfs": "SELinux", "smackfs": "Smack"}
	for _, word := range strings.Fields(string(systems)) {
		if name := names[word]; name != "" {
			seen = append(seen, "the netfilter hooks of "+name)
		}
	}
	return seen, nil
}
