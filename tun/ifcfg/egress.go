package ifcfg

// Egress names what looks at an IPv4 packet that a program of this host sends by
// a raw socket, and does not see one that is handed to a link by a packet socket:
//
//   - netfilter hooks where locally made packets leave (output, postrouting): the
//     chains of nftables and iptables, address translation, connection tracking,
//     the hooks of security modules;
//   - IPsec policies, and a default policy that blocks;
//   - BPF programs of the cgroup of this process that see what leaves, or that
//     change sockets when they are made;
//   - routing rules that choose by protocol or port, of which NextHop knows
//     nothing.
//
// Traffic control and netfilter's egress hook of a link see both, and are not
// looked for. What is found first is enough: the list is not all that there is.
// It is empty when nothing looks at such packets.
//
// An error says that there is no telling, so that something may look at them. It
// is errors.ErrUnsupported where the kernel does not list its hooks (it does from
// Linux 5.14 on, when built with CONFIG_NETFILTER_NETLINK_HOOK). Asking needs
// CAP_NET_ADMIN; asking for BPF programs needs it in the initial user namespace,
// and a system call filter that lets bpf(2) pass, unless the machine has never
// mounted the cgroup2 file system that such programs hang on.
func Egress() (seen []string, err error) { return egress() }
