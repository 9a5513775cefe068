/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
/* Whose packet it is: a thread that sends within a call of OpenSSL, or what such a call has left it to send, shows which socket is behind
 * that call. Programs may keep their socket from the library (curl, asyncio). A hook on sending would tell as well, but costs 140 ns for
 * whatever anybody sends. */
#pragma once
#include "kernel.h"
#include "maps.h"

/* Application data, RFC 8446, 5.1. */
static __always_inline bool is_encrypted(u8 *first)
{
	return first[0] == 23 && first[1] == 3 && first[2] <= 4;
}

/* Only a thread that holds the socket's lock sends for itself; what an interrupt sends is not the interrupted thread's. */
static __always_inline void show_sender(struct __sk_buff *skb, struct bpf_sock *sk, struct short_payload *slot)
{
	int zero = 0;
	void *calls = openssl_calls.lookup(&zero);
	void *tcp, *task;
	struct calls *own;
	u64 thread;

	if (!calls)
		return;
	tcp = bpf_skc_to_tcp_sock(sk);
	if (!tcp || !FIELD(u32, tcp, OFFSET_sock_owned))
		return;
	task = (void *)bpf_get_current_task_btf();
	thread = (u64)FIELD(u32, task, OFFSET_task_tgid) << 32 | FIELD(u32, task, OFFSET_task_pid);
	own = bpf_map_lookup_elem(calls, &thread);
	if (own)
		learn(own, (u64)tcp, bpf_get_socket_cookie(skb), (u64 *)slot->text);
}
