// The kernel's own way through a 6in4 tunnel (RFC 4213): two programs of traffic
// control that carry the plain packets, and leave every other one to the engine.
//
// sixin4_out runs where packets enter the TUN. It puts them into their outer
// header and hands them to the link. sixin4_in runs where packets come in from the
// link. It takes them out and hands them to the TUN as received. Packets that the
// stack has merged, or not cut yet, pass whole in both directions.
//
// Both change nothing until they have decided to carry a packet: what they do not
// carry goes on as if they were not there (TCX_NEXT). Package documentation in
// path.go says which packets are plain, and why no others are.
#include "kernel.h"

enum {
	ETH_LEN = 14,
	IPV4_LEN = 20,
	OUTER_LEN = ETH_LEN + IPV4_LEN,
	IPV6_LEN = 40,
	L4_LEN = 8, // what is looked at of every upper layer header
	MOST_TOTAL = 65535,
	MOST_UNCUT = 15000, // the kernel lets no program make a packet longer than 16 KiB, which is not to be cut
	PROTO_TCP = 6,
	PROTO_UDP = 17,
	PROTO_IPV6 = 41,
	PROTO_ICMPV6 = 58,
	ECHO_REQUEST = 128,
	ECHO_REPLY = 129,
	TCP_SYN = 0x02,
	ECN = 0x03,
	CE = 0x03,
	MOST_OURS = 64,
	MOST_HERE = 16,
};

struct address {
	u64 half[2]; // in the order of the packet
};

struct ethernet {
	u8 to[6], from[6];
	u16 type;
};

struct ipv4 {
	u8 version, tos;
	u16 total, id, fragment;
	u8 ttl, protocol;
	u16 sum;
	u32 src, dst;
};

// outer is all that stands in front of the inner packet on the link.
struct outer {
	u16 align;
	struct ethernet link;
	struct ipv4 ip;
};

struct ipv6 {
	u8 first[4]; // version, traffic class, flow label
	u16 payload;
	u8 next, hops;
	struct address src, dst;
};

struct prefix {
	struct address value, mask;
};

// flow is struct flow of load_linux.go. It is set before the programs are loaded
// and never changes; a change loads them again.
volatile const struct {
	u32 device, link; // interface indices
	u32 src, dst;     // outer addresses, as out; in the order of the packet
	u32 mtu;          // of the tunnel
	u16 df;           // 0 or Don't Fragment, in the order of the packet
	u8 tos, tos_mask; // outer TOS = tos | inner class & tos_mask
	u8 ttl, hops_mask;
	u8 ethernet[ETH_LEN]; // the header to the next hop
	u32 ours_len, here_len;
	struct prefix ours[MOST_OURS];  // sources that nobody may use
	struct address here[MOST_HERE]; // destinations that are this host
} flow;

struct counters {
	u64 tx_packets, tx_bytes, rx_packets, rx_bytes;
	u64 heard;            // when the last packet came in, nanoseconds since boot
	u64 tx_lost, rx_lost; // packets that could not be carried to the end
	u64 tx_whole, rx_whole; // super-packets
};

struct {
	field_uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	field_uint(max_entries, 1);
	field_type(key, u32);
	field_type(value, struct counters);
} counters SEC(".maps");

// ids counts identifications, as encap.IDs does.
struct {
	field_uint(type, BPF_MAP_TYPE_ARRAY);
	field_uint(max_entries, 1);
	field_type(key, u32);
	field_type(value, u64);
} ids SEC(".maps");

// inner is what both programs read of an inner packet.
struct inner {
	struct ipv6 ip;
	u8 l4[L4_LEN];
};

// plain_address tells ordinary global unicast (2000::/3) but 6to4 from all else.
static inline int plain_address(const struct address *a)
{
	const u8 *b = (const u8 *)a;
	return b[0] >> 5 == 1 && !(b[0] == 0x20 && b[1] == 0x02);
}

// plain_inner checks the inner packet p of len bytes that starts at byte at, and
// returns the length of its headers, 0 when it is not plain.
static inline u32 plain_inner(struct __sk_buff *skb, u32 at, const struct inner *p, u32 len)
{
	u8 tcp[2]; // data offset, flags
	u32 headers;

	if (p->ip.first[0] >> 4 != 6 || ntohs(p->ip.payload) + IPV6_LEN != len)
		return 0;
	if (!plain_address(&p->ip.src) || !plain_address(&p->ip.dst))
		return 0;
	switch (p->ip.next) {
	case PROTO_UDP:
		return IPV6_LEN + L4_LEN;
	case PROTO_ICMPV6:
		return p->l4[0] == ECHO_REQUEST || p->l4[0] == ECHO_REPLY ? IPV6_LEN + L4_LEN : 0;
	case PROTO_TCP: // the engine sees every SYN
		if (skb_load_bytes(skb, at + IPV6_LEN + 12, tcp, sizeof(tcp)) || tcp[1] & TCP_SYN)
			return 0;
		headers = IPV6_LEN + (tcp[0] >> 4) * 4;
		return headers >= IPV6_LEN + 20 && headers <= len ? headers : 0;
	}
	return 0;
}

// segments returns how many packets one of len bytes, headers included, is.
static inline u32 segments(const struct __sk_buff *skb, u32 len, u32 headers)
{
	u32 size = skb->gso_size;

	if (size == 0 || len <= headers + size)
		return 1;
	return (len - headers + size - 1) / size;
}

static inline struct counters *count(void)
{
	u32 zero = 0;
	return map_lookup_elem(&counters, &zero);
}

// next_id takes n identifications in a row, none of which is 0, and returns the
// first. A row that does not fit before 65536 begins anew.
static inline u16 next_id(u32 n)
{
	u32 zero = 0, first = 1;
	u64 *used = map_lookup_elem(&ids, &zero);

	if (!used)
		return first;
	first = __sync_fetch_and_add(used, n) % 65535 + 1;
	if (first + n > 65536)
		first = __sync_fetch_and_add(used, n) % 65535 + 1;
	return first + n > 65536 ? 1 : first;
}

// header_sum is the Internet checksum over an IPv4 header without options.
static inline u16 header_sum(const struct ipv4 *h)
{
	const u16 *w = (const u16 *)h;
	u32 sum = 0;

#pragma unroll
	for (int i = 0; i < IPV4_LEN / 2; i++)
		sum += w[i];
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return ~sum;
}

// put_headers writes the outer header, and the one of the link in front of it.
static inline long put_headers(struct __sk_buff *skb, const struct ipv6 *p, u32 len, u32 n)
{
	struct outer h = {};
	u8 class = p->first[0] << 4 | p->first[1] >> 4;

#pragma unroll
	for (int i = 0; i < ETH_LEN; i++)
		((u8 *)&h.link)[i] = flow.ethernet[i];
	h.ip.version = 0x45;
	h.ip.tos = flow.tos | (class & flow.tos_mask);
	h.ip.total = htons(len + IPV4_LEN);
	h.ip.id = htons(next_id(n));
	h.ip.fragment = flow.df;
	h.ip.ttl = flow.ttl | (p->hops & flow.hops_mask);
	h.ip.protocol = PROTO_IPV6;
	h.ip.src = flow.src;
	h.ip.dst = flow.dst;
	h.ip.sum = header_sum(&h.ip);
	return skb_store_bytes(skb, 0, &h.link, OUTER_LEN, 0);
}

SEC("tcx/egress") int sixin4_out(struct __sk_buff *skb)
{
	u32 len = skb->len, longest = len, headers, n;
	struct counters *c = count();
	struct inner p;

	if (!c || skb->protocol != htons(0x86dd) || skb_load_bytes(skb, 0, &p, sizeof(p)))
		return TCX_NEXT;
	headers = plain_inner(skb, 0, &p, len);
	if (!headers || len > MOST_TOTAL - IPV4_LEN)
		return TCX_NEXT;
	n = segments(skb, len, headers);
	if (n > 1)
		longest = headers + skb->gso_size;
	else if (len > MOST_UNCUT)
		return TCX_NEXT;
	if (longest > flow.mtu)
		return TCX_NEXT;

	if (skb_adjust_room(skb, IPV4_LEN, BPF_ADJ_ROOM_MAC, BPF_F_ADJ_ROOM_ENCAP_L3_IPV4 | BPF_F_ADJ_ROOM_FIXED_GSO))
		return TCX_NEXT;
	if (skb_change_head(skb, ETH_LEN, 0) || put_headers(skb, &p.ip, len, n)) {
		c->tx_lost += n;
		return TCX_DROP;
	}
	c->tx_packets += n;
	c->tx_bytes += len + (n - 1) * headers;
	c->tx_whole += n > 1;
	return redirect(flow.link, 0);
}

// plain_outer checks the headers around an inner packet.
static inline int plain_outer(const struct __sk_buff *skb, const struct outer *o)
{
	const struct ipv4 *h = &o->ip;

	return skb->pkt_type == PACKET_HOST && !skb->vlan_present && o->link.type == htons(0x0800) &&
	       h->version == 0x45 && h->protocol == PROTO_IPV6 && h->src == flow.dst && h->dst == flow.src &&
	       !(h->fragment & htons(0xbfff)) && ntohs(h->total) + ETH_LEN == skb->len && header_sum(h) == 0;
}

// allowed tells whether a packet is for this host, from a source that is not ours.
static inline int allowed(const struct ipv6 *p)
{
	int here = 0;

	for (u32 i = 0; i < flow.here_len && i < MOST_HERE; i++)
		here |= p->dst.half[0] == flow.here[i].half[0] && p->dst.half[1] == flow.here[i].half[1];
	if (!here)
		return 0;
	for (u32 i = 0; i < flow.ours_len && i < MOST_OURS; i++)
		if ((p->src.half[0] & flow.ours[i].mask.half[0]) == flow.ours[i].value.half[0] &&
		    (p->src.half[1] & flow.ours[i].mask.half[1]) == flow.ours[i].value.half[1])
			return 0;
	return 1;
}

// ecn_out is what leaves the tunnel, by inner and outer ECN field (RFC 6040,
// Section 4.2, Figure 4): 0 Not-ECT, 1 ECT(1), 2 ECT(0), 3 CE; -1 drops, which is
// left to the engine.
static inline int ecn_out(u32 inner, u32 outer)
{
	if (inner == 0)
		return outer == CE ? -1 : 0;
	if (outer == CE || (inner == 2 && outer == 1))
		return outer;
	return inner;
}

SEC("tcx/ingress") int sixin4_in(struct __sk_buff *skb)
{
	u32 len = skb->len - OUTER_LEN, headers, n;
	struct outer h;
	struct inner p;
	struct counters *c = count();
	int ecn, was;

	if (!c || skb->protocol != htons(0x0800) || skb_load_bytes(skb, 0, &h.link, OUTER_LEN))
		return TCX_NEXT;
	if (!plain_outer(skb, &h) || skb_load_bytes(skb, OUTER_LEN, &p, sizeof(p)))
		return TCX_NEXT;
	headers = plain_inner(skb, OUTER_LEN, &p, len);
	if (!headers || !allowed(&p.ip))
		return TCX_NEXT;
	was = p.ip.first[1] >> 4 & ECN;
	ecn = ecn_out(was, h.ip.tos & ECN);
	if (ecn < 0)
		return TCX_NEXT;
	n = segments(skb, len, headers);

	if (skb_adjust_room(skb, -IPV4_LEN, BPF_ADJ_ROOM_MAC, BPF_F_ADJ_ROOM_DECAP_L3_IPV6 | BPF_F_ADJ_ROOM_FIXED_GSO))
		return TCX_NEXT;
	if (ecn != was) {
		p.ip.first[1] = (p.ip.first[1] & ~(ECN << 4)) | ecn << 4;
		if (skb_store_bytes(skb, ETH_LEN, p.ip.first, 4, BPF_F_RECOMPUTE_CSUM)) {
			c->rx_lost += n;
			return TCX_DROP;
		}
	}
	c->rx_packets += n;
	c->rx_bytes += len + (n - 1) * headers;
	c->rx_whole += n > 1;
	c->heard = ktime_get_ns();
	return redirect(flow.device, BPF_F_INGRESS);
}

char terms[] SEC("license") = "MIT";
