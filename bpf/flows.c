/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
/* Entry points. agent/probe/compile.py knows each by its name and type. */
#include "quiet.h"
#include "exchange.h"

#define PASS 1
#define ROOT_CGROUP 1 /* inode of the root of a kernfs */

/* A packet of a TCP socket that changes nothing: read at once where the headers have their usual form.
 * sk->src_port tells that the packet is the socket's own: of a raw socket it is the protocol's number. */
static __always_inline int tcp_flags_of_own_packet(struct __sk_buff *skb, struct bpf_sock *sk, bool egress)
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
	if (big_endian16(egress ? tcp : tcp + 2) != sk->src_port)
		return -1;
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
	int flags;

	if (!sk)
		return PASS;
	flags = tcp_flags_of_own_packet(skb, sk, egress);
	if (flags < 0)
		on_other_packet(skb, sk, egress);
	else if (flags & RST)
		on_reset(sk, egress);
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
		if (old_state == TCP_LISTEN)
			remove_listener(sk);
		else
			on_close(sk, old_state);
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

/* iter/bpf_map_elem: struct { meta; map; void *key; void *value; } */
int sweep_connections(u64 *ctx)
{
	u64 *key = (void *)ctx[2];
	struct connection *connection = (void *)ctx[3];

	u64 now = bpf_ktime_get_ns();

	if (!key || !connection)
		return 0;
	if (connection->ended)
		forget(connection, *key, now);
	else
		sweep_connection(connection, (void *)*key, now);
	return 0;
}

/* iter/bpf_map_elem */
int sweep_exchanges(u64 *ctx)
{
	struct exchange_key *element = (void *)ctx[2];
	struct exchange *exchange = (void *)ctx[3];
	struct exchange_key key;

	if (!element || !exchange)
		return 0;
	key = *element;
	if (sweep_exchange(&key, exchange))
		exchanges.delete(&key);
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
