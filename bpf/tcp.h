/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
/* TCP: the kernel's socket is the connection table. Its state changes make the records, its counters fill them. */
#pragma once
#include "attention.h"
#include "listeners.h"

static __always_inline void emit_connection(struct connection *connection, void *sk, void *tcp, u8 event, u64 now, bool typed)
{
	struct record *record = records.ringbuf_reserve(sizeof(*record));

	if (!record) {
		count(LOST_RING_FULL);
		return;
	}
	record->time_ns = now;
	record->start_ns = connection->start_ns;
	record->conn_id = connection->id;
	record->cgroup_id = connection->cgroup_id;
	record->flags_received = connection->flags_received;
	read_counters(record, sk, tcp, typed);
	read_ends(record, sk, tcp, typed);
	record->pid = connection->process.pid;
	record->handshake_us = connection->handshake_us;
	record->event = event;
	record->protocol = IPPROTO_TCP;
	record->initiator = connection->initiator;
	record->flags_sent = connection->flags_sent;
	record->error = GET(u32, sk, OFFSET_sock_err);
	if (!record->error)
		record->error = connection->error;
	record->icmp_type = 0;
	record->icmp_code = 0;
	record->comm[0] = connection->process.comm[0];
	record->comm[1] = connection->process.comm[1];
	connection->emitted_ns = now;
	connection->emitted_activity = (u64)record->sent_packets + record->received_packets;
	records.ringbuf_submit(record, 0);
}

static __always_inline struct connection *lookup_connection(void *sk)
{
	u64 key = (u64)sk;
	struct connection *connection = connections.lookup(&key);

	return connection && !connection->ended ? connection : 0;
}

/* A socket that waits is no longer one; what waits is counted. */
static __always_inline void stop_waiting(struct connection *connection)
{
	if (!connection->waiting)
		return;
	connection->waiting = 0;
	count_by(SYNS_PENDING, -1);
}

static __always_inline void got_answer(struct connection *connection)
{
	if (!connection->waiting)
		return;
	stop_waiting(connection);
	connection->flags_sent |= ACK;
	connection->flags_received |= SYN | ACK;
}

/* What every new entry starts with. */
static __always_inline void begin(struct connection *connection, void *sk)
{
	connection->id = bpf_get_socket_cookie(sk);
	connection->cgroup_id = cgroup_of(sk);
}

static __always_inline bool remember(void *sk, struct connection *connection)
{
	u64 key = (u64)sk;
	struct connection *former = connections.lookup(&key);

	if (former) {
		if (!former->ended && former->id != connection->id)
			count(LOST_END);
		if (!former->ended)
			stop_waiting(former);
		*former = *connection;
		return true;
	}
	if (!connections.update(&key, connection))
		return true;
	count(LOST_CONNECTION);
	return false;
}

static __always_inline void on_syn_sent(void *sk)
{
	struct connection connection = {
		.start_ns = bpf_ktime_get_ns(), .initiator = INITIATOR_LOCAL, .flags_sent = SYN, .waiting = 1,
	};

	if (!in_subtree(sk))
		return;
	begin(&connection, sk);
	read_process(&connection.process, (void *)bpf_get_current_task_btf());
	if (remember(sk, &connection))
		count(SYNS_PENDING);
}

static __always_inline u64 packets_of(void *tcp)
{
	return (u64)FIELD(u32, tcp, OFFSET_tcp_segs_out) + FIELD(u32, tcp, OFFSET_tcp_segs_in);
}

static __always_inline void established_by_us(void *sk, void *tcp)
{
	struct connection *connection = lookup_connection(sk);
	u64 now = bpf_ktime_get_ns();

	if (!connection)
		return;
	if (connection->start_ns)
		connection->handshake_us = (now - connection->start_ns) / 1000;
	got_answer(connection);
	emit_connection(connection, sk, tcp, ESTABLISHED, now, true);
}

static __always_inline void established_by_them(void *sk, void *tcp)
{
	u64 now = bpf_ktime_get_ns();
	struct connection accepted = {
		.initiator = INITIATOR_REMOTE, .flags_sent = SYN | ACK, .flags_received = SYN | ACK,
	};
	struct listener *listener;

	if (!in_subtree(sk))
		return;
	begin(&accepted, sk);
	listener = listener_of(sk, tcp, accepted.cgroup_id);
	if (listener)
		accepted.process = listener->process;
	/* the first RTT sample is the time from our SYN-ACK to its ACK (tcp_synack_rtt_meas) */
	accepted.handshake_us = FIELD(u32, tcp, OFFSET_tcp_srtt_us) >> 3;
	accepted.start_ns = now - (u64)accepted.handshake_us * 1000;
	accepted.emitted_ns = now;
	accepted.emitted_activity = packets_of(tcp);
	if (remember(sk, &accepted))
		emit_connection(&accepted, sk, tcp, ESTABLISHED, now, true);
}

static __always_inline void on_established(void *sk, int old_state)
{
	void *tcp = bpf_skc_to_tcp_sock(sk);

	if (REQUESTS && tcp)
		attend_begin(bpf_ntohs(FIELD(u16, tcp, OFFSET_inet_local_port)), bpf_ntohs(FIELD(u16, sk, OFFSET_sock_remote_port)));
	if (tcp && old_state == TCP_SYN_SENT)
		established_by_us(sk, tcp);
	else if (tcp)
		established_by_them(sk, tcp);
}

/* The errno in the latest entry of the socket's error queue (struct sock_exterr_skb): where an ICMP error goes while connect() holds the socket. */
static __always_inline u32 queued_error(void *sk)
{
	void *queue = (char *)sk + OFFSET_sock_error_queue;
	void *latest = PROBED(void *, queue, OFFSET_sk_buff_head_prev);

	return latest == queue ? 0 : PROBED(u32, latest, OFFSET_sk_buff_cb + OFFSET_sock_exterr_errno);
}

/* A program that asks for the error (SO_ERROR) takes it away: by the time it closes the socket, the socket no longer knows it. */
static __always_inline void on_error(void *sk)
{
	struct connection *connection = lookup_connection(sk);
	u32 error = FIELD(u32, sk, OFFSET_sock_err);

	if (connection && FIELD(u8, sk, OFFSET_sock_state) == TCP_SYN_SENT)
		connection->error = error ? error : queued_error(sk);
}

static __always_inline u8 failed_open(struct connection *connection, u32 error)
{
	error = error ? error : connection->error;
	if (error == ECONNREFUSED && connection->flags_received & RST)
		return REFUSED;
	if (error && error != ETIMEDOUT)
		return UNREACHABLE; /* the ICMP error's errno (tcp_v4_err) */
	return UNANSWERED;
}

/* 0: the socket does not tell. */
static __always_inline u8 failed_how(struct connection *connection, u32 error)
{
	if (error == ETIMEDOUT)
		return TIMED_OUT;
	if (error != ECONNRESET && error != EPIPE)
		return 0;
	connection->flags_received |= RST; /* tcp_reset() */
	return RESET;
}

static __always_inline u8 ended_how(struct connection *connection, u32 error, int old_state)
{
	u8 failed;

	if (old_state == TCP_SYN_SENT)
		return failed_open(connection, error);
	failed = failed_how(connection, error);
	if (failed)
		return failed;
	if (old_state == TCP_ESTABLISHED || old_state == TCP_CLOSE_WAIT) { /* no FIN of ours went out: an abort */
		connection->flags_sent |= RST;
		return RESET;
	}
	connection->flags_sent |= FIN;
	return CLOSED;
}

static __always_inline void end(struct connection *connection, void *sk, void *tcp, u8 event)
{
	u64 now = bpf_ktime_get_ns();

	stop_waiting(connection);
	if (event != UNANSWERED || connection->told_waiting != UNANSWERED) /* the sweep has said it already */
		emit_connection(connection, sk, tcp, event, now, true);
	connection->emitted_ns = now;
	connection->ended = 1;
}

/* Of what nobody saw begin only the end is told. */
static __always_inline void end_unknown(void *sk, void *tcp, int old_state)
{
	struct connection connection = {};

	if (!was_open(old_state) || !in_subtree(sk))
		return;
	begin(&connection, sk);
	connection.initiator = who_opened(tcp, old_state);
	end(&connection, sk, tcp, ended_how(&connection, FIELD(u32, sk, OFFSET_sock_err), old_state));
}

static __always_inline void on_close(void *sk, void *tcp, int old_state)
{
	struct connection *connection = lookup_connection(sk);

	if (!connection) {
		end_unknown(sk, tcp, old_state);
		return;
	}
	if (was_open(old_state))
		got_answer(connection); /* if nobody said so */
	end(connection, sk, tcp, ended_how(connection, FIELD(u32, sk, OFFSET_sock_err), old_state));
}

/* What its entry was told of it is over. */
static __always_inline void attend_end(void *sk, void *tcp)
{
	u16 port = bpf_ntohs(FIELD(u16, tcp, OFFSET_inet_local_port));
	u16 other = bpf_ntohs(FIELD(u16, sk, OFFSET_sock_remote_port));
	struct attention *attention = attention_of(port, other);
	struct http2 *http2;

	if (!attention || !attention->http2)
		return;
	http2 = http2_connections.sk_storage_get(sk, 0, 0);
	if (!http2 || !http2->attended)
		return;
	attend_http2(port, other, -1);
	http2->attended = 0;
}

static __always_inline void on_end(void *sk, int old_state)
{
	void *tcp = bpf_skc_to_tcp_sock(sk);

	if (!tcp)
		return;
	on_close(sk, tcp, old_state);
	if (REQUESTS)
		attend_end(sk, tcp);
}
