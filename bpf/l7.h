/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
/* First bytes: a packet that begins a request or an answer leaves as a payload record. Which request an answer belongs to is found in user space,
 * by sequence numbers: to remember it here would cost a lookup for each packet, and an answer after a lost record would go to the wrong request. */
#pragma once
#include "http_words.h"
#include "kernel.h"
#include "maps.h"
#include "payload.h"

/* What a TCP packet carries. */
struct segment {
	u32 offset; /* of the payload in the packet */
	u32 length; /* of the payload */
	u32 sequence;
	u32 acknowledged;
	bool egress;
};

static __always_inline bool is_dns_port(u16 port)
{
	return port && (port == DNS_PORT_0 || port == DNS_PORT_1 || port == DNS_PORT_2 || port == DNS_PORT_3);
}

static __always_inline void fill_socket(struct payload *head, struct __sk_buff *skb, struct bpf_sock *sk, bool just_sent)
{
	void *tcp = bpf_skc_to_tcp_sock(sk); /* one call, and loads: cheaper than a call for each number */
	u64 cookie = tcp ? FIELD(u64, tcp, OFFSET_sock_cookie) : 0;

	/* TCP has just asked for the time in order to send (tcp_write_xmit) */
	head->time_ns = tcp && just_sent ? FIELD(u64, tcp, OFFSET_tcp_clock) : bpf_ktime_get_ns();
	if (tcp && cookie) {
		head->conn_id = cookie;
		head->cgroup_id = cgroup_of(tcp);
	} else { /* nobody has asked for its cookie so far */
		head->conn_id = bpf_get_socket_cookie(skb);
		head->cgroup_id = bpf_skb_cgroup_id(skb);
	}
	if (sk->family == AF_INET6) {
		head->local_addr.half[0] = (u64)sk->src_ip6[1] << 32 | sk->src_ip6[0];
		head->local_addr.half[1] = (u64)sk->src_ip6[3] << 32 | sk->src_ip6[2];
		head->remote_addr.half[0] = (u64)sk->dst_ip6[1] << 32 | sk->dst_ip6[0];
		head->remote_addr.half[1] = (u64)sk->dst_ip6[3] << 32 | sk->dst_ip6[2];
	} else {
		head->local_addr = mapped(sk->src_ip4);
		head->remote_addr = mapped(sk->dst_ip4);
	}
	head->local_port = sk->src_port;
	head->remote_port = bpf_ntohs(sk->dst_port);
	head->protocol = IPPROTO_TCP;
	head->pid = 0;
	head->comm[0] = 0;
	head->comm[1] = 0;
}

static __always_inline void fill_segment(struct payload *head, struct segment *segment, u8 kind, u32 length)
{
	head->sequence = segment->sequence;
	head->acknowledged = segment->acknowledged;
	head->length = length;
	head->number = 0;
	head->netns = 0;
	head->kind = kind;
	head->sent = segment->egress;
	head->origin = ORIGIN_PACKET;
}

/* A lane of this CPU, while a program has it. */
struct taken {
	struct lane *first; /* of short payloads of this CPU: it counts the programs */
	struct lane *lane;
	u32 depth;
};

static __always_inline struct lane *first_lane(void)
{
	u32 at = bpf_get_smp_processor_id() * LANES;

	return short_lanes.lookup(&at);
}

static __always_inline bool begin_taking(struct taken *taken)
{
	if (!taken->first)
		return false;
	taken->depth = taken->first->busy;
	if (taken->depth >= LANES) {
		count(LOST_PAYLOAD);
		return false;
	}
	taken->first->busy = taken->depth + 1;
	return true;
}

static __always_inline void end_taking(struct taken *taken)
{
	taken->first->busy = taken->depth;
}

/* What pairs them is the same for a request, its answer, and at both ends: they leave all or not at all. */
static __always_inline bool sampled_out(struct taken *taken, u32 pairing)
{
	if (!is_left_out(pairing, taken->first->left_out))
		return false;
	count(SAMPLED_OUT);
	return true;
}

/* The slot that is next in the lane; 0 if user space has not given any back. */
static __always_inline struct short_payload *next_short(struct taken *taken)
{
	u32 cpu = bpf_get_smp_processor_id(), at = cpu * LANES + taken->depth;
	u32 slots = taken->depth ? SECOND_SLOTS : SHORT_SLOTS;

	taken->lane = taken->depth ? short_lanes.lookup(&at) : taken->first;
	if (!taken->lane || taken->lane->written - taken->lane->read >= slots)
		return 0;
	at = cpu * (SHORT_SLOTS + SECOND_SLOTS) + (taken->depth ? SHORT_SLOTS : 0) + (taken->lane->written & (slots - 1));
	return short_slots.lookup(&at);
}

static __always_inline struct long_payload *next_long(struct taken *taken)
{
	u32 cpu = bpf_get_smp_processor_id(), at = cpu * LANES + taken->depth;
	u32 slots = taken->depth ? SECOND_SLOTS : LONG_SLOTS;

	taken->lane = long_lanes.lookup(&at);
	if (!taken->lane || taken->lane->written - taken->lane->read >= slots)
		return 0;
	at = cpu * (LONG_SLOTS + SECOND_SLOTS) + (taken->depth ? LONG_SLOTS : 0) + (taken->lane->written & (slots - 1));
	return long_slots.lookup(&at);
}

/* What was written to the slot is whole, for whoever reads on another CPU. */
static __always_inline void keep(struct taken *taken)
{
#if STORES_IN_ORDER /* x86-64 */
	asm volatile("" ::: "memory");
	*(volatile u64 *)&taken->lane->written = taken->lane->written + 1;
#else
	__sync_lock_test_and_set(&taken->lane->written, taken->lane->written + 1); /* full barriers before and after */
#endif
}

/* At most `room` of the wanted bytes of the packet; the value is how many. */
#define COPY(skb, offset, text, wanted, room)                                                   \
	({                                                                                      \
		u64 bytes = (wanted);                                                           \
		int failed = -1;                                                                \
		if (bytes > (room))                                                             \
			bytes = (room);                                                         \
		HIDE(bytes);                                                                    \
		if (bytes > 0) {                                                                \
			HIDE(bytes);                                                            \
			if (bytes <= (room))                                                    \
				failed = bpf_skb_load_bytes(skb, offset, text, bytes);          \
		}                                                                               \
		failed ? 0 : bytes;                                                             \
	})

/* The text was copied already. */
static __always_inline void emit_short(
	struct __sk_buff *skb, struct bpf_sock *sk, struct segment *segment, struct taken *taken, struct short_payload *slot, u8 kind)
{
	fill_socket(&slot->head, skb, sk, segment->egress);
	fill_segment(&slot->head, segment, kind, segment->length);
	keep(taken);
}

static __always_inline void emit_long(
	struct __sk_buff *skb, struct bpf_sock *sk, struct segment *segment, struct taken *taken, u8 kind)
{
	struct long_payload *slot = next_long(taken);

	if (!slot) {
		count(LOST_PAYLOAD);
		return;
	}
	fill_socket(&slot->head, skb, sk, segment->egress);
	fill_segment(&slot->head, segment, kind, segment->length);
	slot->head.captured = COPY(skb, segment->offset, slot->text, segment->length, LONG_TEXT);
	keep(taken);
}

static __always_inline void emit_whole(
	struct __sk_buff *skb, struct bpf_sock *sk, struct segment *segment, struct taken *taken, struct short_payload *slot, u8 kind)
{
	if (segment->length <= SHORT_TEXT)
		emit_short(skb, sk, segment, taken, slot, kind);
	else
		emit_long(skb, sk, segment, taken, kind);
}

static __always_inline bool begins_hello(u8 *first)
{
	return first[0] == 22 && first[1] == 3 && first[2] <= 4 && !first[6] && (first[5] == 1 || first[5] == 2); /* RFC 8446, 5.1 and 4 */
}

/* UDP and the like: the exchange names the ends and the process. */
static __always_inline void fill_exchange(struct payload *head, struct exchange_key *key, struct exchange *exchange)
{
	head->time_ns = bpf_ktime_get_ns();
	head->conn_id = exchange->id;
	head->cgroup_id = key->cgroup_id;
	head->local_addr = key->local;
	head->remote_addr = key->remote;
	head->local_port = key->local_port;
	head->remote_port = key->remote_port;
	head->protocol = key->protocol;
	head->pid = exchange->process.pid;
	head->comm[0] = exchange->process.comm[0];
	head->comm[1] = exchange->process.comm[1];
}

static __always_inline void emit_datagram(
	struct __sk_buff *skb, struct exchange_key *key, struct exchange *exchange, struct segment *segment, struct taken *taken)
{
	if (segment->length <= SHORT_TEXT) {
		struct short_payload *slot = next_short(taken);

		if (!slot) {
			count(LOST_PAYLOAD);
			return;
		}
		fill_exchange(&slot->head, key, exchange);
		fill_segment(&slot->head, segment, DNS, segment->length);
		slot->head.captured = COPY(skb, segment->offset, slot->text, segment->length, SHORT_TEXT);
	} else {
		struct long_payload *slot = next_long(taken);

		if (!slot) {
			count(LOST_PAYLOAD);
			return;
		}
		fill_exchange(&slot->head, key, exchange);
		fill_segment(&slot->head, segment, DNS, segment->length);
		slot->head.captured = COPY(skb, segment->offset, slot->text, segment->length, LONG_TEXT);
	}
	keep(taken);
}

static __always_inline void on_dns_datagram(
	struct __sk_buff *skb, struct exchange_key *key, struct exchange *exchange, struct segment *segment)
{
	struct taken taken = { .first = first_lane() };

	if (!begin_taking(&taken))
		return;
	emit_datagram(skb, key, exchange, segment, &taken);
	end_taking(&taken);
}
