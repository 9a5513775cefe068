/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
/* What has no connection in the kernel: UDP, ICMP, SCTP, raw sockets. Kept in a table, packet by packet. */
#pragma once
#include "kernel.h"
#include "l7.h"
#include "packet.h"
#include "socket.h"

#define TABLE_ID (1ULL << 63) /* no socket cookie, which count up from 1, has this bit */

static __always_inline void emit_exchange(struct exchange_key *key, struct exchange *exchange, u8 event, u64 now)
{
	struct record *record = records.ringbuf_reserve(sizeof(*record));

	if (!record) {
		count(LOST_RING_FULL);
		return;
	}
	record->time_ns = now;
	record->start_ns = exchange->start_ns;
	record->conn_id = exchange->id;
	record->cgroup_id = key->cgroup_id;
	record->sent_bytes = exchange->sent_bytes;
	record->received_bytes = exchange->received_bytes;
	record->local_addr = key->local;
	record->remote_addr = key->remote;
	record->sent_packets = exchange->sent_packets;
	record->received_packets = exchange->received_packets;
	record->pid = exchange->process.pid;
	record->rtt_us = 0;
	record->handshake_us = 0;
	record->retransmits = 0;
	record->local_port = key->local_port;
	record->remote_port = key->remote_port;
	record->event = event;
	record->protocol = key->protocol;
	record->initiator = exchange->initiator;
	record->flags_sent = exchange->flags_sent;
	record->flags_received = exchange->flags_received;
	record->error = 0;
	record->icmp_type = exchange->icmp_type;
	record->icmp_code = exchange->icmp_code;
	record->netns = 0;
	record->comm[0] = exchange->process.comm[0];
	record->comm[1] = exchange->process.comm[1];
	exchange->emitted_ns = now;
	exchange->emitted_packets = (u64)exchange->sent_packets + exchange->received_packets;
	records.ringbuf_submit(record, 0);
}

static __always_inline bool is_icmp(struct packet *packet)
{
	return packet->protocol == IPPROTO_ICMP || packet->protocol == IPPROTO_ICMPV6;
}

static __always_inline bool answers(struct packet *packet)
{
	if (packet->protocol == IPPROTO_ICMP)
		return packet->icmp_type == ICMP_ECHO_REPLY;
	return packet->protocol == IPPROTO_ICMPV6 && packet->icmp_type == ICMPV6_ECHO_REPLY;
}

/* The first packet of an answer tells that the other side asked, although the question was not seen (the kernel answers pings itself). */
static __always_inline u8 who_asked(struct packet *packet, bool egress)
{
	return egress != answers(packet) ? INITIATOR_LOCAL : INITIATOR_REMOTE;
}

static __always_inline struct exchange *new_exchange(struct exchange_key *key, struct packet *packet, bool egress, u64 now)
{
	struct exchange fresh = {};

	fresh.start_ns = now;
	fresh.id = TABLE_ID | now << 6 | (bpf_get_smp_processor_id() & 63);
	fresh.initiator = who_asked(packet, egress);
	fresh.icmp_type = packet->icmp_type;
	fresh.icmp_code = packet->icmp_code;
	if (exchanges.update(key, &fresh)) {
		count(LOST_EXCHANGE);
		return 0;
	}
	return exchanges.lookup(key);
}

/* The kernel answers pings and reports errors in the name of no process. */
static __always_inline bool sent_by_process(struct packet *packet)
{
	if (packet->protocol == IPPROTO_ICMP)
		return packet->icmp_type == ICMP_ECHO;
	return packet->protocol != IPPROTO_ICMPV6 || packet->icmp_type == ICMPV6_ECHO;
}

static __always_inline void add_packet(struct exchange *exchange, struct packet *packet, bool egress)
{
	if (egress) {
		__sync_fetch_and_add(&exchange->sent_bytes, packet->length);
		__sync_fetch_and_add(&exchange->sent_packets, 1);
		exchange->flags_sent |= packet->flags;
		if (!exchange->process.pid && sent_by_process(packet))
			read_process(&exchange->process, (void *)bpf_get_current_task_btf());
	} else {
		__sync_fetch_and_add(&exchange->received_bytes, packet->length);
		__sync_fetch_and_add(&exchange->received_packets, 1);
		exchange->flags_received |= packet->flags;
	}
}

/* A connected socket knows its peer. Its packets leave with another address where the host itself translates (DNAT in OUTPUT, as for the
 * ClusterIPs that hostNetwork pods use), while the answers come back with the peer's: the key is the peer for both. */
static __always_inline void use_peer(struct exchange_key *key, struct bpf_sock *sk)
{
	if (sk->state != TCP_ESTABLISHED || sk->type == SOCK_RAW || key->protocol != IPPROTO_UDP)
		return;
	if (sk->family == AF_INET6) {
		key->remote.half[0] = (u64)sk->dst_ip6[1] << 32 | sk->dst_ip6[0];
		key->remote.half[1] = (u64)sk->dst_ip6[3] << 32 | sk->dst_ip6[2];
	} else {
		key->remote = mapped(sk->dst_ip4);
	}
	key->remote_port = bpf_ntohs(sk->dst_port);
}

static __always_inline void fill_key(
	struct exchange_key *key, struct __sk_buff *skb, struct bpf_sock *sk, struct packet *packet, bool egress)
{
	key->cgroup_id = bpf_skb_cgroup_id(skb);
	key->local = egress ? packet->source : packet->destination;
	key->remote = egress ? packet->destination : packet->source;
	key->local_port = egress ? packet->source_port : packet->destination_port;
	key->remote_port = egress ? packet->destination_port : packet->source_port;
	key->protocol = packet->protocol;
	key->answering = egress == answers(packet) && is_icmp(packet);
	if (egress)
		use_peer(key, sk);
}

/* may_begin: raw sockets get copies of packets that are for others, so what they receive never begins an exchange. */
static __always_inline void on_packet(
	struct __sk_buff *skb, struct bpf_sock *sk, struct packet *packet, bool egress, bool may_begin)
{
	struct exchange_key key = {};
	struct exchange *exchange;
	u64 now = bpf_ktime_get_ns();
	bool first;

	fill_key(&key, skb, sk, packet, egress);
	exchange = exchanges.lookup(&key);
	first = !exchange;
	if (first && !may_begin)
		return;
	if (first)
		exchange = new_exchange(&key, packet, egress, now);
	if (!exchange)
		return;
	exchange->last_ns = now;
	add_packet(exchange, packet, egress);
	if (REQUESTS && packet->protocol == IPPROTO_UDP && sk->type != SOCK_RAW && (is_dns_port(key.local_port) || is_dns_port(key.remote_port))) {
		struct segment segment = { .offset = packet->transport + 8, .egress = egress };

		segment.length = packet->length - segment.offset;
		on_dns_datagram(skb, &key, exchange, &segment);
	}
	if (first) {
		emit_exchange(&key, exchange, OPENED, now);
	} else if (!exchange->answered && exchange->sent_packets && exchange->received_packets) {
		exchange->answered = 1;
		emit_exchange(&key, exchange, ESTABLISHED, now);
	}
}

/* True: the exchange has ended by silence, and the caller removes it. */
static __always_inline bool sweep_exchange(struct exchange_key *key, struct exchange *exchange)
{
	u64 now = bpf_ktime_get_ns();
	u64 packets = (u64)exchange->sent_packets + exchange->received_packets;

	if (now - exchange->last_ns >= IDLE_AFTER_NS && now > exchange->last_ns) {
		emit_exchange(key, exchange, IDLE, now);
		return true;
	}
	if (now - exchange->emitted_ns >= ACTIVE_INTERVAL_NS && now > exchange->emitted_ns && packets != exchange->emitted_packets)
		emit_exchange(key, exchange, ACTIVE, now);
	return false;
}

/* The node's kernel refused a SYN that no socket listens for: RST with sequence 0 (RFC 9293, 3.10.7.1), from the kernel's own socket, which
 * lives in the root cgroup. Only an agent on the root of the hierarchy sees these. */
static __always_inline void on_kernel_reset(struct __sk_buff *skb, struct bpf_sock *sk, struct packet *packet)
{
	struct exchange_key key = {};
	struct exchange refused = {};
	u64 now = bpf_ktime_get_ns();

	if (packet->sequence || !(packet->flags & ACK))
		return;
	fill_key(&key, skb, sk, packet, true);
	refused.start_ns = now;
	refused.id = TABLE_ID | now << 6 | (bpf_get_smp_processor_id() & 63);
	refused.initiator = INITIATOR_REMOTE;
	refused.sent_bytes = packet->length;
	refused.sent_packets = 1;
	refused.flags_sent = packet->flags;
	emit_exchange(&key, &refused, REFUSED, now);
}
