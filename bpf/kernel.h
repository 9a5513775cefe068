/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
/* Kernel structures, read by offset: OFFSET_<struct>_<field> come from this kernel's BTF. */
#pragma once
#include "record.h"

#define AF_INET6 10
#define DEEPEST 2048 /* levels: what is deeper has a path beyond PATH_MAX, by which no runtime can put a process there */

/* Hides a number from the compiler, which would otherwise put checks of it into a form that the verifier does not follow. */
#define HIDE(number) asm volatile("" : "+r"(number))

enum { SOCK_STREAM = 1, SOCK_RAW = 3 };

/* A load through a BTF pointer: the verifier knows the structure and makes the load safe; the offset must be a constant. */
#define FIELD(type, object, offset) (*(type volatile *)((char *)(object) + (offset)))

/* The same through a bare address, where the object may be gone meanwhile: what is read may then be nonsense, and is checked. */
#define PROBED(type, object, offset)                                                        \
	({                                                                                      \
		type value = 0;                                                                     \
		bpf_probe_read_kernel(&value, sizeof(value), (char *)(object) + (offset));          \
		value;                                                                              \
	})

static __always_inline u64 id_of_cgroup(void *cgroup)
{
	void *node = FIELD(void *, cgroup, OFFSET_cgroup_kn);

	return FIELD(u64, node, OFFSET_kernfs_node_id);
}

static __always_inline u64 cgroup_of(void *sk)
{
	return id_of_cgroup(FIELD(void *, sk, OFFSET_sock_cgroup));
}

/* Parent by parent, by loads: the kernel's array of ancestors could only be read by three calls. */
static __always_inline bool is_below(void *cgroup)
{
	u32 level = FIELD(u32, cgroup, OFFSET_cgroup_level);

	for (int i = 0; i < DEEPEST && level > SUBTREE_LEVEL; i++, level--) {
		void *parent = FIELD(void *, cgroup, OFFSET_cgroup_parent);

		cgroup = FIELD(void *, parent, OFFSET_cgroup_of_state);
		HIDE(i);
	}
	return level == SUBTREE_LEVEL && id_of_cgroup(cgroup) == SUBTREE_ID;
}

/* Tracepoints and iterators see the sockets of the whole machine; the cgroup programs see the subtree only. */
static __always_inline bool in_subtree(void *sk)
{
	return SUBTREE_LEVEL == 0 || is_below(FIELD(void *, sk, OFFSET_sock_cgroup));
}

/* The process, not the thread: thread names say little ("tokio-worker"). Only to be called where a task acts for itself.
 * task: a pointer with BTF type. */
static __always_inline void read_process(struct process *process, void *task)
{
	void *leader = FIELD(void *, task, OFFSET_task_group_leader);

	process->pid = FIELD(u32, task, OFFSET_task_tgid);
	process->comm[0] = FIELD(u64, leader, OFFSET_task_comm);
	process->comm[1] = FIELD(u64, leader, OFFSET_task_comm + 8);
}

static __always_inline struct address mapped(u32 ipv4)
{
	struct address address = { .half = { 0, 0xffff0000ULL | ((u64)ipv4 << 32) } }; /* little-endian view of 00 00 ff ff a b c d */

	return address;
}

