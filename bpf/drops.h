/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
/* DNS packets that the kernel threw away, with its reason: what never left has no socket's packet to tell of it. */
#pragma once
#include "exchange.h"

#define UDP_HEADER 8

struct dropped {
	struct exchange_key key; /* local: who sent it */
	char *udp;               /* bare addresses */
	u32 length;              /* of the UDP payload */
	u32 reason;
	u32 netns;
};

/* Addresses and ports of a UDP packet with a DNS port; false for all others. */
static __always_inline bool read_dropped(struct dropped *dropped, void *skb)
{
	char *ip = FIELD(char *, skb, OFFSET_skb_head) + FIELD(u16, skb, OFFSET_skb_network_header);
	u16 protocol = FIELD(u16, skb, OFFSET_skb_protocol);
	u8 ports[UDP_HEADER];

	if (protocol == bpf_htons(ETH_P_IP)) {
		if (PROBED(u8, ip, 9) != IPPROTO_UDP || PROBED(u16, ip, 6) & bpf_htons(0x1fff))
			return false;
		dropped->key.local = mapped(PROBED(u32, ip, 12));
		dropped->key.remote = mapped(PROBED(u32, ip, 16));
		dropped->udp = ip + (PROBED(u8, ip, 0) & 15) * 4;
	} else if (protocol == bpf_htons(ETH_P_IPV6)) {
		if (PROBED(u8, ip, 6) != IPPROTO_UDP)
			return false;
		dropped->key.local.half[0] = PROBED(u64, ip, 8);
		dropped->key.local.half[1] = PROBED(u64, ip, 16);
		dropped->key.remote.half[0] = PROBED(u64, ip, 24);
		dropped->key.remote.half[1] = PROBED(u64, ip, 32);
		dropped->udp = ip + 40;
	} else {
		return false;
	}
	if (bpf_probe_read_kernel(ports, sizeof(ports), dropped->udp) < 0)
		return false;
	dropped->key.local_port = big_endian16(ports);
	dropped->key.remote_port = big_endian16(ports + 2);
	dropped->key.protocol = IPPROTO_UDP;
	dropped->length = big_endian16(ports + 4) - UDP_HEADER;
	return is_dns_port(dropped->key.local_port) || is_dns_port(dropped->key.remote_port);
}

static __always_inline void emit_drop(struct dropped *dropped, struct exchange *exchange, u64 now)
{
	struct record *record = records.ringbuf_reserve(sizeof(*record));

	if (!record) {
		count(LOST_RING_FULL);
		return;
	}
	__builtin_memset(record, 0, sizeof(*record));
	record->time_ns = record->start_ns = now;
	record->conn_id = exchange->id;
	record->cgroup_id = dropped->key.cgroup_id;
	record->sent_bytes = dropped->length + UDP_HEADER;
	record->sent_packets = 1;
	record->local_addr = dropped->key.local;
	record->remote_addr = dropped->key.remote;
	record->local_port = dropped->key.local_port;
	record->remote_port = dropped->key.remote_port;
	record->event = DROPPED;
	record->protocol = IPPROTO_UDP;
	record->initiator = INITIATOR_LOCAL;
	record->error = dropped->reason > 255 ? 255 : dropped->reason;
	record->netns = dropped->netns;
	record->pid = exchange->process.pid;
	record->comm[0] = exchange->process.comm[0];
	record->comm[1] = exchange->process.comm[1];
	records.ringbuf_submit(record, 0);
}

/* The message itself, where no cgroup program has seen it: netfilter drops what a socket sends before these are asked. */
static __always_inline void emit_unsent(struct dropped *dropped, struct exchange *exchange)
{
	struct segment segment = { .egress = true, .length = dropped->length };
	struct taken taken = { .first = first_lane() };
	struct short_payload *slot;
	u64 bytes = dropped->length;

	if (!begin_taking(&taken))
		return;
	slot = next_short(&taken);
	if (slot) {
		fill_exchange(&slot->head, &dropped->key, exchange);
		fill_segment(&slot->head, &segment, DNS, dropped->length);
		if (bytes > SHORT_TEXT)
			bytes = SHORT_TEXT;
		slot->head.captured = bpf_probe_read_kernel(slot->text, bytes & 0xff, dropped->udp + UDP_HEADER) < 0 ? 0 : bytes;
		keep(&taken);
	} else {
		count(LOST_PAYLOAD);
	}
	end_taking(&taken);
}

static __always_inline void on_drop(void *skb, u32 reason)
{
	struct dropped dropped = { .reason = reason };
	struct exchange exchange = {}, *known;
	void *sk = FIELD(void *, skb, OFFSET_skb_sk), *net;
	u64 now;

	if (sk && FIELD(u16, sk, OFFSET_sock_protocol) == IPPROTO_TCP)
		return; /* what a closed connection had not read, mostly: told by loads, not by a call that costs 130 ns */
	if (!read_dropped(&dropped, skb))
		return;
	if (!sk || FIELD(u16, sk, OFFSET_sock_protocol) != IPPROTO_UDP ||
	    PROBED(u16, sk, OFFSET_inet_local_port) != bpf_htons(dropped.key.local_port))
		sk = 0;
	if (SUBTREE_LEVEL && (!sk || !in_subtree(sk)))
		return; /* whose it is cannot be told */
	now = bpf_ktime_get_ns();
	exchange.id = TABLE_ID | now << 6 | (bpf_get_smp_processor_id() & 63);
	if (sk) {
		net = FIELD(void *, sk, OFFSET_sock_net);
		dropped.netns = FIELD(u32, net, OFFSET_net_inum);
		dropped.key.cgroup_id = cgroup_of(sk);
		known = exchanges.lookup(&dropped.key);
		if (known) { /* the answer to a question that came */
			exchange.id = known->id;
			exchange.process = known->process;
		} else {
			read_process(&exchange.process, (void *)bpf_get_current_task_btf());
		}
		if (reason == NETFILTER_DROP)
			emit_unsent(&dropped, &exchange);
	}
	emit_drop(&dropped, &exchange, now);
}
