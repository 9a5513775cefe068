/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
/* HTTP/2: the frames of a connection, walked packet by packet; those that say something of headers leave (RFC 9113). */
#pragma once
#include "attention.h"
#include "l7.h"

#define MAX_FRAMES 16 /* in one packet; beyond that the connection is lost track of, and found again at a packet that begins with headers */

/* A frame whose header was read already, and as much of its payload as this packet has, from `offset` in the packet on. */
static __always_inline u32 emit_frame(
	struct __sk_buff *skb, struct bpf_sock *sk, struct segment *segment, struct taken *taken, struct http2_side *side,
	u32 offset, u32 here)
{
	struct long_payload *slot = next_long(taken);
	u32 frame = (u32)side->header[0] << 16 | (u32)side->header[1] << 8 | side->header[2];
	u32 captured = 0;

	if (!slot) {
		count(LOST_PAYLOAD);
		side->number++;
		return 0;
	}
	fill_socket(&slot->head, skb, sk, false); /* several records of one packet are in order by their times */
	fill_segment(&slot->head, segment, HTTP2, frame + FRAME_HEADER);
	slot->head.number = side->number++;
	__builtin_memcpy(slot->text, side->header, FRAME_HEADER);
	here = here > frame ? frame : here;
	if (here)
		captured = COPY(skb, offset, slot->text + FRAME_HEADER, here, LONG_TEXT - FRAME_HEADER);
	slot->head.captured = captured + FRAME_HEADER;
	keep(taken);
	return captured == here ? frame - here : 0; /* what does not fit into the record is not worth the rest */
}

static __always_inline void emit_more(
	struct __sk_buff *skb, struct bpf_sock *sk, struct segment *segment, struct taken *taken, struct http2_side *side)
{
	struct long_payload *slot = next_long(taken);
	u32 here = side->wanted > segment->length ? segment->length : side->wanted;

	side->wanted -= here;
	if (!slot) {
		count(LOST_PAYLOAD);
		side->number++;
		return;
	}
	fill_socket(&slot->head, skb, sk, false); /* several records of one packet are in order by their times */
	fill_segment(&slot->head, segment, HTTP2_MORE, here);
	slot->head.number = side->number++;
	slot->head.captured = COPY(skb, segment->offset, slot->text, here, LONG_TEXT);
	if (slot->head.captured < here)
		side->wanted = 0;
	keep(taken);
}

static __always_inline void lose_track(struct http2_side *side)
{
	side->known = 0;
	side->wanted = 0;
	side->have = 0;
	side->number++; /* a gap in the numbers, so that the reader knows */
	count(HTTP2_UNFOLLOWED);
}

/* The frames that begin in this packet, from `at` in its payload on. */
static __always_inline void walk_frames(
	struct __sk_buff *skb, struct bpf_sock *sk, struct segment *segment, struct taken *taken, struct http2_side *side, u32 at)
{
	for (int i = 0; i < MAX_FRAMES; i++) {
		u32 have = side->have & 15, rest, frame, behind;

		if (at >= segment->length)
			break;
		rest = segment->length - at;
		if (have >= FRAME_HEADER)
			have = 0;
		if (have + rest < FRAME_HEADER) { /* the header goes on in the next packet */
			u32 bytes = COPY(skb, segment->offset + at, side->header + have, rest, FRAME_HEADER - 1);

			side->have = have + bytes;
			at = segment->length;
			break;
		}
		if (bpf_skb_load_bytes(skb, segment->offset + at, side->header + have, FRAME_HEADER - have) < 0)
			break;
		side->have = 0;
		at += FRAME_HEADER - have;
		behind = segment->length - at;
		frame = (u32)side->header[0] << 16 | (u32)side->header[1] << 8 | side->header[2];
		if (tells_of_headers(side->header[3])) {
			u32 wanted = emit_frame(skb, sk, segment, taken, side, segment->offset + at, behind);

			side->wanted = frame > behind ? wanted : 0;
		}
		at += frame;
	}
	side->next = segment->sequence + at;
	if (at < segment->length)
		lose_track(side);
}

static __always_inline void on_http2_side(
	struct __sk_buff *skb, struct bpf_sock *sk, struct segment *segment, struct taken *taken, struct http2_side *side, u8 *first)
{
	u32 at = side->next - segment->sequence;

	if (side->known && (s32)(segment->sequence + segment->length - side->seen) <= 0)
		return; /* retransmitted */
	if (side->known && segment->sequence != side->seen)
		lose_track(side);
	side->seen = segment->sequence + segment->length;
	if (!side->known) {
		if (!begins_headers(first, segment->length))
			return;
		side->known = 1;
		at = 0;
	}
	if (side->wanted)
		emit_more(skb, sk, segment, taken, side);
	if (at < segment->length)
		walk_frames(skb, sk, segment, taken, side, at);
}

static __always_inline void begin_side(struct http2_side *side, u32 seen, u32 next)
{
	side->seen = seen;
	side->next = next;
	side->known = 1;
}

/* The client's preface, or headers of a connection that is older than the agent. */
static __always_inline struct http2 *begin_http2(struct bpf_sock *sk, struct segment *segment, bool preface)
{
	struct http2 fresh = {};
	struct http2 *connection = http2_connections.sk_storage_get(sk, &fresh, BPF_SK_STORAGE_GET_F_CREATE);
	struct http2_side *side, *other;

	if (!connection) {
		count(HTTP2_UNFOLLOWED);
		return 0;
	}
	if (!connection->attended)
		attend_http2(sk->src_port, bpf_ntohs(sk->dst_port), 1);
	connection->attended = 1;
	side = segment->egress ? &connection->sent : &connection->received;
	other = segment->egress ? &connection->received : &connection->sent;
	begin_side(side, segment->sequence, segment->sequence + (preface ? PREFACE : 0));
	side->number = preface;
	begin_side(other, segment->acknowledged, segment->acknowledged);
	return connection;
}
