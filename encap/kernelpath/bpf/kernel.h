// What the programs use of the kernel's interface to BPF programs of traffic
// control (linux/bpf.h), so that they build with nothing but a compiler.
#pragma once

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

#define SEC(name) __attribute__((section(name), used))
#define inline inline __attribute__((always_inline))

// The layout of maps, for the loader to read in the debugging information.
#define field_uint(name, value) int(*name)[value]
#define field_type(name, value) typeof(value) *name

enum {
	BPF_MAP_TYPE_HASH = 1,
	BPF_MAP_TYPE_ARRAY = 2,
	BPF_MAP_TYPE_PERCPU_ARRAY = 6,
	BPF_MAP_TYPE_LPM_TRIE = 11,
	BPF_F_NO_PREALLOC = 1 << 0,
};

enum { TCX_NEXT = -1, TCX_DROP = 2 };

enum { PACKET_HOST = 0 };

enum {
	BPF_F_RECOMPUTE_CSUM = 1 << 0,
	BPF_F_INGRESS = 1 << 0,
	BPF_ADJ_ROOM_MAC = 1,
	BPF_F_ADJ_ROOM_FIXED_GSO = 1 << 0,
	BPF_F_ADJ_ROOM_ENCAP_L3_IPV4 = 1 << 1,
	BPF_F_ADJ_ROOM_ENCAP_L4_UDP = 1 << 4,
	BPF_F_ADJ_ROOM_DECAP_L3_IPV6 = 1 << 8,
};

// The packet. Only the fields with names we use are declared as what they are.
struct __sk_buff {
	u32 len;
	u32 pkt_type;
	u32 mark, queue_mapping;
	u32 protocol;
	u32 vlan_present;
	u32 vlan_tci, vlan_proto, priority, ingress_ifindex, ifindex, tc_index, cb[5];
	u32 hash, tc_classid, data, data_end, napi_id, family, remote_ip4, local_ip4;
	u32 remote_ip6[4], local_ip6[4], remote_port, local_port, data_meta;
	u64 flow_keys, tstamp;
	u32 wire_len, gso_segs;
	u64 sk;
	u32 gso_size;
};

static void *(*map_lookup_elem)(void *map, const void *key) = (void *)1;
static u64 (*ktime_get_ns)(void) = (void *)5;
static long (*skb_store_bytes)(struct __sk_buff *, u32 at, const void *from, u32 len, u64 flags) = (void *)9;
static long (*redirect)(u32 link, u64 flags) = (void *)23;
static long (*skb_load_bytes)(const struct __sk_buff *, u32 at, void *to, u32 len) = (void *)26;
static long (*skb_change_head)(struct __sk_buff *, u32 len, u64 flags) = (void *)43;
static long (*skb_adjust_room)(struct __sk_buff *, int len, u32 mode, u64 flags) = (void *)50;
static long (*redirect_neigh)(u32 link, const void *hop, int len, u64 flags) = (void *)152;

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "written for little-endian machines"
#endif
#define htons(x) ((u16)__builtin_bswap16((u16)(x)))
#define ntohs(x) htons(x)
