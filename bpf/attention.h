/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
/* While requests are sampled: which connections are looked at all the same. Asked for each packet, so by a table that takes no call (a call of
 * a helper takes 25 ns); connections whose ports add up alike share an entry, and are then looked at more often than need be. */
#pragma once
#include "maps.h"

#define FIRST_PACKETS 32 /* of a connection's both ends: hellos, prefaces and what comes before an upgrade are among them */

static __always_inline struct attention *attention_of(u16 port, u16 other)
{
	u32 at = ((u32)port + other) * 2654435761U >> (32 - ATTENTION_BITS); /* the same at both ends */

	return attentions.lookup(&at);
}

/* A new connection. */
static __always_inline void attend_begin(u16 port, u16 other)
{
	struct attention *attention = attention_of(port, other);

	if (attention)
		attention->first = FIRST_PACKETS;
}

/* HTTP/2, whose frames all count, begins (1) or ends (-1) at one end. */
static __always_inline void attend_http2(u16 port, u16 other, u32 difference)
{
	struct attention *attention = attention_of(port, other);

	if (attention)
		__sync_fetch_and_add(&attention->http2, difference);
}

/* Whether its next packet is to be looked at; that is counted. */
static __always_inline bool is_attended(u16 port, u16 other)
{
	struct attention *attention = attention_of(port, other);
	u32 first;

	if (!attention || attention->http2)
		return true;
	first = attention->first; /* once: another CPU may count down, too */
	if (!first)
		return false;
	attention->first = first - 1;
	return true;
}
