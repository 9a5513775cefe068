/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
/* What a session carries: whether a buffer begins a request or an answer, and the frames of HTTP/2 (RFC 9113) across calls. */
#pragma once
#include "http_words.h"
#include "openssl_socket.h"

#define MAX_PIECES 40 /* of frames in one call: an SSL_read() gives 16,384 bytes at most. Beyond, the connection is lost track of */
#define MAX_TEXT (LONG_TEXT - 16) /* a frame's header stands before it; the verifier wants room for 15 bytes */

/* The bytes of one call. */
struct plaintext {
	void *ctx;
	struct call *call;
	struct session *session;
	struct direction *side;
	struct direction *other;
	struct payload *head;
	struct piece *piece;
	u64 left_out;
	u32 total;
	bool sent;
};

/* The server's preface is its SETTINGS, which it may send before it has read anything (RFC 9113, 3.4). */
static __always_inline bool starts_settings(u8 *first, u32 total)
{
	return !first[0] && !first[1] && first[2] % 6 == 0 && first[3] == FRAME_SETTINGS && !first[4] && !first[5] && !first[6] &&
	       !first[7] && !first[8] && (u32)first[2] + FRAME_HEADER <= total;
}

/* Once for all records of a call: the socket is asked for only where there is something to say of it. False: it is not known. */
static __always_inline bool fill_head(struct plaintext *plain)
{
	void *sk = find_socket(plain->ctx, plain->session, plain->call, plain->sent);
	struct payload *head = plain->head;
	struct process process;

	if (!sk) {
		count_plaintext(PLAINTEXT_SOCKET_UNKNOWN);
		return false;
	}
	if (plain->session->ends.of != plain->session->cookie)
		read_ends(&plain->session->ends, sk, plain->session->cookie);
	fill_ends(head, &plain->session->ends);
	read_process(&process, (void *)bpf_get_current_task_btf());
	head->comm[0] = process.comm[0];
	head->comm[1] = process.comm[1];
	head->pid = process.pid;
	head->time_ns = bpf_ktime_get_ns();
	head->acknowledged = plain->other->bytes;
	head->sent = plain->sent;
	head->origin = ORIGIN_TLS_LIBRARY;
	head->slice = plain->session->slice % SLICES;
	return true;
}

static __always_inline void fill_piece(struct plaintext *plain, struct payload *head)
{
	*head = *plain->head;
	head->sequence = plain->side->bytes + plain->piece->at - plain->piece->before;
	head->length = plain->piece->length;
	head->number = plain->piece->number;
	head->kind = plain->piece->kind;
}

/* The piece's bytes, at most `room` of them, to `text`; the value is how many. */
static __always_inline u64 copy_piece(struct plaintext *plain, u8 *text, u64 room)
{
	u64 bytes = plain->piece->bytes;

	if (bytes > room)
		bytes = room;
	HIDE(bytes);
	if (!bytes || bytes > room)
		return 0;
	if (!bpf_probe_read_user(text, bytes, (void *)(plain->call->buffer + plain->piece->at)))
		return bytes;
	count_plaintext(PLAINTEXT_UNREADABLE);
	return 0;
}

static __always_inline void emit_short(struct plaintext *plain)
{
	struct short_payload *payload = plaintext.ringbuf_reserve(sizeof(*payload));

	if (!payload) {
		count_plaintext(PLAINTEXT_LOST_RING_FULL);
		return;
	}
	fill_piece(plain, &payload->head);
	payload->head.captured = copy_piece(plain, payload->text, SHORT_TEXT);
	plaintext.ringbuf_submit(payload, 0);
}

/* Where a frame's header stands before the piece, it goes first. */
static __always_inline void emit_long(struct plaintext *plain)
{
	struct long_payload *payload = long_plaintext.ringbuf_reserve(sizeof(*payload));
	u64 before = plain->piece->before & 15;

	if (!payload) {
		count_plaintext(PLAINTEXT_LOST_RING_FULL);
		return;
	}
	fill_piece(plain, &payload->head);
	__builtin_memcpy(payload->text, plain->side->header, FRAME_HEADER);
	HIDE(before);
	before &= 15;
	payload->head.captured = before + copy_piece(plain, payload->text + before, MAX_TEXT);
	long_plaintext.ringbuf_submit(payload, 0);
}

static __always_inline void lose_frames(struct direction *side)
{
	side->known = 0;
	side->left = 0;
	side->have = 0;
	side->handed = 0;
	side->number++; /* a gap in the numbers, so that the reader knows */
	count_plaintext(PLAINTEXT_HTTP2_UNFOLLOWED);
}

/* Completes the frame header that stands at `at` of the buffer. The value is how many bytes it took of it; 0: it is not complete. */
static __always_inline u32 read_frame_header(struct plaintext *plain, u32 at)
{
	struct direction *side = plain->side;
	u64 have = side->have & 15;
	u64 rest = plain->total - at;
	u64 wanted = FRAME_HEADER - have;

	if (have >= FRAME_HEADER)
		return 0;
	wanted = rest < wanted ? rest : wanted;
	HIDE(wanted);
	HIDE(have);
	have &= 15;
	if (!wanted || wanted > FRAME_HEADER)
		return 0;
	if (bpf_probe_read_user(side->header + have, wanted, (void *)(plain->call->buffer + at))) {
		count_plaintext(PLAINTEXT_UNREADABLE);
		return 0;
	}
	side->have = have + wanted;
	return wanted;
}

static __always_inline u32 smallest(u32 a, u32 b, u32 c)
{
	a = b < a ? b : a;
	return c < a ? c : a;
}

/* The frames from piece->at in the buffer on: those that say something of headers leave, piece by piece; the others are stepped over.
 * All that changes from frame to frame is in memory, where the verifier does not follow it: else it would try each combination. */
static __always_inline void walk_plaintext_frames(struct plaintext *plain)
{
	volatile struct direction *side = plain->side;
	volatile struct piece *piece = plain->piece;

	for (int i = 0; i < MAX_PIECES && piece->at < plain->total; i++) {
		piece->before = 0;
		piece->kind = HTTP2_MORE;
		if (!side->left) {
			u32 taken = read_frame_header(plain, piece->at);

			piece->at += taken;
			if (!taken)
				break;
			if (side->have < FRAME_HEADER)
				return; /* goes on in the next call */
			side->have = 0;
			if (side->header[5] & 0x80 || side->header[3] > 32) { /* no frame: a reserved bit, a type that nobody defined */
				lose_frames(plain->side);
				return;
			}
			side->left = (u32)side->header[0] << 16 | (u32)side->header[1] << 8 | side->header[2];
			side->handed = tells_of_headers(side->header[3]);
			piece->before = FRAME_HEADER;
			piece->kind = HTTP2;
		}
		piece->bytes = smallest(side->left, plain->total - piece->at, side->handed ? MAX_TEXT : ~0U);
		if (side->handed) {
			piece->length = piece->before ? side->left + FRAME_HEADER : piece->bytes;
			piece->number = side->number;
			side->number += 1;
			emit_long(plain);
		}
		side->left -= piece->bytes;
		piece->at += piece->bytes;
	}
	if (piece->at < plain->total)
		lose_frames(plain->side);
}

/* What the buffer begins with. The value is the record's kind, with what leaves of HTTP/1 or the client's preface in piece; 0: nothing known. */
static __always_inline u8 classify(struct plaintext *plain, struct piece *piece)
{
	union {
		u8 bytes[SHORTEST];
		u32 word;
		u64 words[2];
	} first = {};

	if (plain->total < SHORTEST)
		return 0;
	if (bpf_probe_read_user(&first, sizeof(first), (void *)plain->call->buffer)) {
		count_plaintext(PLAINTEXT_UNREADABLE);
		return 0;
	}
	if (begins_response(first.words[0])) {
		piece->bytes = smallest(plain->total, SHORT_TEXT, ~0U); /* as of a packet */
		return HTTP_RESPONSE;
	}
	if (begins_request(first.word)) {
		piece->bytes = plain->total;
		return HTTP_REQUEST;
	}
	if (first.words[0] == 0x5448202a20495250ULL && plain->total >= PREFACE) { /* "PRI * HT" */
		piece->bytes = PREFACE;
		return HTTP2;
	}
	if (begins_headers(first.bytes, plain->total) || (!plain->side->bytes && starts_settings(first.bytes, plain->total)))
		return HTTP2;
	return 0;
}

/* As of packets, l7.h; but what pairs a request with its answer are small numbers here, that many connections share. Both ends have the same ports. */
static __always_inline bool plaintext_sampled_out(struct plaintext *plain, u8 kind)
{
	u32 pairing = kind == HTTP_RESPONSE ? plain->side->bytes : plain->other->bytes;

	if (kind == HTTP2)
		return false;
	pairing += 40503U * (plain->session->ends.local_port + plain->session->ends.remote_port);
	if (!is_left_out(pairing, plain->left_out))
		return false;
	count_plaintext(PLAINTEXT_SAMPLED_OUT);
	return true;
}

static __always_inline void on_plaintext(struct plaintext *plain)
{
	struct piece *piece = plain->piece;
	struct piece none = { .kind = HTTP2 };
	bool ends_known = plain->session->cookie && plain->session->ends.of == plain->session->cookie;
	bool allowed;

	*piece = none;
	if (!plain->side->known)
		piece->kind = classify(plain, piece);
	if (!piece->kind)
		return;
	allowed = observed(); /* a thread that was observed once may be excluded by now */
	if (allowed && ends_known && plaintext_sampled_out(plain, piece->kind))
		return;
	if (!allowed || !fill_head(plain)) {
		if (plain->side->known)
			lose_frames(plain->side);
		return;
	}
	if (!ends_known && plaintext_sampled_out(plain, piece->kind))
		return;
	if (piece->bytes) {
		piece->length = piece->kind == HTTP2 ? PREFACE : plain->total;
		if (piece->kind != HTTP2 && piece->bytes <= SHORT_TEXT)
			emit_short(plain);
		else
			emit_long(plain);
	}
	if (piece->kind != HTTP2)
		return;
	plain->side->known = 1;
	if (piece->bytes) {
		plain->side->number++;
		plain->other->known |= !plain->other->bytes; /* begins with a frame */
	}
	piece->at = piece->bytes;
	walk_plaintext_frames(plain);
}
