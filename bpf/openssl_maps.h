/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
/* Maps of the OpenSSL programs. The loader (agent/probe/openssl_source.py) passes every constant with -D. */
#pragma once
#include "openssl_calls.h"

#if !defined(PLAINTEXT_PAGES) || !defined(LONG_PLAINTEXT_PAGES) || !defined(SESSION_ENTRIES) || !defined(CALL_ENTRIES) || \
	!defined(DECISION_ENTRIES) || !defined(HOLD_UNDECIDED) || !defined(SUBTREE_LEVEL) || !defined(SUBTREE_ID) || !defined(ARGUMENT_1) || \
	!defined(ARGUMENT_2) || !defined(ARGUMENT_4) || !defined(RETURNED) || !defined(STACK) || !defined(RETURN_POPS)
#error "openssl_maps.h: the loader passes every constant with -D"
#endif

enum plaintext_counter { /* one per reason; agent/probe/openssl_source.py names them */
	PLAINTEXT_LOST_RING_FULL,   /* a record found no room in the ring */
	PLAINTEXT_SESSIONS_FULL,    /* calls for a session that found no room: what it carries stays unseen */
	PLAINTEXT_CALLS_LOST,       /* calls whose entry was forgotten before their return: too many at once, or nested too deep */
	PLAINTEXT_SOCKET_UNKNOWN,   /* requests and answers of a session whose TCP socket is not known: left out */
	PLAINTEXT_UNREADABLE,       /* buffers that were not in memory when they were to be read */
	PLAINTEXT_UNDECIDED,        /* calls in cgroups that nobody decided on yet: not looked at */
	PLAINTEXT_HTTP2_UNFOLLOWED, /* times that the frames of an HTTP/2 connection were lost track of */
	PLAINTEXT_SAMPLED_OUT,      /* requests and answers left out on purpose: more came than user space may take */
	PLAINTEXT_CALLS,            /* that the probes on reading and writing stopped, whatever came of them: what plaintext costs */
	PLAINTEXT_COUNTERS,
};

/* An LRU: a thread that was killed while it waited leaves its entry behind. An eviction shows as PLAINTEXT_CALLS_LOST. */
BPF_TABLE("lru_hash", u64, struct calls, calls, CALL_ENTRIES);

struct session_key {
	u64 process;
	u64 ssl;
};

struct direction {
	u32 bytes;  /* so far, mod 2^32 */
	u32 left;   /* of the HTTP/2 frame that has begun */
	u32 number; /* of the next record of HTTP/2 */
	u8 have;    /* bytes of a frame header that goes on in the next call */
	u8 known;   /* speaks HTTP/2, and where a frame begins is known */
	u8 handed;  /* the frame that has begun is one that leaves */
	u8 zero;
	u8 header[24]; /* 9, and room for what the verifier cannot rule out */
};

struct ends { /* of a socket; in a session since they do not change, and reading them takes half of all the time */
	u64 of; /* cookie of the socket */
	u64 cgroup_id;
	struct address local_addr;
	struct address remote_addr;
	u32 netns;
	u16 local_port;
	u16 remote_port;
};

struct session {
	u64 socket;
	u64 cookie; /* of the socket: tells a reused address or SSL object apart; 0: not known */
	struct ends ends;
	struct direction sent;
	struct direction received;
	u64 slice; /* in which it was looked at last */
};

/* Not an LRU: that evicts without a word. SSL_free() removes entries, and the rescan those of processes that ended. */
BPF_F_TABLE("hash", struct session_key, struct session, sessions, SESSION_ENTRIES, BPF_F_NO_PREALLOC);

enum decision { OBSERVED = 1, EXCLUDED };

/* By cgroup: a library is in memory once for all containers that share its file, so its probes fire for each of them. */
BPF_F_TABLE("hash", u64, u32, decisions, DECISION_ENTRIES, BPF_F_NO_PREALLOC);

struct plaintext_rules {  /* by user space */
	u64 left_out; /* as of struct lane: requests of HTTP/1 whose hash is below it do not leave */
	u64 slice;    /* which time without a pause this is, from 0 */
};

BPF_ARRAY(plaintext_rules, struct plaintext_rules, 1);

/* One size of records in each, as for packets. */
BPF_RINGBUF_OUTPUT(plaintext, PLAINTEXT_PAGES);
BPF_RINGBUF_OUTPUT(long_plaintext, LONG_PLAINTEXT_PAGES);

BPF_TABLE("percpu_array", int, u64, plaintext_counters, PLAINTEXT_COUNTERS);

static __always_inline void count_plaintext(int reason)
{
	u64 *value = plaintext_counters.lookup(&reason);

	if (value)
		__sync_fetch_and_add(value, 1); /* preemption comes between */
}

static __always_inline struct plaintext_rules *rules_now(void)
{
	int zero = 0;

	return plaintext_rules.lookup(&zero);
}

/* Only in the observed subtree, and only where its owner lets us. */
static __always_inline bool observed(void)
{
	u64 cgroup_id = bpf_get_current_cgroup_id();
	u32 *decision;

#if SUBTREE_LEVEL > 0
	if (bpf_get_current_ancestor_cgroup_id(SUBTREE_LEVEL) != SUBTREE_ID)
		return false;
#endif
	decision = decisions.lookup(&cgroup_id);
	if (decision)
		return *decision == OBSERVED;
	if (HOLD_UNDECIDED)
		count_plaintext(PLAINTEXT_UNDECIDED);
	return !HOLD_UNDECIDED;
}
