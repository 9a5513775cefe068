/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
/* TCP connections that say nothing: those that were there before the agent, and those that wait or are done. */
#pragma once
#include "tcp.h"

/* Whether the local end opened a connection that is older than the agent: the SYN that it sent is one of the acknowledged bytes (RFC 4898,
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

/* A socket that was there before the agent, found through a process that holds it. */
static __always_inline void adopt(void *sk, void *task)
{
	void *tcp = bpf_skc_to_tcp_sock(sk);
	u8 state = FIELD(u8, sk, OFFSET_sock_state);
	struct connection connection = {
		.emitted_activity = ~0ULL, /* shown at the next sweep, active or not */
	};

	if (!tcp || !in_subtree(sk) || state == TCP_CLOSE || state == TCP_LISTEN || lookup_connection(sk))
		return;
	begin(&connection, sk);
	read_process(&connection.process, task);
	connection.initiator = who_opened(tcp, state);
	if (remember(sk, &connection) && state == TCP_SYN_SENT)
		count(SYNS_PENDING);
}

static __always_inline void sweep_unanswered(struct connection *connection, void *sk, u64 now)
{
	u64 waiting = now - connection->start_ns;

	if (!connection->start_ns || connection->unanswered)
		return;
	if (waiting >= UNANSWERED_AFTER_NS) {
		connection->unanswered = 1;
		emit_connection(connection, sk, sk, UNANSWERED, now, false);
	} else if (waiting >= OPENED_AFTER_NS && !connection->opened) {
		connection->opened = 1;
		emit_connection(connection, sk, sk, OPENED, now, false);
	}
}

/* An entry that a new socket takes up in the very moment of its removal is lost, and counted. */
static __always_inline void forget(struct connection *connection, u64 key, u64 now)
{
	if (now < connection->emitted_ns + FORGET_AFTER_NS)
		return;
	connections.delete(&key);
	if (!connection->ended)
		count(LOST_CONNECTION);
}

/* The socket may end while the sweep looks at it: TCP sockets' memory stays that of TCP sockets (SLAB_TYPESAFE_BY_RCU), and the cookie
 * tells whether it still is the same one. */
static __always_inline void sweep_connection(struct connection *connection, void *sk, u64 now)
{
	u64 packets = (u64)PROBED(u32, sk, OFFSET_tcp_segs_out) + PROBED(u32, sk, OFFSET_tcp_segs_in);

	if (PROBED(u64, sk, OFFSET_sock_cookie) != connection->id)
		return;
	if (PROBED(u8, sk, OFFSET_sock_state) == TCP_SYN_SENT)
		sweep_unanswered(connection, sk, now);
	else if (now - connection->emitted_ns >= ACTIVE_INTERVAL_NS && now > connection->emitted_ns && packets != connection->emitted_activity)
		emit_connection(connection, sk, sk, ACTIVE, now, false);
}
