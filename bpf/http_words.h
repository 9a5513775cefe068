/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
/* What HTTP begins like, in packets and in plaintext: a few bytes are looked at, user space reads the rest. */
#pragma once
#include "record.h"

#define SHORTEST 16 /* "GET / HTTP/1.1\r\n"; no answer, hello or DNS message over TCP is shorter */
#define FRAME_HEADER 9
#define PREFACE 24

#define WORD(a, b, c, d) ((u32)(a) | (u32)(b) << 8 | (u32)(c) << 16 | (u32)(d) << 24)

enum { /* RFC 9113, 6 */
	FRAME_HEADERS = 1,
	FRAME_RST_STREAM = 3,
	FRAME_SETTINGS = 4,
	FRAME_PUSH_PROMISE = 5,
	FRAME_GOAWAY = 7,
	FRAME_CONTINUATION = 9,
};

/* Whether a request is not of the share that leaves. pairing: what it has in common with its answer, at both ends. */
static __always_inline bool is_left_out(u32 pairing, u64 left_out)
{
	return pairing * 2654435761U < left_out; /* 2^32 by the golden ratio: neighbouring numbers are spread evenly */
}

static __always_inline bool begins_request(u64 word)
{
	switch ((u32)word) {
	case WORD('G', 'E', 'T', ' '):
	case WORD('P', 'O', 'S', 'T'):
	case WORD('P', 'U', 'T', ' '):
	case WORD('H', 'E', 'A', 'D'):
	case WORD('D', 'E', 'L', 'E'):
	case WORD('P', 'A', 'T', 'C'):
	case WORD('O', 'P', 'T', 'I'):
	case WORD('C', 'O', 'N', 'N'):
	case WORD('T', 'R', 'A', 'C'):
	case WORD('P', 'R', 'O', 'P'):
	case WORD('M', 'K', 'C', 'O'):
	case WORD('C', 'O', 'P', 'Y'):
	case WORD('M', 'O', 'V', 'E'):
	case WORD('L', 'O', 'C', 'K'):
	case WORD('U', 'N', 'L', 'O'):
	case WORD('R', 'E', 'P', 'O'):
	case WORD('S', 'E', 'A', 'R'):
	case WORD('P', 'U', 'R', 'G'):
	case WORD('Q', 'U', 'E', 'R'):
		return true;
	}
	return false;
}

static __always_inline bool begins_response(u64 word)
{
	return (word & 0x00ffffffffffffffULL) == 0x002e312f50545448ULL; /* "HTTP/1." */
}

/* HEADERS that are whole, with flags that exist, on a client's stream: one packet in 10^10 of other traffic looks like that. */
static __always_inline bool begins_headers(u8 *first, u32 length)
{
	u32 frame = (u32)first[1] << 8 | first[2];

	return !first[0] && first[3] == FRAME_HEADERS && !(first[4] & ~0x2d) && first[4] & 4 && !first[5] && first[8] & 1 &&
	       frame + FRAME_HEADER <= length;
}

static __always_inline bool tells_of_headers(u8 type)
{
	switch (type) {
	case FRAME_HEADERS:
	case FRAME_RST_STREAM:
	case FRAME_SETTINGS:
	case FRAME_PUSH_PROMISE:
	case FRAME_GOAWAY:
	case FRAME_CONTINUATION:
		return true;
	}
	return false;
}
