/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
/* The TCP socket behind an SSL object: the one that sent within one of its calls, or the one that its socket BIO names. */
#pragma once
#include "kernel.h"
#include "openssl_maps.h"

#define AF_INET 2

/* OpenSSL, include/openssl/bio.h */
#define BIO_TYPE_SOCKET 0x505
#define BIO_TYPE_CONNECT 0x50c
#define BIO_TYPE_MEMORY 0x401
#define BIO_TYPE_FILTER 0x200
#define MAX_FILTERS 3 /* during a handshake a buffer stands before the socket */

/* include/uapi/linux/stat.h */
#define S_IFMT 0170000
#define S_IFSOCK 0140000

#define READ_USER(type, address)                                                            \
	({                                                                                      \
		type value = 0;                                                                     \
		bpf_probe_read_user(&value, sizeof(value), (void *)(address));                      \
		value;                                                                              \
	})

/* Where the fields are in this library's structures: agent/probe/openssl_library.py packs them into the cookie of the attachment. */
#define LAYOUT_RBIO(layout) ((layout) & 0xffff)
#define LAYOUT_WBIO(layout) ((layout) >> 16 & 0xffff)
#define LAYOUT_METHOD(layout) ((layout) >> 32 & 0xff)
#define LAYOUT_NUM(layout) ((layout) >> 40 & 0xff)
#define LAYOUT_NEXT(layout) ((layout) >> 48 & 0xff)

static __always_inline bool is_tcp(void *sk)
{
	u16 family = PROBED(u16, sk, OFFSET_sock_family);

	return (family == AF_INET || family == AF_INET6) && PROBED(u16, sk, OFFSET_sock_protocol) == IPPROTO_TCP;
}

struct bio {
	u64 address;
	u32 type; /* every structure is checked by this number */
};

/* The first BIO of a session that is no filter. */
static __always_inline struct bio bio_of(u64 ssl, u64 layout, bool sent)
{
	struct bio bio = { .address = READ_USER(u64, ssl + (sent ? LAYOUT_WBIO(layout) : LAYOUT_RBIO(layout))) };

	for (int i = 0; i < MAX_FILTERS; i++) {
		u64 method = READ_USER(u64, bio.address + LAYOUT_METHOD(layout));

		bio.type = READ_USER(u32, method);
		if (!(bio.type & BIO_TYPE_FILTER))
			break;
		bio.address = READ_USER(u64, bio.address + LAYOUT_NEXT(layout));
	}
	return bio;
}

/* The file descriptor of its socket, or -1. */
static __always_inline int descriptor_of(u64 ssl, u64 layout, bool sent)
{
	struct bio bio = bio_of(ssl, layout, sent);

	if (bio.type != BIO_TYPE_SOCKET && bio.type != BIO_TYPE_CONNECT)
		return -1;
	return READ_USER(u32, bio.address + LAYOUT_NUM(layout));
}

/* Bytes from an address on, if there are that many and a TLS record begins with them (RFC 8446, 5.1). */
static __always_inline bool read_record(struct unsent *unsent, u64 address, u64 count)
{
	u8 *first = (u8 *)unsent->first;

	return count >= sizeof(unsent->first) && !bpf_probe_read_user(unsent->first, sizeof(unsent->first), (void *)address) &&
	       first[0] >= 20 && first[0] <= 23 && first[1] == 3;
}

/* OpenSSL, crypto/bio/bss_mem.c, include/openssl/buffer.h: struct bio_buf_mem_st, whose readp is a struct buf_mem_st. */
static __always_inline bool read_openssl_memory(struct unsent *unsent, u64 memory)
{
	u64 part = READ_USER(u64, memory + 8);

	return read_record(unsent, READ_USER(u64, part + 8), READ_USER(u64, part));
}

/* Node.js, src/crypto/crypto_bio.h: class NodeBIO, a list of Buffers. */
static __always_inline bool read_node_memory(struct unsent *unsent, u64 memory)
{
	u64 head = READ_USER(u64, memory + 48); /* read_head_ */
	u64 read = READ_USER(u64, head + 8);    /* read_pos_ */

	return read_record(unsent, READ_USER(u64, head + 40) + read, READ_USER(u64, head + 16) - read); /* data_, write_pos_ */
}

/* What a session has encrypted into memory. Whatever else is read there means nothing, for no packet begins with it. */
static __always_inline void read_unsent(struct unsent *unsent, u64 ssl, u64 layout)
{
	struct bio bio = bio_of(ssl, layout, true);
	u64 memory = READ_USER(u64, bio.address + LAYOUT_NUM(layout) + 8); /* ptr, behind num */

	unsent->ssl = 0;
	unsent->cookie = 0;
	if (bio.type == BIO_TYPE_MEMORY && (read_openssl_memory(unsent, memory) || read_node_memory(unsent, memory)))
		unsent->ssl = ssl;
}

/* The TCP socket of a descriptor of this process, or 0. */
static __always_inline void *socket_of(int descriptor)
{
	void *task = (void *)bpf_get_current_task_btf();
	void *files = FIELD(void *, task, OFFSET_task_files);
	void *table = PROBED(void *, files, OFFSET_files_fdt);
	void *file, *inode, *socket, *sk;

	if (descriptor < 0 || (u32)descriptor >= PROBED(u32, table, OFFSET_fdtable_max_fds))
		return 0;
	file = PROBED(void *, PROBED(void *, table, OFFSET_fdtable_fd), 8 * (u64)descriptor);
	inode = PROBED(void *, file, OFFSET_file_inode);
	if ((PROBED(u16, inode, OFFSET_inode_mode) & S_IFMT) != S_IFSOCK)
		return 0;
	socket = PROBED(void *, file, OFFSET_file_private_data);
	sk = PROBED(void *, socket, OFFSET_socket_sk);
	return sk && is_tcp(sk) ? sk : 0;
}

/* Put the socket into a session that has none, or another one by now: then all that was counted is of the former. */
static __always_inline void take_socket(struct session *session, u64 socket, u64 cookie)
{
	struct session fresh = { .socket = socket, .cookie = cookie, .slice = session->slice };

	if (session->cookie && session->cookie != cookie)
		*session = fresh;
	session->socket = socket;
	session->cookie = cookie;
}

/* 0: it is not known. A socket without a cookie is one that nothing else has seen: what is known of it could not be said of anything. */
static __always_inline void *find_socket(void *ctx, struct session *session, struct call *call, bool sent)
{
	u64 layout;
	void *sk;

	if (session->cookie && PROBED(u64, session->socket, OFFSET_sock_cookie) == session->cookie)
		return (void *)session->socket;
	layout = bpf_get_attach_cookie(ctx);
	if (!layout)
		return 0;
	sk = socket_of(descriptor_of(call->ssl, layout, sent));
	if (!sk || !PROBED(u64, sk, OFFSET_sock_cookie))
		return 0;
	take_socket(session, (u64)sk, PROBED(u64, sk, OFFSET_sock_cookie));
	return sk;
}

static __always_inline struct address probed_address(void *sk, u32 offset, u32 v6_offset)
{
	struct address address;

	if (PROBED(u16, sk, OFFSET_sock_family) != AF_INET6)
		return mapped(PROBED(u32, sk, offset));
	address.half[0] = PROBED(u64, sk, v6_offset);
	address.half[1] = PROBED(u64, sk, v6_offset + 8);
	return address;
}

static __always_inline void read_ends(struct ends *ends, void *sk, u64 cookie)
{
	void *cgroup = PROBED(void *, sk, OFFSET_sock_cgroup);
	void *node = PROBED(void *, cgroup, OFFSET_cgroup_kn);
	void *net = PROBED(void *, sk, OFFSET_sock_net);

	ends->of = cookie;
	ends->cgroup_id = PROBED(u64, node, OFFSET_kernfs_node_id);
	ends->local_addr = probed_address(sk, OFFSET_sock_local, OFFSET_sock_v6_local);
	ends->remote_addr = probed_address(sk, OFFSET_sock_remote, OFFSET_sock_v6_remote);
	ends->local_port = bpf_ntohs(PROBED(u16, sk, OFFSET_inet_local_port));
	ends->remote_port = bpf_ntohs(PROBED(u16, sk, OFFSET_sock_remote_port));
	ends->netns = PROBED(u32, net, OFFSET_net_inum);
}

static __always_inline void fill_ends(struct payload *head, struct ends *ends)
{
	head->conn_id = ends->of;
	head->cgroup_id = ends->cgroup_id;
	head->local_addr = ends->local_addr;
	head->remote_addr = ends->remote_addr;
	head->local_port = ends->local_port;
	head->remote_port = ends->remote_port;
	head->netns = ends->netns;
	head->protocol = IPPROTO_TCP;
}
