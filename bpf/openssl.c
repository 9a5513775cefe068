/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
/* Entry points on functions of OpenSSL and GnuTLS (perf uprobes): what a process writes before it is encrypted, and reads after it is decrypted.
 * agent/probe/openssl_source.py knows each by its name. ctx: struct pt_regs, of which the loader passes the places. */
#include "openssl_http.h"

/* costs: it is one of the calls that there are many of. */
static __always_inline int enter(u64 *ctx, bool extended, bool costs)
{
	u64 thread = bpf_get_current_pid_tgid();
	u64 stack = ctx[STACK];
	struct calls none = {};
	struct calls *own;
	struct call *call;

	if (costs)
		count_plaintext(PLAINTEXT_CALLS);
	own = calls.lookup(&thread);
	if (!own) {
		if (!observed())
			return 0;
		calls.update(&thread, &none);
		own = calls.lookup(&thread);
		if (!own)
			return 0; /* counted at the return */
	}
	call = !own->outer.done && own->outer.stack > stack ? &own->inner : &own->outer; /* stacks grow downward */
	call->ssl = ctx[ARGUMENT_1];
	call->buffer = ctx[ARGUMENT_2];
	call->length = extended ? ctx[ARGUMENT_4] : 0;
	call->stack = stack;
	call->socket = 0;
	call->cookie = 0;
	call->done = 0;
	return 0;
}

static __always_inline struct calls *calls_here(void)
{
	u64 thread = bpf_get_current_pid_tgid();

	return calls.lookup(&thread);
}

/* The one of the thread's calls that returns; 0: it is not one that counts. */
static __always_inline struct call *leave(u64 *ctx, struct calls *own)
{
	u64 stack = ctx[STACK] - RETURN_POPS;
	struct call *call = 0;

	if (own && own->outer.stack == stack)
		call = &own->outer;
	else if (own && own->inner.stack == stack)
		call = &own->inner;
	if (!call) {
		if (observed())
			count_plaintext(PLAINTEXT_CALLS_LOST);
		return 0;
	}
	if (call->done) /* the same file attached twice, through two mounts */
		return 0;
	call->done = 1;
	return call;
}

/* After a pause it is not known which bytes came meanwhile. */
static __always_inline void begin_slice(struct session *session, u64 slice)
{
	if (session->slice == slice)
		return;
	session->slice = slice;
	if (session->sent.known)
		lose_frames(&session->sent);
	if (session->received.known)
		lose_frames(&session->received);
}

static __always_inline struct session *session_of(u64 ssl, struct plaintext_rules *rules)
{
	struct session_key key = { .process = bpf_get_current_pid_tgid() >> 32, .ssl = ssl };
	struct session *session = sessions.lookup(&key);
	struct session fresh = { .slice = rules->slice };

	if (!session) {
		if (sessions.update(&key, &fresh)) {
			count_plaintext(PLAINTEXT_SESSIONS_FULL);
			return 0;
		}
		session = sessions.lookup(&key);
	}
	if (!session)
		return 0;
	begin_slice(session, rules->slice);
	return session;
}

/* What a session of this thread had encrypted was sent meanwhile. */
static __always_inline void take_unsent(struct unsent *unsent, struct plaintext_rules *rules)
{
	struct session *session;

	if (!unsent->cookie)
		return;
	session = session_of(unsent->ssl, rules);
	if (session)
		take_socket(session, unsent->socket, unsent->cookie);
	unsent->ssl = 0;
	unsent->cookie = 0;
}

static __always_inline int transferred(u64 *ctx, struct calls *own, struct call *call, bool sent, u64 bytes)
{
	struct plaintext_rules *rules = rules_now();
	struct plaintext plain = { .ctx = ctx, .call = call, .head = &own->head, .piece = &own->piece, .total = bytes, .sent = sent };

	/* SSL_write_ex() may be a shell around SSL_write() (LibreSSL): what is said of the inner call is not said again of the outer one */
	if (call == &own->inner && own->outer.ssl == call->ssl && own->outer.buffer == call->buffer)
		own->outer.done = 1;
	if (!rules)
		return 0;
	take_unsent(&own->unsent, rules);
	plain.session = session_of(call->ssl, rules);
	if (!plain.session)
		return 0;
	if (call->cookie)
		take_socket(plain.session, call->socket, call->cookie);
	plain.left_out = rules->left_out;
	plain.side = sent ? &plain.session->sent : &plain.session->received;
	plain.other = sent ? &plain.session->received : &plain.session->sent;
	on_plaintext(&plain);
	plain.side->bytes += plain.total;
	if (sent && !plain.session->cookie)
		read_unsent(&own->unsent, call->ssl, bpf_get_attach_cookie(ctx));
	return 0;
}

/* A call that gave nothing may have gone on with the handshake (Node.js). */
static __always_inline int transferred_nothing(u64 *ctx, struct calls *own, struct call *call)
{
	struct session_key key = { .process = bpf_get_current_pid_tgid() >> 32, .ssl = call->ssl };
	struct plaintext_rules *rules = rules_now();
	struct session *session;

	if (!rules)
		return 0;
	take_unsent(&own->unsent, rules);
	session = sessions.lookup(&key);
	if (!call->cookie && (!session || !session->cookie))
		read_unsent(&own->unsent, call->ssl, bpf_get_attach_cookie(ctx));
	return 0;
}

static __always_inline int leave_with_count(u64 *ctx, bool sent)
{
	struct calls *own = calls_here();
	struct call *call = leave(ctx, own);
	int bytes = ctx[RETURNED];

	if (!own || !call)
		return 0;
	return bytes > 0 ? transferred(ctx, own, call, sent, bytes) : transferred_nothing(ctx, own, call);
}

static __always_inline int leave_with_success(u64 *ctx, bool sent)
{
	struct calls *own = calls_here();
	struct call *call = leave(ctx, own);
	u64 bytes;

	if (!own || !call)
		return 0;
	if ((int)ctx[RETURNED] <= 0)
		return transferred_nothing(ctx, own, call);
	bytes = READ_USER(u64, call->length);
	return bytes && bytes <= 0x7fffffff ? transferred(ctx, own, call, sent, bytes) : 0;
}

int enter_call(u64 *ctx)
{
	return enter(ctx, false, true);
}

int enter_extended(u64 *ctx)
{
	return enter(ctx, true, true);
}

int enter_handshake(u64 *ctx)
{
	return enter(ctx, false, false);
}

int leave_write(u64 *ctx)
{
	return leave_with_count(ctx, true);
}

int leave_read(u64 *ctx)
{
	return leave_with_count(ctx, false);
}

int leave_write_extended(u64 *ctx)
{
	return leave_with_success(ctx, true);
}

int leave_read_extended(u64 *ctx)
{
	return leave_with_success(ctx, false);
}

/* A handshake carries nothing, but shows the socket: the one that it sends on, or who sends what it left in memory. */
int leave_handshake(u64 *ctx)
{
	struct calls *own = calls_here();
	struct call *call = leave(ctx, own);
	struct plaintext_rules *rules = rules_now();
	struct session *session;

	if (!rules || !own || !call)
		return 0;
	take_unsent(&own->unsent, rules);
	if (!call->cookie) {
		read_unsent(&own->unsent, call->ssl, bpf_get_attach_cookie(ctx));
		return 0;
	}
	session = session_of(call->ssl, rules);
	if (session)
		take_socket(session, call->socket, call->cookie);
	return 0;
}

/* SSL_free(ssl), SSL_clear(ssl) */
int forget_session(u64 *ctx)
{
	struct session_key key = { .process = bpf_get_current_pid_tgid() >> 32, .ssl = ctx[ARGUMENT_1] };

	sessions.delete(&key);
	return 0;
}
