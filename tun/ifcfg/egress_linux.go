package ifcfg

import (
	"errors"
	"fmt"

	"github.com/vishvananda/netlink"
)

func egress() ([]string, error) {
	return firstFound(outward.netfilter, outward.ipsecPolicies, protocolRules, outward.cgroupPrograms)
}

// firstFound asks until something is seen or there is no telling.
func firstFound(looks ...func() ([]string, error)) ([]string, error) {
	for _, look := range looks {
		if seen, err := look(); len(seen) > 0 || err != nil {
			return seen, err
		}
	}
	return nil, nil
}

// netfilter asks for the hooks, or, where the kernel does not list them, for all
// that makes hooks.
func (d direction) netfilter() ([]string, error) {
	seen, err := d.netfilterHooks()
	if errors.Is(err, errors.ErrUnsupported) {
		return host.owners(d)
	}
	return seen, err
}

// protocolRules finds routing rules that tell protocols or ports apart. The
// kernel looks a route up for a raw socket with another protocol than it can be
// asked about.
func protocolRules() (seen []string, err error) {
	rules, err := dump(func() ([]netlink.Rule, error) { return netlink.RuleList(netlink.FAMILY_V4) })
	if err != nil {
		return nil, fmt.Errorf("list routing rules: %w", err)
	}
	for _, r := range rules {
		if r.IPProto > 0 || r.Sport != nil || r.Dport != nil {
			seen = append(seen, fmt.Sprintf("routing rule %d, which chooses by protocol or port", r.Priority))
		}
	}
	return seen, nil
}
