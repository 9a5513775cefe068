/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
/* The one record that leaves the kernel: a change of one connection, as one local socket saw it.
 * agent/probe/record.py mirrors it; tests/unit/probe/test_record.py proves that both agree, byte for byte. */
#pragma once

enum event { /* numbers of flows.v1.Event (proto/extension.proto) */
	OPENED = 1,
	ESTABLISHED,
	ACTIVE,
	REFUSED,
	UNREACHABLE,
	UNANSWERED,
	RESET,
	TIMED_OUT,
	CLOSED,
	IDLE,
	REQUEST, /* from here on made in user space */
	RESPONSE,
	NO_RESPONSE,
	HELLO,
	DROPPED, /* a DNS packet */
};

enum { /* IANA protocol numbers */
	IPPROTO_HOPOPTS = 0,
	IPPROTO_ICMP = 1,
	IPPROTO_TCP = 6,
	IPPROTO_UDP = 17,
	IPPROTO_ROUTING = 43,
	IPPROTO_FRAGMENT = 44,
	IPPROTO_AH = 51,
	IPPROTO_ICMPV6 = 58,
	IPPROTO_DSTOPTS = 60,
	IPPROTO_SCTP = 132,
};

enum initiator { INITIATOR_UNKNOWN, INITIATOR_LOCAL, INITIATOR_REMOTE };

struct address {
	u64 half[2]; /* network byte order; IPv4 as ::ffff:a.b.c.d (RFC 4291, 2.5.5.2), so that there is one path for both */
};

struct process {
	u64 comm[2]; /* TASK_COMM_LEN bytes */
	u32 pid;     /* thread group id in the initial pid namespace */
};

struct record {
	u64 time_ns;  /* CLOCK_MONOTONIC */
	u64 start_ns; /* 0: nobody saw it, as a rule because it was before the agent */
	u64 conn_id;  /* socket cookie; table entries set the top bit */
	u64 cgroup_id;
	u64 sent_bytes;
	u64 received_bytes;
	struct address local_addr;
	struct address remote_addr;
	u32 sent_packets;
	u32 received_packets;
	u32 pid;
	u32 rtt_us;
	u32 handshake_us;
	u32 retransmits;
	u16 local_port;
	u16 remote_port;
	u8 event;
	u8 protocol;
	u8 initiator;
	u8 flags_sent;
	u8 flags_received;
	u8 error; /* errno of the socket */
	u8 icmp_type;
	u8 icmp_code;
	u32 netns; /* inode of the network namespace; 0: unknown */
	u64 comm[2];
};

enum counter { /* one per reason; agent/probe/record.py names them */
	LOST_RING_FULL,       /* a record found no room in the ring */
	LOST_CONNECTION,      /* no room for a TCP connection's state: it stays unseen until it ends */
	LOST_EXCHANGE,        /* packets of exchanges that found no room: they stay unseen */
	MALFORMED,            /* truncated or contradictory headers: no flow is made of them */
	FRAGMENT,             /* a fragment with no transport header: not attributed to a flow */
	UNKNOWN_PROTOCOL,     /* neither TCP, UDP, ICMP, ICMPv6 nor SCTP */
	SYNS_PENDING,         /* connections in SYN_SENT: up and down; while there are none, nothing can be unanswered */
	LOST_PAYLOAD,         /* first bytes found no room in their ring */
	SAMPLED_OUT,          /* first bytes of requests and answers that were left out on purpose */
	PASSED_OVER,          /* packets with payload that were not looked at, for the same purpose */
	HTTP2_UNFOLLOWED,     /* times that the frames of an HTTP/2 connection were lost track of */
	FOUND_LATE,           /* state changes of TCP sockets that no program was told of: found afterwards, and told then */
	LOST_END,             /* ends of TCP connections that no program was told of, and whose sockets are gone */
	NOT_RUN,              /* times that the kernel left out a tracepoint's program; it counts them itself (bpf_prog_info) */
	COUNTERS,
};
