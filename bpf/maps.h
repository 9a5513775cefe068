/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
/* All maps. */
#pragma once
#include "config.h"
#include "record.h"
#include "openssl_calls.h"

/* What the kernel's own socket does not remember of its TCP connection. Keyed by the socket's address, from its SYN (or the agent's start) to
 * its end, which every socket's state reports. A hash, not socket storage: making that costs 900 ns a connection (measured: two allocations
 * charged to the memory cgroup), and a cloned one for each accepted connection as much again. The kernel soon gives a closed socket's memory
 * to a new one, so an ended entry stays for a while and is filled again: no allocation, no insertion, no removal for most connections. */
struct connection {
	u64 id; /* socket cookie: tells a reused address apart */
	u64 start_ns;
	u64 emitted_ns;       /* last record; 0: none yet */
	u64 emitted_activity; /* packets counted at that time: more of them means active */
	u64 cgroup_id;
	struct process process;
	u32 handshake_us;
	u8 initiator;
	u8 flags_sent;
	u8 flags_received;
	u8 waiting;      /* for the answer to its SYN */
	u8 told_waiting; /* what has left of that: OPENED, then UNANSWERED */
	u8 ended;
	u8 error;  /* errno that the socket reported while it waited for an answer */
	u8 missed; /* a sweep has found the socket further on than is known here */
};

BPF_F_TABLE("hash", u64, struct connection, connections, CONNECTION_ENTRIES, BPF_F_NO_PREALLOC);

/* Who listens: an accepted connection is its listener's process's. Which worker of it has the socket would cost a lookup more in each
 * connection's last states (130 ns). */
struct listener_key {
	u64 cgroup_id;
	u32 netns;
	u32 port;             /* network byte order */
	struct address local; /* or the family's "any" */
};

struct listener {
	u64 id; /* cookie of the latest socket; several processes may have inherited it: the first one found is named */
	struct process process; /* no pid: sockets of several processes share the port (SO_REUSEPORT) */
};

BPF_F_TABLE("hash", struct listener_key, struct listener, listeners, LISTENER_ENTRIES, BPF_F_NO_PREALLOC);

/* Who speaks UDP, ICMP, SCTP or raw IP with whom: these have no connection in the kernel. */
struct exchange_key {
	u64 cgroup_id;
	struct address local;
	struct address remote;
	u16 local_port; /* ICMP echo: the identifier, on both sides */
	u16 remote_port;
	u8 protocol;
	u8 answering; /* ICMP echo: this end replies; keeps the two sides of a ping to oneself apart */
	u8 zero[2];
};

struct exchange {
	u64 start_ns;
	u64 last_ns; /* last packet */
	u64 emitted_ns;
	u64 emitted_packets;
	u64 id;
	u64 sent_bytes;
	u64 received_bytes;
	u32 sent_packets;
	u32 received_packets;
	struct process process;
	u8 initiator;
	u8 answered;
	u8 flags_sent;
	u8 flags_received;
	u8 icmp_type;
	u8 icmp_code;
};

/* Not an LRU: that evicts without a word. What finds no room here is counted, packet by packet. */
BPF_F_TABLE("hash", struct exchange_key, struct exchange, exchanges, EXCHANGE_ENTRIES, BPF_F_NO_PREALLOC);

/* Keys that a sweep looks at in one run; agent/probe/sweep.py fills them in. */
#define SWEPT_CONNECTIONS 512
#define SWEPT_EXCHANGES 128

struct swept_connections {
	u64 keys[SWEPT_CONNECTIONS];
};

struct swept_exchanges {
	struct exchange_key keys[SWEPT_EXCHANGES];
};

BPF_ARRAY(connections_to_sweep, struct swept_connections, 1);
BPF_ARRAY(exchanges_to_sweep, struct swept_exchanges, 1);

BPF_RINGBUF_OUTPUT(records, RING_PAGES);

#define BPF_F_MMAPABLE (1U << 10) /* include/uapi/linux/bpf.h */

BPF_F_TABLE("array", u32, struct lane, short_lanes, CPUS * LANES, BPF_F_MMAPABLE);
BPF_F_TABLE("array", u32, struct lane, long_lanes, CPUS * LANES, BPF_F_MMAPABLE);
BPF_F_TABLE("array", u32, struct short_payload, short_slots, CPUS * (SHORT_SLOTS + SECOND_SLOTS), BPF_F_MMAPABLE);
BPF_F_TABLE("array", u32, struct long_payload, long_slots, CPUS * (LONG_SLOTS + SECOND_SLOTS), BPF_F_MMAPABLE);

/* The few sockets that speak HTTP/2: asking a socket without storage for it costs next to nothing. */
BPF_SK_STORAGE(http2_connections, struct http2);

/* See attention.h. */
#define ATTENTION_BITS 12 /* 32 KB: of some hundred connections few share an entry */

struct attention {
	u32 http2; /* sockets */
	u32 first; /* packets still to be looked at, of those that came last */
};

BPF_ARRAY(attentions, struct attention, 1 << ATTENTION_BITS);

/* Where the calls of OpenSSL are while its plaintext is read: user space puts the table there (agent/probe/openssl.py). */
BPF_TABLE("lru_hash", u64, struct calls, calls_form, 64);
BPF_ARRAY_OF_MAPS(openssl_calls, "calls_form", 1);

BPF_TABLE("percpu_array", int, u64, counters, COUNTERS);

static __always_inline void count_by(int reason, u64 difference)
{
	u64 *value = counters.lookup(&reason);

	if (value)
		*value += difference; /* of this CPU; only the sum over CPUs means anything */
}

static __always_inline void count(int reason)
{
	count_by(reason, 1);
}
