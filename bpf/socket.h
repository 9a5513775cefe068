/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
/* TCP sockets as the kernel keeps them: states, flags, counters, addresses. */
#pragma once
#include "kernel.h"
#include "maps.h"

enum { FIN = 1, SYN = 2, RST = 4, PSH = 8, ACK = 16 }; /* RFC 9293, 3.1 */

enum { /* include/net/tcp_states.h */
	TCP_ESTABLISHED = 1,
	TCP_SYN_SENT,
	TCP_SYN_RECV,
	TCP_FIN_WAIT1,
	TCP_FIN_WAIT2,
	TCP_TIME_WAIT,
	TCP_CLOSE,
	TCP_CLOSE_WAIT,
	TCP_LAST_ACK,
	TCP_LISTEN,
	TCP_CLOSING,
};

#define SOCK_DONE (1 << 1) /* include/net/sock.h, enum sock_flags: the other side's FIN was taken */

/* include/uapi/asm-generic/errno.h */
#define ECONNRESET 104
#define EPIPE 32
#define ETIMEDOUT 110
#define ECONNREFUSED 111

/* Sockets come typed (tracepoints) or as a bare address (the sweep); `typed` is a constant wherever this is used. */
#define GET(type, object, offset) (typed ? FIELD(type, object, offset) : PROBED(type, object, offset))

/* bytes_received counts the FIN's sequence number besides the payload (tcp_rcv_nxt_update). */
static __always_inline void read_counters(struct record *record, void *sk, void *tcp, bool typed)
{
	bool fin = GET(u64, sk, OFFSET_sock_flags) & SOCK_DONE;

	record->sent_bytes = GET(u64, tcp, OFFSET_tcp_bytes_sent) - GET(u64, tcp, OFFSET_tcp_bytes_retrans);
	record->received_bytes = GET(u64, tcp, OFFSET_tcp_bytes_received) - fin;
	record->sent_packets = GET(u32, tcp, OFFSET_tcp_segs_out);
	record->received_packets = GET(u32, tcp, OFFSET_tcp_segs_in);
	record->retransmits = GET(u32, tcp, OFFSET_tcp_total_retrans);
	record->rtt_us = GET(u32, tcp, OFFSET_tcp_srtt_us) >> 3; /* kept in eighths */
	record->flags_received |= fin ? FIN : 0;
}

/* offset: of the IPv4 address; v6_offset: of the IPv6 one. */
static __always_inline struct address address_at(void *sk, u32 offset, u32 v6_offset, bool typed)
{
	struct address address;

	if (GET(u16, sk, OFFSET_sock_family) != AF_INET6)
		return mapped(GET(u32, sk, offset));
	address.half[0] = GET(u64, sk, v6_offset);
	address.half[1] = GET(u64, sk, v6_offset + 8);
	return address;
}

static __always_inline struct address local_address(void *sk, bool typed)
{
	return address_at(sk, OFFSET_sock_local, OFFSET_sock_v6_local, typed);
}

static __always_inline void read_ends(struct record *record, void *sk, void *tcp, bool typed)
{
	void *net = GET(void *, sk, OFFSET_sock_net);

	record->local_addr = local_address(sk, typed);
	record->remote_addr = address_at(sk, OFFSET_sock_remote, OFFSET_sock_v6_remote, typed);
	record->local_port = bpf_ntohs(GET(u16, tcp, OFFSET_inet_local_port)); /* skc_num is already 0 when a socket closes */
	record->remote_port = bpf_ntohs(GET(u16, sk, OFFSET_sock_remote_port));
	record->netns = GET(u32, net, OFFSET_net_inum);
}

/* Whether the local end opened a connection whose beginning nobody saw: the SYN that it sent is one of the acknowledged bytes (RFC 4898,
 * tcp_snd_una_update), and there is nothing else that was acknowledged but not sent as data, as long as no FIN was sent. */
static __always_inline u8 who_opened(void *tcp, int state)
{
	u64 acknowledged = FIELD(u64, tcp, OFFSET_tcp_bytes_acked);
	u64 sent = FIELD(u64, tcp, OFFSET_tcp_bytes_sent) - FIELD(u64, tcp, OFFSET_tcp_bytes_retrans);
	u32 in_flight = FIELD(u32, tcp, OFFSET_tcp_snd_nxt) - FIELD(u32, tcp, OFFSET_tcp_snd_una);

	if (state == TCP_SYN_SENT)
		return INITIATOR_LOCAL;
	if (state != TCP_ESTABLISHED && state != TCP_CLOSE_WAIT)
		return INITIATOR_UNKNOWN;
	if (acknowledged + in_flight == sent + 1)
		return INITIATOR_LOCAL;
	return acknowledged + in_flight == sent ? INITIATOR_REMOTE : INITIATOR_UNKNOWN;
}

static __always_inline bool was_open(int state)
{
	return state != TCP_CLOSE && state != TCP_LISTEN && state != TCP_SYN_SENT && state != TCP_SYN_RECV;
}
