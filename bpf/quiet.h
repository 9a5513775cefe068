/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
/* TCP connections that say nothing: those that were there before the agent, and those that wait or are done. */
#pragma once
#include "tcp.h"

/* A socket that nobody was told of, found through a process that holds it: as a rule it was there before the agent. */
static __always_inline void adopt(void *sk, void *task)
{
	u64 key = (u64)sk;
	void *tcp = bpf_skc_to_tcp_sock(sk);
	u8 state = FIELD(u8, sk, OFFSET_sock_state);
	struct connection *known = connections.lookup(&key);
	struct connection connection = {
		.emitted_activity = ~0ULL, /* shown at the next sweep, active or not */
		.waiting = state == TCP_SYN_SENT,
	};

	if (!tcp || !in_subtree(sk) || state == TCP_CLOSE || state == TCP_LISTEN)
		return;
	begin(&connection, sk);
	if (known && known->id == connection.id) /* also where it has just ended */
		return;
	read_process(&connection.process, task);
	connection.initiator = who_opened(tcp, state);
	if (remember(sk, &connection) && connection.waiting)
		count(SYNS_PENDING);
}

/* Of what waits for an answer: what is to be told now, or 0. */
static __always_inline u8 sweep_waiting(struct connection *connection, u64 now)
{
	u64 waiting = now - connection->start_ns;
	u8 event = 0;

	if (!connection->start_ns || connection->told_waiting == UNANSWERED)
		return 0;
	if (waiting >= UNANSWERED_AFTER_NS)
		event = UNANSWERED;
	else if (waiting >= OPENED_AFTER_NS && !connection->told_waiting)
		event = OPENED;
	if (event)
		connection->told_waiting = event;
	return event;
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

/* The end of a connection that no program was told of: how it ended is known as far as its closed socket still says. */
static __always_inline u8 find_ended(struct connection *connection, void *sk)
{
	u32 error = PROBED(u32, sk, OFFSET_sock_err);
	u8 event;

	count(FOUND_LATE);
	if (PROBED(u64, sk, OFFSET_tcp_bytes_acked)) /* the SYN is one of them */
		got_answer(connection);
	event = connection->waiting ? failed_open(connection, error) : failed_how(connection, error);
	stop_waiting(connection);
	connection->ended = 1;
	if (event == UNANSWERED && connection->told_waiting == UNANSWERED)
		return 0;
	return event ? event : CLOSED;
}

static __always_inline u8 find_gone(struct connection *connection, u64 now)
{
	count(LOST_END);
	stop_waiting(connection);
	connection->emitted_ns = now;
	connection->ended = 1;
	return 0;
}

static __always_inline u8 find_established(struct connection *connection)
{
	count(FOUND_LATE);
	got_answer(connection);
	return ESTABLISHED;
}

/* The kernel runs no tracepoint's program in an interrupt of the same program, so a change of state may pass unseen. What is found twice in
 * a row was passed over; once may only mean that it is happening. Returns what is to be told, or 0. */
static __always_inline u8 find_missed(struct connection *connection, void *sk, bool same, u8 state, u64 now)
{
	if (!connection->missed) {
		connection->missed = 1;
		return 0;
	}
	connection->missed = 0;
	if (!same)
		return find_gone(connection, now);
	return state == TCP_CLOSE ? find_ended(connection, sk) : find_established(connection);
}

static __always_inline bool is_active(struct connection *connection, void *sk, u64 now)
{
	u64 packets = (u64)PROBED(u32, sk, OFFSET_tcp_segs_out) + PROBED(u32, sk, OFFSET_tcp_segs_in);

	return now > connection->emitted_ns && now - connection->emitted_ns >= ACTIVE_INTERVAL_NS && packets != connection->emitted_activity;
}

/* The socket may end while the sweep looks at it: TCP sockets' memory stays that of TCP sockets (SLAB_TYPESAFE_BY_RCU), and the cookie
 * tells whether it still is the same one. */
static __always_inline void sweep_connection(struct connection *connection, void *sk, u64 now)
{
	u8 state = PROBED(u8, sk, OFFSET_sock_state);
	bool opening = state == TCP_SYN_SENT || state == TCP_SYN_RECV; /* the latter where both ends began at once */
	bool same = PROBED(u64, sk, OFFSET_sock_cookie) == connection->id;
	u8 event = 0;

	if (!same || state == TCP_CLOSE || (connection->waiting && !opening)) {
		event = find_missed(connection, sk, same, state, now);
	} else {
		connection->missed = 0;
		if (opening)
			event = sweep_waiting(connection, now);
		else if (is_active(connection, sk, now))
			event = ACTIVE;
	}
	if (event)
		emit_connection(connection, sk, sk, event, now, false);
}
