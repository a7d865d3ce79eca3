package ifcfg

// Egress names what looks at an IPv4 packet that a program of this host sends by
// a raw socket, and does not see one that is handed to a link by a packet socket:
//
//   - netfilter hooks where locally made packets leave (output, postrouting): the
//     chains of nftables and iptables, address translation, connection tracking,
//     IPVS, the hooks of SELinux and Smack, BPF programs. The hook of AppArmor does
//     not count: it acts only on what another hook has marked;
//   - IPsec policies, and a default policy that blocks;
//   - BPF programs of the cgroup of this process that see what leaves, or that
//     change sockets when they are made;
//   - routing rules that choose by protocol or port, of which NextHopVia knows
//     nothing.
//
// Traffic control and netfilter's egress hook of a link see both, and are not
// looked for. What is found first is enough: the list is not all that there is.
// It is empty when nothing looks at such packets.
//
// The kernel lists its hooks from Linux 5.14 on, when built with
// CONFIG_NETFILTER_NETLINK_HOOK. Where it does not, whatever can make one is asked
// for itself. Then more is taken for seeing packets: any chain of nftables for IPv4
// or bridges, at whatever hook, since its rules may turn connection tracking on; a
// table of iptables without rules; BPF netfilter programs of other namespaces.
// And less is known: of connection tracking that neither of the two has turned on
// only that it knows a connection, of BPF netfilter programs nothing without
// CAP_SYS_ADMIN in the initial user namespace, and nothing of hooks of modules that
// are not part of the kernel.
//
// An error says that there is no telling, so that something may look at them.
// Asking needs CAP_NET_ADMIN, and where the kernel does not list its hooks also the
// right to read the files under /proc/net and /sys/module; asking for BPF programs
// of the cgroup needs CAP_NET_ADMIN in the initial user namespace, and a system
// call filter that lets bpf(2) pass, unless the machine has never mounted the
// cgroup2 file system that such programs hang on. Where no mounted one shows the
// cgroup, it needs CAP_SYS_ADMIN besides, and Linux 5.2. The first call may load the
// module nf_tables, on a machine that has no list of what is built into the kernel
// (modules.builtin) to tell that it is one.
func Egress() (seen []string, err error) { return egress() }
