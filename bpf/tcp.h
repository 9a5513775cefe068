/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
/* TCP: the kernel's socket is the connection table. Its state changes make the records, its counters fill them. */
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

static __always_inline struct address local_address(void *sk, bool typed)
{
	struct address address;

	if (GET(u16, sk, OFFSET_sock_family) != AF_INET6)
		return mapped(GET(u32, sk, OFFSET_sock_local));
	address.half[0] = GET(u64, sk, OFFSET_sock_v6_local);
	address.half[1] = GET(u64, sk, OFFSET_sock_v6_local + 8);
	return address;
}

static __always_inline struct address remote_address(void *sk, bool typed)
{
	struct address address;

	if (GET(u16, sk, OFFSET_sock_family) != AF_INET6)
		return mapped(GET(u32, sk, OFFSET_sock_remote));
	address.half[0] = GET(u64, sk, OFFSET_sock_v6_remote);
	address.half[1] = GET(u64, sk, OFFSET_sock_v6_remote + 8);
	return address;
}

static __always_inline void read_ends(struct record *record, void *sk, void *tcp, bool typed)
{
	void *net = GET(void *, sk, OFFSET_sock_net);

	record->local_addr = local_address(sk, typed);
	record->remote_addr = remote_address(sk, typed);
	record->local_port = bpf_ntohs(GET(u16, tcp, OFFSET_inet_local_port)); /* skc_num is already 0 when a socket closes */
	record->remote_port = bpf_ntohs(GET(u16, sk, OFFSET_sock_remote_port));
	record->netns = GET(u32, net, OFFSET_net_inum);
}

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
		.start_ns = bpf_ktime_get_ns(), .initiator = INITIATOR_LOCAL, .flags_sent = SYN,
	};

	if (!in_subtree(sk))
		return;
	begin(&connection, sk);
	read_process(&connection.process, (void *)bpf_get_current_task_btf());
	if (remember(sk, &connection))
		count(SYNS_PENDING);
}

static __always_inline struct listener_key listener_key_of(void *sk, void *tcp, struct address local)
{
	void *net = FIELD(void *, sk, OFFSET_sock_net);
	struct listener_key key = {
		.cgroup_id = cgroup_of(sk), .netns = FIELD(u32, net, OFFSET_net_inum),
		.port = FIELD(u16, tcp, OFFSET_inet_local_port), .local = local,
	};

	return key;
}

static __always_inline void add_listener(void *sk, void *task)
{
	void *tcp = bpf_skc_to_tcp_sock(sk);
	struct listener listener = { .id = bpf_get_socket_cookie(sk) };
	struct listener *known;
	struct listener_key key;

	if (!tcp || !in_subtree(sk))
		return;
	key = listener_key_of(sk, tcp, local_address(sk, true));
	known = listeners.lookup(&key);
	if (known && known->id == listener.id)
		return;
	read_process(&listener.process, task);
	if (known && known->process.pid != listener.process.pid)
		listener.process.pid = 0;
	listeners.update(&key, &listener);
}

static __always_inline void remove_listener(void *sk)
{
	void *tcp = bpf_skc_to_tcp_sock(sk);
	struct listener *known;
	struct listener_key key;

	if (!tcp)
		return;
	key = listener_key_of(sk, tcp, local_address(sk, true));
	known = listeners.lookup(&key);
	if (known && known->id == bpf_get_socket_cookie(sk))
		listeners.delete(&key);
}

/* Most listen on any address, so that is looked up first. */
static __always_inline struct listener *listener_of(void *sk, void *tcp)
{
	struct address any = {};
	struct listener_key key;
	struct listener *listener;

	if (FIELD(u16, sk, OFFSET_sock_family) != AF_INET6)
		any = mapped(0);
	key = listener_key_of(sk, tcp, any);
	listener = listeners.lookup(&key);
	if (listener)
		return listener;
	key.local = local_address(sk, true);
	return listeners.lookup(&key);
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
	count_by(SYNS_PENDING, -1);
	if (connection->start_ns)
		connection->handshake_us = (now - connection->start_ns) / 1000;
	connection->flags_sent |= ACK;
	connection->flags_received |= SYN | ACK;
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
	listener = listener_of(sk, tcp);
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

static __always_inline u8 ended_how(struct connection *connection, u32 error, int old_state)
{
	if (old_state == TCP_SYN_SENT)
		return failed_open(connection, error);
	if (error == ETIMEDOUT)
		return TIMED_OUT;
	if (error == ECONNRESET || error == EPIPE) { /* tcp_reset() */
		connection->flags_received |= RST;
		return RESET;
	}
	if (old_state == TCP_ESTABLISHED || old_state == TCP_CLOSE_WAIT) { /* no FIN of ours went out: an abort */
		connection->flags_sent |= RST;
		return RESET;
	}
	connection->flags_sent |= FIN;
	return CLOSED;
}

static __always_inline void on_close(void *sk, int old_state)
{
	struct connection *connection = lookup_connection(sk);
	void *tcp = bpf_skc_to_tcp_sock(sk);
	u64 now = bpf_ktime_get_ns();
	u8 event;

	if (!connection || !tcp)
		return;
	if (old_state == TCP_SYN_SENT)
		count_by(SYNS_PENDING, -1);
	event = ended_how(connection, FIELD(u32, sk, OFFSET_sock_err), old_state);
	if (event != UNANSWERED || !connection->unanswered) /* the sweep has said it already */
		emit_connection(connection, sk, tcp, event, now, true);
	connection->emitted_ns = now;
	connection->ended = 1;
}

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
