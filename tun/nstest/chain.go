package nstest

import (
	"fmt"
	"slices"
)

// Chain is a base chain of nftables without rules: what comes by is accepted, or
// dropped. It is in a table of its own.
type Chain struct {
	Family string // ip, inet or netdev
	Hook   string // prerouting, input, output, postrouting, or, in the family netdev, ingress, egress
	Link   string // whose, in the family netdev
	Drop   bool
}

// AddChain makes a chain in the namespace. It needs no program, only a kernel with
// nftables.
func (ns *NS) AddChain(c Chain) error { return ns.onChain(c, "add", addChain) }

// DelChain takes it away again.
func (ns *NS) DelChain(c Chain) error { return ns.onChain(c, "delete", delChain) }

func (ns *NS) onChain(c Chain, op string, change func(Chain) error) error {
	_, known := hookNumbers[c.Hook]
	if !slices.Contains([]string{"ip", "inet", "netdev"}, c.Family) || !known {
		return fmt.Errorf("%s chain: family %q, hook %q: no such one", op, c.Family, c.Hook)
	}
	err := ns.Do(func() error { return change(c) })
	if err != nil {
		return fmt.Errorf("%s chain %s %s: %w", op, c.Family, c.Hook, err)
	}
	return nil
}

// hookNumbers are those of linux/netfilter.h; ingress and egress belong to a link,
// the others to IP.
var hookNumbers = map[string]uint32{
	"prerouting": 0, "input": 1, "output": 3, "postrouting": 4,
	"ingress": 0, "egress": 1,
}

// table is the name of the table of a chain, which is called as its hook.
func (c Chain) table() string { return "nstest-" + c.Hook }
