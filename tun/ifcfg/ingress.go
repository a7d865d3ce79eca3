package ifcfg

// Ingress names what looks at an IPv4 packet for this host that arrives on a link,
// after the tcx programs of traffic control there and before a raw socket, and so
// does not see one that such a program takes away:
//
//   - what the link hands its packets to first: a bridge, bond, team or VRF that it
//     belongs to, or a macvlan, ipvlan or MACsec interface upon it. One of another
//     network namespace does not show, and does not count: it takes no packet for
//     an address of the link itself, unless it is a macvlan that takes all (passthru);
//   - other tcx programs at the ingress of the link than those whose numbers except
//     has, and an ingress or clsact queueing discipline there, with filters or
//     without;
//   - netfilter's ingress hook of the link, its IPv4 hooks where packets arrive for
//     this host (prerouting, input), SELinux and Smack, which judge once more at the
//     socket, and whatever else Egress counts as a hook;
//   - IPsec policies, and a default policy that blocks;
//   - BPF programs of the cgroup of this process that see what its sockets receive,
//     or that change them when they are made;
//   - routing rules that choose by protocol or port.
//
// These are no watchers, and are not looked for: XDP programs and packet sockets of
// all protocols (tcpdump), which come before; packet sockets of IPv4 alone and
// other raw sockets, which get copies; BPF programs that trace the kernel; all else
// of routing. So whoever takes packets away by a tcx program does without two
// checks: that the host has the destination address, and, by the kernel's
// rp_filter (RFC 3704), that the way back to the source leaves by the same link.
//
// What is found first is enough: the list is not all that there is. It is empty
// when nothing looks at such packets. An error says that there is no telling, as
// with Egress, which says what asking needs. Asking for tcx programs needs the
// same as for programs of the cgroup, wherever the kernel has them (Linux 6.6).
func Ingress(link int, except ...uint32) (seen []string, err error) { return ingress(link, except) }
