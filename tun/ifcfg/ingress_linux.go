package ifcfg

import (
	"fmt"

	"github.com/vishvananda/netlink"
)

func ingress(index int, except []uint32) ([]string, error) {
	link, err := netlink.LinkByIndex(index)
	if err != nil {
		return nil, fmt.Errorf("look at link %d: %w", index, plain(err))
	}
	l := arrival{LinkAttrs: link.Attrs(), except: except}
	d := inwardAt(l.Name)
	return firstFound(l.owner, l.upperLinks, l.disciplines, l.programs,
		d.netfilter, host.securityModules, d.ipsecPolicies, protocolRules, d.cgroupPrograms)
}

// arrival is the link on which packets arrive.
type arrival struct {
	*netlink.LinkAttrs
	except []uint32 // BPF programs that do not count
}

// owner finds the link that this one belongs to, which gets its packets instead.
func (l arrival) owner() ([]string, error) {
	if l.MasterIndex == 0 {
		return nil, nil
	}
	owner := fmt.Sprintf("link %d", l.MasterIndex)
	if link, err := netlink.LinkByIndex(l.MasterIndex); err == nil {
		owner = link.Type() + " " + link.Attrs().Name
	}
	return []string{owner + ", which " + l.Name + " belongs to"}, nil
}

// takesPackets are the kinds of links that may take packets away from the link that
// they are upon. (VLANs do not: only packets with a tag are theirs.)
var takesPackets = map[string]bool{"macvlan": true, "macvtap": true, "ipvlan": true, "ipvtap": true, "macsec": true}

// upperLinks finds such links upon this one.
func (l arrival) upperLinks() (seen []string, err error) {
	links, err := dump(netlink.LinkList)
	if err != nil {
		return nil, fmt.Errorf("list links: %w", err)
	}
	for _, upper := range links {
		a := upper.Attrs()
		if takesPackets[upper.Type()] && a.ParentIndex == l.Index && a.NetNsID < 0 { // else upon one of another namespace
			seen = append(seen, upper.Type()+" "+a.Name+", which is upon "+l.Name)
		}
	}
	return seen, nil
}
