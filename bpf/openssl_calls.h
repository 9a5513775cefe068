/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
/* Calls of OpenSSL that have not returned, thread by thread: the uprobes (openssl.c) begin and end them, and the packets that a thread sends
 * meanwhile (senders.h) tell which socket is behind them. */
#pragma once
#include "payload.h"

/* A call that has not returned. Which it is, its stack pointer tells: calls nest where a BIO is a session itself (HTTPS through an HTTPS proxy). */
struct call {
	u64 ssl;
	u64 buffer;
	u64 length; /* address of the _ex functions' result */
	u64 stack;
	u64 socket; /* that sent within this call; 0: none did */
	u64 cookie; /* its */
	u64 done;   /* has returned, or another name of the same function has said it already */
};

/* What leaves of a call as one record. */
struct piece {
	u32 at;     /* in the buffer */
	u32 bytes;  /* that leave of it */
	u32 before; /* 9: the frame's header, which was read already, stands before them */
	u32 length; /* of the whole, as the record says it */
	u32 number;
	u32 kind;
};

#define UNSENT_WORDS 3 /* of 8 bytes: in a hello 13 of them are random, and nearly all in what is encrypted */

/* What a session without a socket of its own (memory BIOs: asyncio) has encrypted last, for its program to send: the packet that begins with it
 * tells where. */
struct unsent {
	u64 ssl;
	u64 first[UNSENT_WORDS];
	u64 socket;
	u64 cookie; /* its; 0: it was not sent yet */
};

struct calls { /* of one thread */
	struct call outer;
	struct call inner;
	struct unsent unsent;
	struct payload head; /* what all records of a call begin with; here, for one thread may interrupt another's program on the same CPU */
	struct piece piece;
};

static __always_inline bool begins_with_unsent(struct unsent *unsent, u64 *text)
{
	return unsent->ssl && unsent->first[0] == text[0] && unsent->first[1] == text[1] && unsent->first[2] == text[2];
}

/* The socket that the calls of a thread send on: unless they have returned. text: of the packet, UNSENT_WORDS at least. */
static __always_inline void learn(struct calls *own, u64 socket, u64 cookie, u64 *text)
{
	if (begins_with_unsent(&own->unsent, text)) {
		own->unsent.socket = socket;
		own->unsent.cookie = cookie;
	}
	if (own->outer.stack && !own->outer.done) {
		own->outer.socket = socket;
		own->outer.cookie = cookie;
	}
	if (own->inner.stack && !own->inner.done) {
		own->inner.socket = socket;
		own->inner.cookie = cookie;
	}
}
