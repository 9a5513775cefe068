/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
/* The second kind of record: the first bytes of a packet that may begin a request or an answer.
 * agent/probe/payload.py mirrors it; tests/unit/probe/test_payload.py proves that both agree, byte for byte. */
#pragma once
#include "record.h"

#define SHORT_TEXT 208
#define LONG_TEXT 1928

enum payload_kind {
	HTTP_REQUEST = 1, /* a packet that begins with an HTTP/1 method */
	HTTP_RESPONSE,    /* a packet that begins with HTTP/1. */
	HTTP2,            /* one frame that matters for headers, with its header of 9 bytes, or the client's preface; RFC 9113 */
	DNS,              /* UDP: one message. TCP: a packet's payload, where messages have two bytes of length before them */
	TLS_HELLO,        /* a TLS record that begins with a ClientHello or a ServerHello */
	HTTP2_MORE,       /* the bytes that follow what was handed over last of a frame that lies in several packets */
};

enum payload_origin { ORIGIN_PACKET, ORIGIN_TLS_LIBRARY };

#define SLICES 64

/* What both sizes begin with. */
struct payload {
	u64 time_ns; /* CLOCK_MONOTONIC */
	u64 conn_id; /* as in struct record */
	u64 cgroup_id;
	struct address local_addr;
	struct address remote_addr;
	u64 comm[2]; /* zeros: not known here */
	u32 pid;     /* 0: not known here */
	u32 netns;   /* 0: not known here */
	u32 sequence;     /* TCP: of the payload's first byte. A request and its answer meet where the answer's equals what the request
	                   * acknowledged. OpenSSL: bytes that went that way before */
	u32 acknowledged; /* TCP: the other direction's next byte. OpenSSL: bytes that came the other way before */
	u32 length;       /* bytes of the packet's payload; HTTP2: of the whole frame with its header */
	u32 number;       /* HTTP/2: of this frame among those handed over of this connection and direction, from 0 */
	u16 captured;     /* bytes in text */
	u16 local_port;
	u16 remote_port;
	u8 kind;
	u8 protocol; /* IANA */
	u8 sent;     /* 1: the local end sent it */
	u8 origin;
	u8 slice; /* OpenSSL: number of the time in which it was read without a pause, mod SLICES; what came between two is not known */
	u8 zero[5];
};

struct short_payload {
	struct payload head;
	u8 text[SHORT_TEXT];
};

struct long_payload {
	struct payload head;
	u8 text[LONG_TEXT];
};

/* Each CPU has rings of slots of its own, lanes: on one ring for all, the CPUs wait for each other and for its memory. Of the two lanes one is for
 * programs that interrupt another one at work on the first: whoever has a lane has it alone, and may leave a slot again that is of no use. */
#define LANES 2
#define SECOND_SLOTS 64 /* interrupts rarely come just then */

struct lane {
	u64 written; /* slots that are whole */
	u64 read;    /* slots given back, by user space */
	u64 left_out; /* by user space: requests whose hash, of 32 bits, is below it do not leave, when more come than it may take */
	u64 busy;     /* in the first lane of short payloads: how many programs are at work on this CPU, one interrupting the other */
	u64 zero[12]; /* lanes share no cache lines */
};

/* One direction of an HTTP/2 connection. */
struct http2_side {
	u32 next;   /* sequence number of the next frame's first byte */
	u32 seen;   /* of the byte after the last that was seen */
	u32 wanted; /* bytes that are still to come of a frame that was handed over */
	u32 number; /* of the next record */
	u8 known;   /* whether `next` means anything */
	u8 have;    /* bytes of a frame's header that came with the packet before */
	u8 zero[2];
	u8 header[20]; /* a frame's header, and room that the verifier wants */
};

struct http2 {
	struct http2_side sent;
	struct http2_side received;
	u64 attended; /* it is counted in its entry (attention.h) */
};
