/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
/* Entry points. agent/probe/compile.py knows each by its name and type. */
#include "attention.h"
#include "quiet.h"
#include "exchange.h"
#include "http2.h"
#include "drops.h"
#include "senders.h"

#define PASS 1
#define PREFACE_WORD 0x5448202a20495250ULL /* "PRI * HT" */
#define ROOT_CGROUP 1 /* inode of the root of a kernfs */

/* A packet of a TCP socket: read at once where the headers have their usual form.
 * sk->src_port tells that the packet is the socket's own: of a raw socket it is the protocol's number.
 * Returns the TCP flags, or -1 where it is none of these. */
static __always_inline int read_own_packet(struct __sk_buff *skb, struct bpf_sock *sk, struct segment *segment)
{
	u8 *data = (u8 *)(long)skb->data;
	u8 *end = (u8 *)(long)skb->data_end;
	u8 *tcp;

	if (data + 60 > end) {
		if (data + 40 > end || data[0] != 0x45 || data[9] != IPPROTO_TCP)
			return -1;
		tcp = data + 20;
	} else if (data[0] == 0x45 && data[9] == IPPROTO_TCP) {
		tcp = data + 20;
	} else if (data[0] >> 4 == 6 && data[6] == IPPROTO_TCP) {
		tcp = data + 40;
	} else {
		return -1;
	}
	if (big_endian16(segment->egress ? tcp : tcp + 2) != sk->src_port)
		return -1;
	segment->offset = tcp - data + (tcp[12] >> 4) * 4;
	segment->length = skb->len - segment->offset;
	segment->sequence = bpf_ntohl(*(u32 *)(tcp + 4));
	segment->acknowledged = bpf_ntohl(*(u32 *)(tcp + 8));
	return tcp[13];
}

/* A RST is remembered before the state changes: a refusal by RST differs from one by ICMP, and both give ECONNREFUSED. */
static __always_inline void on_reset(struct bpf_sock *sk, bool egress)
{
	struct bpf_sock *full = bpf_sk_fullsock(sk);
	struct connection *connection;

	if (!full)
		return;
	connection = lookup_connection(full);
	if (!connection)
		return;
	if (egress)
		connection->flags_sent |= RST;
	else
		connection->flags_received |= RST | ACK;
}

/* What the first bytes are, in the order of how often each is seen; what a connection speaks that is none of these costs no more than the look. */
static __always_inline void on_first_bytes(
	struct __sk_buff *skb, struct bpf_sock *sk, struct segment *segment, struct taken *taken, struct short_payload *slot)
{
	u64 word = *(u64 *)slot->text;
	bool preface = word == PREFACE_WORD;
	bool whole = segment->length >= SHORTEST; /* else only of interest to who follows the connection */
	struct http2 *http2;

	if (whole && begins_response(word)) {
		emit_short(skb, sk, segment, taken, slot, HTTP_RESPONSE);
	} else if (whole && begins_request(word)) {
		emit_whole(skb, sk, segment, taken, slot, HTTP_REQUEST);
	} else if (whole && begins_hello(slot->text)) {
		if (segment->egress)
			show_sender(skb, sk, slot);
		emit_whole(skb, sk, segment, taken, slot, TLS_HELLO);
	} else {
		http2 = http2_connections.sk_storage_get(sk, 0, 0);
		preface = preface && whole;
		if (preface || (!http2 && begins_headers(slot->text, segment->length)))
			http2 = begin_http2(sk, segment, preface);
		if (http2 && preface)
			emit_short(skb, sk, segment, taken, slot, HTTP2);
		if (!http2 && whole && segment->egress && is_encrypted(slot->text))
			show_sender(skb, sk, slot);
		if (http2)
			on_http2_side(skb, sk, segment, taken, segment->egress ? &http2->sent : &http2->received, slot->text);
	}
}

/* Whether on_first_bytes() would have had something to hand over, where there is no slot to look at it in. */
static __always_inline bool begins_anything(struct __sk_buff *skb, struct bpf_sock *sk, struct segment *segment)
{
	u64 first[SHORTEST / 8] = {}; /* aligned */

	if (http2_connections.sk_storage_get(sk, 0, 0))
		return true;
	if (bpf_skb_load_bytes(skb, segment->offset, first, SHORTEST) < 0)
		return false;
	return begins_response(first[0]) || begins_request(first[0]) || begins_hello((u8 *)first) || first[0] == PREFACE_WORD ||
	       begins_headers((u8 *)first, segment->length);
}

/* While requests are left out most are, so it is asked before room is taken for them. False: they are to be looked at as ever. */
static __always_inline bool is_sampled_out(struct __sk_buff *skb, struct segment *segment, struct taken *taken)
{
	u64 first[SHORTEST / 8] = {};

	if (segment->length < SHORTEST || bpf_skb_load_bytes(skb, segment->offset, first, SHORTEST) < 0)
		return false;
	if (begins_response(first[0]))
		return sampled_out(taken, segment->sequence);
	return begins_request(first[0]) && sampled_out(taken, segment->acknowledged);
}

/* Which of both numbers pairs a packet's content is not known before it is looked at: if neither is of the share that leaves, nobody need look. */
static __always_inline bool is_passed_over(struct bpf_sock *sk, struct segment *segment, u64 left_out)
{
	if (!is_left_out(segment->sequence, left_out) || !is_left_out(segment->acknowledged, left_out))
		return false;
	if (is_attended(sk->src_port, bpf_ntohs(sk->dst_port)))
		return false;
	count(PASSED_OVER);
	return true;
}

static __always_inline void on_payload(struct __sk_buff *skb, struct bpf_sock *sk, struct segment *segment)
{
	struct taken taken = { .first = first_lane() };
	struct short_payload *slot;
	bool dns = is_dns_port(sk->src_port) || is_dns_port(bpf_ntohs(sk->dst_port));

	if (!dns && segment->length < SHORTEST && !http2_connections.sk_storage_get(sk, 0, 0))
		return; /* of HTTP/2 also the least counts: windows and acknowledged settings come alone */
	if (!dns && taken.first && taken.first->left_out && is_passed_over(sk, segment, taken.first->left_out))
		return;
	if (!begin_taking(&taken))
		return;
	if (!dns && taken.first->left_out && is_sampled_out(skb, segment, &taken)) {
		end_taking(&taken);
		return;
	}
	slot = next_short(&taken);
	if (!slot) {
		if (dns || begins_anything(skb, sk, segment))
			count(LOST_PAYLOAD);
	} else {
		slot->head.captured = COPY(skb, segment->offset, slot->text, segment->length, SHORT_TEXT);
		if (dns)
			emit_whole(skb, sk, segment, &taken, slot, DNS);
		else
			on_first_bytes(skb, sk, segment, &taken, slot);
	}
	end_taking(&taken);
}

static __always_inline void on_other_packet(struct __sk_buff *skb, struct bpf_sock *sk, bool egress)
{
	struct packet packet = {};
	struct bpf_sock *full = bpf_sk_fullsock(sk);
	bool raw;

	if (!full || full->type == SOCK_STREAM || parse(skb, &packet) != PARSED)
		return;
	raw = full->type == SOCK_RAW;
	if (raw && egress && packet.protocol == IPPROTO_TCP && packet.flags & RST && bpf_skb_cgroup_id(skb) == ROOT_CGROUP)
		on_kernel_reset(skb, full, &packet);
	else
		on_packet(skb, full, &packet, egress, egress || !raw);
}

static __always_inline int observe(struct __sk_buff *skb, bool egress)
{
	struct bpf_sock *sk = skb->sk;
	struct segment segment = { .egress = egress };
	int flags;

	if (!sk)
		return PASS;
	flags = read_own_packet(skb, sk, &segment);
	if (flags < 0)
		on_other_packet(skb, sk, egress);
	else if (flags & RST)
		on_reset(sk, egress);
#if REQUESTS
	else if ((s32)segment.length > 0)
		on_payload(skb, sk, &segment);
#endif
	return PASS;
}

int ingress(struct __sk_buff *skb)
{
	return observe(skb, false);
}

int egress(struct __sk_buff *skb)
{
	return observe(skb, true);
}

/* tp_btf/inet_sock_set_state(const struct sock *sk, const int oldstate, const int newstate) */
int inet_sock_set_state(u64 *ctx)
{
	void *sk = (void *)ctx[0];
	int old_state = ctx[1];
	int new_state = ctx[2];

	if (FIELD(u16, sk, OFFSET_sock_protocol) != IPPROTO_TCP)
		return 0;
	switch (new_state) {
	case TCP_SYN_SENT:
		on_syn_sent(sk);
		break;
	case TCP_LISTEN:
		add_listener(sk, (void *)bpf_get_current_task_btf());
		break;
	case TCP_ESTABLISHED:
		on_established(sk, old_state);
		break;
	case TCP_CLOSE:
		if (old_state == TCP_LISTEN) {
			remove_listener(sk);
			break;
		}
		on_end(sk, old_state);
		break;
	}
	return 0;
}

/* tp_btf/inet_sk_error_report(const struct sock *sk) */
int inet_sk_error_report(u64 *ctx)
{
	void *sk = (void *)ctx[0];

	if (FIELD(u16, sk, OFFSET_sock_protocol) == IPPROTO_TCP)
		on_error(sk);
	return 0;
}

/* tp_btf/kfree_skb(struct sk_buff *skb, void *location, enum skb_drop_reason reason) */
int kfree_skb(u64 *ctx)
{
	u32 reason = ctx[2];

	if (REQUESTS && reason > 1) /* not dropped yet; consumed */
		on_drop((void *)ctx[0], reason);
	return 0;
}

/* Run by user space (BPF_PROG_TEST_RUN) on keys that it has read from the table; ctx[0]: how many. Iterators over map elements would save it
 * the reading, but hardened kernels refuse them. */
int sweep_connections(u64 *ctx)
{
	int zero = 0;
	struct swept_connections *swept = connections_to_sweep.lookup(&zero);
	u64 count = ctx[0];
	u64 now = bpf_ktime_get_ns();

	for (u32 i = 0; swept && i < SWEPT_CONNECTIONS && i < count; i++) {
		u64 key = swept->keys[i];
		struct connection *connection = connections.lookup(&key);

		if (!connection)
			continue;
		if (connection->ended)
			forget(connection, key, now);
		else
			sweep_connection(connection, (void *)key, now);
	}
	return 0;
}

/* The same. */
int sweep_exchanges(u64 *ctx)
{
	int zero = 0;
	struct swept_exchanges *swept = exchanges_to_sweep.lookup(&zero);
	u64 count = ctx[0];

	for (u32 i = 0; swept && i < SWEPT_EXCHANGES && i < count; i++) {
		struct exchange_key key = swept->keys[i];
		struct exchange *exchange = exchanges.lookup(&key);

		if (exchange && sweep_exchange(&key, exchange))
			exchanges.delete(&key);
	}
	return 0;
}

/* iter/task_file: struct { meta; struct task_struct *task; u32 fd; struct file *file; } */
int adopt_sockets(u64 *ctx)
{
	void *task = (void *)ctx[1];
	void *file = (void *)ctx[3];
	void *socket, *sk;

	if (!task || !file)
		return 0;
	socket = (void *)bpf_sock_from_file(file);
	if (!socket)
		return 0;
	sk = FIELD(void *, socket, OFFSET_socket_sk);
	if (!sk || FIELD(u16, sk, OFFSET_sock_protocol) != IPPROTO_TCP)
		return 0;
	if (FIELD(u8, sk, OFFSET_sock_state) == TCP_LISTEN)
		add_listener(sk, task);
	else
		adopt(sk, task);
	return 0;
}
