/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
/* Listening sockets: whose process an accepted connection belongs to. */
#pragma once
#include "socket.h"

static __always_inline struct listener_key listener_key_of(void *sk, void *tcp, u64 cgroup_id, struct address local)
{
	void *net = FIELD(void *, sk, OFFSET_sock_net);
	struct listener_key key = {
		.cgroup_id = cgroup_id, .netns = FIELD(u32, net, OFFSET_net_inum),
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
	key = listener_key_of(sk, tcp, cgroup_of(sk), local_address(sk, true));
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
	key = listener_key_of(sk, tcp, cgroup_of(sk), local_address(sk, true));
	known = listeners.lookup(&key);
	if (known && known->id == bpf_get_socket_cookie(sk))
		listeners.delete(&key);
}

/* Most listen on any address, so that is looked up first. */
static __always_inline struct listener *listener_of(void *sk, void *tcp, u64 cgroup_id)
{
	struct address any = {};
	struct listener_key key;
	struct listener *listener;

	if (FIELD(u16, sk, OFFSET_sock_family) != AF_INET6)
		any = mapped(0);
	key = listener_key_of(sk, tcp, cgroup_id, any);
	listener = listeners.lookup(&key);
	if (listener)
		return listener;
	key.local = local_address(sk, true);
	return listeners.lookup(&key);
}
