// The kernel's own way through a tunnel, of protocol 41 (RFC 4213) or in UDP
// (RFC 5572, v6udpv4): two programs of traffic control that carry the plain packets,
// and leave every other one to the engine.
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
	UDP_LEN = 8,
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
	MOST_BLOCKED = 16,
	MOST_PREFIXES = 2,
};

struct address {
	u32 word[4]; // in the order of the packet
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

struct udp {
	u16 src, dst, len, sum;
};

// outer is all that stands in front of the inner packet on the link. A tunnel of
// protocol 41 has no UDP header.
struct outer {
	u16 align;
	struct ethernet link;
	struct ipv4 ip;
	struct udp udp;
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

// ends are where the datagrams of a tunnel come from and go to, as out; in the order
// of the packet.
struct ends {
	u32 src, dst;
	u16 src_port, dst_port; // 0: protocol 41
};

// way is how packets to a far end are sent.
struct way {
	struct ends ends;
	u32 link;  // interface index
	u32 mtu;   // of the tunnel
	u32 trial; // truth value: only our own echo requests
};

struct port {
	u16 number; // in the order of the packet
	u8 protocol, zero;
};

// flow is struct flow of load_linux.go. It is set before the programs are loaded
// and never changes; a change loads them again.
volatile const struct {
	u32 device;     // interface index
	struct way way; // to the one far end; a hub has many, in maps
	u16 df;         // 0 or Don't Fragment, in the order of the packet
	u8 tos, tos_mask; // outer TOS = tos | inner class & tos_mask
	u8 ttl, hops_mask;
	u8 hub, udp;          // truth values
	u8 ethernet[ETH_LEN]; // the header to the next hop; not of a hub
	u16 asks; // identifier of our own echo requests, in the order of the packet
	u32 ours_len, here_len, blocked_len;
	struct prefix ours[MOST_OURS];  // sources that nobody may use
	struct address here[MOST_HERE]; // destinations that are this host
	struct port blocked[MOST_BLOCKED]; // destinations that nobody may send to
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

// The far ends of a hub, by where their datagrams come from and go to.
struct peer {
	struct prefix prefixes[MOST_PREFIXES]; // that it may send from
	u64 tx_packets, tx_bytes, rx_packets, rx_bytes;
	u64 heard; // nanoseconds since boot
	u64 ids;   // as the map of that name
};

struct {
	field_uint(type, BPF_MAP_TYPE_HASH);
	field_uint(map_flags, BPF_F_NO_PREALLOC);
	field_uint(max_entries, 1 << 16);
	field_type(key, struct ends);
	field_type(value, struct peer);
} peers SEC(".maps");

// And by what is reached through them.
struct route {
	u32 bits; // of the prefix
	struct address dst;
};

struct {
	field_uint(type, BPF_MAP_TYPE_LPM_TRIE);
	field_uint(map_flags, BPF_F_NO_PREALLOC);
	field_uint(max_entries, 1 << 17);
	field_type(key, struct route);
	field_type(value, struct way);
} routes SEC(".maps");

// ids counts identifications, as encap.IDs does, for the one far end.
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

// outer_len is how long the outer headers are.
static inline u32 outer_len(void) { return flow.udp ? IPV4_LEN + UDP_LEN : IPV4_LEN; }

// load_outer reads them and the one of the link.
static inline long load_outer(const struct __sk_buff *skb, struct outer *h)
{
	if (flow.udp)
		return skb_load_bytes(skb, 0, &h->link, ETH_LEN + IPV4_LEN + UDP_LEN);
	return skb_load_bytes(skb, 0, &h->link, ETH_LEN + IPV4_LEN);
}

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
	case PROTO_UDP: // those merged in a datagram nobody could cut again
		return flow.udp && skb->gso_size ? 0 : IPV6_LEN + L4_LEN;
	case PROTO_ICMPV6: // the engine of a tunnel in UDP sees the answers to its own requests
		if (flow.udp)
			return p->l4[0] == ECHO_REQUEST && *(u16 *)(p->l4 + 4) == flow.asks ? IPV6_LEN + L4_LEN : 0;
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
static inline u16 next_id(u64 *used, u32 n)
{
	u32 first;

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

// find_way tells how the packet p is sent, 0 when it is the engine's.
static inline int find_way(const struct __sk_buff *skb, const struct ipv6 *p, struct way *w)
{
	struct route key = {.bits = 128, .dst = p->dst};
	const struct way *found;

	if (!flow.hub) { // field by field: the compiler takes a copy of the whole to be zeros
		w->ends.src = flow.way.ends.src;
		w->ends.dst = flow.way.ends.dst;
		w->ends.src_port = flow.way.ends.src_port;
		w->ends.dst_port = flow.way.ends.dst_port;
		w->link = flow.way.link;
		w->mtu = flow.way.mtu;
		w->trial = flow.way.trial;
		return 1;
	}
	if (skb->ingress_ifindex == flow.device) // from one tunnel to another
		return 0;
	found = map_lookup_elem(&routes, &key);
	if (!found)
		return 0;
	*w = *found;
	return 1;
}

// put_headers writes the outer headers and the one of the link in front of them, which
// for a hub the kernel makes anew.
static inline long put_headers(struct __sk_buff *skb, const struct way *w, const struct ipv6 *p, u32 len, u16 id)
{
	struct outer h = {};
	u8 class = p->first[0] << 4 | p->first[1] >> 4;

#pragma unroll
	for (int i = 0; i < ETH_LEN; i++)
		((u8 *)&h.link)[i] = flow.ethernet[i];
	h.ip.version = 0x45;
	h.ip.tos = flow.tos | (class & flow.tos_mask);
	h.ip.total = htons(len + outer_len());
	h.ip.id = htons(id);
	h.ip.fragment = flow.df;
	h.ip.ttl = flow.ttl | (p->hops & flow.hops_mask);
	h.ip.protocol = flow.udp ? PROTO_UDP : PROTO_IPV6;
	h.ip.src = w->ends.src;
	h.ip.dst = w->ends.dst;
	h.ip.sum = header_sum(&h.ip);
	h.udp.src = w->ends.src_port;
	h.udp.dst = w->ends.dst_port;
	h.udp.len = htons(len + UDP_LEN);
	if (flow.udp)
		return skb_store_bytes(skb, 0, &h.link, ETH_LEN + IPV4_LEN + UDP_LEN, 0);
	return skb_store_bytes(skb, 0, &h.link, ETH_LEN + IPV4_LEN, 0);
}

static inline void count_out(struct counters *c, struct peer *peer, u32 packets, u64 bytes)
{
	c->tx_packets += packets;
	c->tx_bytes += bytes;
	c->tx_whole += packets > 1;
	if (peer) {
		__sync_fetch_and_add(&peer->tx_packets, packets);
		__sync_fetch_and_add(&peer->tx_bytes, bytes);
	}
}

SEC("tcx/egress") int sixin4_out(struct __sk_buff *skb)
{
	u32 len = skb->len, longest = len, zero = 0, headers, n;
	u64 *used = 0, l4 = flow.udp ? BPF_F_ADJ_ROOM_ENCAP_L4_UDP : 0;
	struct counters *c = count();
	struct peer *peer = 0;
	struct inner p;
	struct way w;

	if (!c || skb->protocol != htons(0x86dd) || skb_load_bytes(skb, 0, &p, sizeof(p)))
		return TCX_NEXT;
	headers = plain_inner(skb, 0, &p, len);
	if (!headers || len > MOST_TOTAL - outer_len() || !find_way(skb, &p.ip, &w))
		return TCX_NEXT;
	if (w.trial && p.ip.next != PROTO_ICMPV6)
		return TCX_NEXT;
	n = segments(skb, len, headers);
	if (n > 1)
		longest = headers + skb->gso_size;
	else if (len > MOST_UNCUT)
		return TCX_NEXT;
	if (longest > w.mtu)
		return TCX_NEXT;
	if (!flow.hub)
		used = map_lookup_elem(&ids, &zero);
	else if ((peer = map_lookup_elem(&peers, &w.ends)))
		used = &peer->ids;
	if (!used)
		return TCX_NEXT;

	if (skb_adjust_room(skb, outer_len(), BPF_ADJ_ROOM_MAC, BPF_F_ADJ_ROOM_ENCAP_L3_IPV4 | l4 | BPF_F_ADJ_ROOM_FIXED_GSO))
		return TCX_NEXT;
	if (skb_change_head(skb, ETH_LEN, 0) || put_headers(skb, &w, &p.ip, len, next_id(used, n))) {
		c->tx_lost += n;
		return TCX_DROP;
	}
	count_out(c, peer, n, len + (n - 1) * headers);
	if (flow.hub)
		return redirect_neigh(w.link, 0, 0, 0);
	return redirect(w.link, 0);
}

// plain_outer checks the headers around an inner packet. A datagram has no checksum:
// those with one come from a far end whose engine sends, with others that only our engine
// can take, and shall not overtake them.
static inline int plain_outer(const struct __sk_buff *skb, const struct outer *o)
{
	const struct ipv4 *h = &o->ip;

	if (skb->pkt_type != PACKET_HOST || skb->vlan_present || o->link.type != htons(0x0800) || h->version != 0x45 ||
	    h->fragment & htons(0xbfff) || ntohs(h->total) + ETH_LEN != skb->len || header_sum(h) != 0)
		return 0;
	if (!flow.hub && (h->src != flow.way.ends.dst || h->dst != flow.way.ends.src))
		return 0;
	if (!flow.udp)
		return h->protocol == PROTO_IPV6;
	if (h->protocol != PROTO_UDP || o->udp.sum != 0 || ntohs(o->udp.len) + IPV4_LEN != ntohs(h->total))
		return 0;
	return flow.hub || (o->udp.src == flow.way.ends.dst_port && o->udp.dst == flow.way.ends.src_port);
}

// within tells whether an address has a prefix.
static inline int within(const struct address *a, const volatile struct prefix *p)
{
	u32 other = 0;

#pragma unroll
	for (int i = 0; i < 4; i++)
		other |= (a->word[i] & p->mask.word[i]) ^ p->value.word[i];
	return other == 0;
}

// is_here tells whether an address is this host's.
static inline int is_here(const struct address *a)
{
	int here = 0;

	for (u32 i = 0; i < flow.here_len && i < MOST_HERE; i++)
		here |= a->word[0] == flow.here[i].word[0] && a->word[1] == flow.here[i].word[1] &&
			a->word[2] == flow.here[i].word[2] && a->word[3] == flow.here[i].word[3];
	return here;
}

// blocked tells whether nobody may send to where a packet of TCP or UDP goes.
static inline int blocked(const struct inner *p)
{
	int found = 0;

	for (u32 i = 0; i < flow.blocked_len && i < MOST_BLOCKED; i++)
		found |= flow.blocked[i].protocol == p->ip.next && flow.blocked[i].number == *(u16 *)(p->l4 + 2);
	return found;
}

// allowed tells whether a packet is from a source that is not ours. Of a hub, its peer
// has the prefix "its", which may be a part of what else would be.
static inline int allowed(const struct inner *p, const struct prefix *its)
{
	u32 wider;

	for (u32 i = 0; i < flow.ours_len && i < MOST_OURS; i++) {
		if (!within(&p->ip.src, &flow.ours[i]))
			continue;
		wider = 0;
		if (its) {
#pragma unroll
			for (int j = 0; j < 4; j++)
				wider |= its->mask.word[j] & ~flow.ours[i].mask.word[j];
		}
		if (!wider)
			return 0;
	}
	return 1;
}

// find_peer is the one of a hub's that a datagram is from, 0 if it may not send it.
static inline struct peer *find_peer(const struct outer *o, const struct inner *p)
{
	struct ends key = {o->ip.dst, o->ip.src, o->udp.dst, o->udp.src};
	struct peer *peer = map_lookup_elem(&peers, &key);

	if (!peer || blocked(p))
		return 0;
	for (u32 i = 0; i < MOST_PREFIXES; i++)
		if (within(&p->ip.src, &peer->prefixes[i]) && allowed(p, &peer->prefixes[i]))
			return peer;
	return 0;
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

static inline void count_in(struct counters *c, struct peer *peer, u32 packets, u64 bytes)
{
	c->rx_packets += packets;
	c->rx_bytes += bytes;
	c->rx_whole += packets > 1;
	c->heard = ktime_get_ns();
	if (!peer)
		return;
	__sync_fetch_and_add(&peer->rx_packets, packets);
	__sync_fetch_and_add(&peer->rx_bytes, bytes);
	peer->heard = c->heard;
}

SEC("tcx/ingress") int sixin4_in(struct __sk_buff *skb)
{
	u32 at = ETH_LEN + outer_len(), len = skb->len - at, headers, n;
	struct outer h;
	struct inner p;
	struct counters *c = count();
	struct peer *peer = 0;
	int ecn, was;

	if (!c || skb->protocol != htons(0x0800) || load_outer(skb, &h))
		return TCX_NEXT;
	if (!plain_outer(skb, &h) || skb_load_bytes(skb, at, &p, sizeof(p)))
		return TCX_NEXT;
	headers = plain_inner(skb, at, &p, len);
	if (!headers || !is_here(&p.ip.dst))
		return TCX_NEXT;
	if (flow.hub && !(peer = find_peer(&h, &p)))
		return TCX_NEXT;
	if (!flow.hub && !allowed(&p, 0))
		return TCX_NEXT;
	was = p.ip.first[1] >> 4 & ECN;
	ecn = ecn_out(was, h.ip.tos & ECN);
	if (ecn < 0)
		return TCX_NEXT;
	n = segments(skb, len, headers);

	if (skb_adjust_room(skb, -(int)outer_len(), BPF_ADJ_ROOM_MAC, BPF_F_ADJ_ROOM_DECAP_L3_IPV6 | BPF_F_ADJ_ROOM_FIXED_GSO))
		return TCX_NEXT;
	if (ecn != was) {
		p.ip.first[1] = (p.ip.first[1] & ~(ECN << 4)) | ecn << 4;
		if (skb_store_bytes(skb, ETH_LEN, p.ip.first, 4, BPF_F_RECOMPUTE_CSUM)) {
			c->rx_lost += n;
			return TCX_DROP;
		}
	}
	count_in(c, peer, n, len + (n - 1) * headers);
	return redirect(flow.device, BPF_F_INGRESS);
}

char terms[] SEC("license") = "MIT";
