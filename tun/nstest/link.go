package nstest

// Link joins two namespaces by a veth pair: aName in a, bName in b, both up and
// sending. The names have 1 to 15 bytes. a and b may be the same.
func Link(a *NS, aName string, b *NS, bName string) error { return link(a, aName, b, bName) }

// AddAddr gives link an address with its prefix length, such as
// "192.0.2.1/24" or "2001:db8::1/64", without duplicate address detection. When
// the link is up, packets to the address are delivered when AddAddr returns.
func (ns *NS) AddAddr(link, prefix string) error { return ns.addAddr(link, prefix) }

// DelAddr takes away what AddAddr gave.
func (ns *NS) DelAddr(link, prefix string) error { return ns.delAddr(link, prefix) }

// AddRoute adds a route to the prefix dst, such as "198.51.100.0/24" or "::/0".
// via is the address of a gateway or the name of an interface.
func (ns *NS) AddRoute(dst, via string) error { return ns.addRoute(dst, via) }

// DelRoute takes away what AddRoute added.
func (ns *NS) DelRoute(dst, via string) error { return ns.delRoute(dst, via) }

// SetMTU sets the MTU of link in bytes.
func (ns *NS) SetMTU(link string, mtu int) error { return ns.setMTU(link, mtu) }

// SetUp brings link up, and waits until it sends when it has a carrier.
func (ns *NS) SetUp(link string) error { return ns.setUp(link, true) }

// SetDown takes link down. The kernel removes its IPv6 addresses and its routes.
func (ns *NS) SetDown(link string) error { return ns.setUp(link, false) }

// DelLink removes link, and with a veth its other end.
func (ns *NS) DelLink(link string) error { return ns.delLink(link) }

// Sysctl sets a parameter of the namespace, named by its path under /proc/sys,
// such as "net/ipv6/conf/all/forwarding".
func (ns *NS) Sysctl(path, value string) error { return ns.sysctl(path, value) }

// Stats are the kernel's counters of a link since it was made.
type Stats struct {
	RxPackets, TxPackets uint64
	RxBytes, TxBytes     uint64
	RxErrors, TxErrors   uint64
	RxDropped, TxDropped uint64
}

// LinkStats returns the counters of link.
func (ns *NS) LinkStats(link string) (Stats, error) { return ns.linkStats(link) }

// SetFeature turns an offload of link on or off, as `ethtool -K` does. feature
// is a name of the kernel's own list, such as "rx-udp-gro-forwarding",
// "rx-gro-list", "tx-udp-segmentation" or "tx-checksum-ip-generic", or one of
// the short names "gro", "gso", "tso", "sg", "tx" and "rx", of which "tso", "tx"
// and "sg" stand for every feature of their kind that the device can change.
// A feature that does not take the value is an error that names it.
func (ns *NS) SetFeature(link, feature string, on bool) error {
	return ns.setFeature(link, feature, on)
}

// Features returns the offloads that the kernel knows, by the kernel's own
// names, and whether each is active on link.
func (ns *NS) Features(link string) (map[string]bool, error) { return ns.features(link) }

// SetGRODefer lets GRO on link collect packets for longer: flushTimeout is in
// nanoseconds, deferIRQs the number of empty polls before interrupts are turned
// on again. Both 0 is the kernel's default. The kernel leaves this to the
// machine's root: in a user namespace it fails with EPERM
// (see NeedMachine).
func (ns *NS) SetGRODefer(link string, flushTimeout, deferIRQs int) error {
	return ns.setGRODefer(link, flushTimeout, deferIRQs)
}
