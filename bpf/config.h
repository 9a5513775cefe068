/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
/* What the loader decides (agent/probe/compile.py): intervals, sizes, the observed subtree, and kernel offsets from BTF (OFFSET_*). */
#pragma once

#if !defined(RING_PAGES) || !defined(CPUS) || !defined(SHORT_SLOTS) || !defined(LONG_SLOTS) || !defined(REQUESTS) || !defined(DNS_PORT_0) || !defined(DNS_PORT_1) || \
	!defined(DNS_PORT_2) || !defined(DNS_PORT_3) || \
	 !defined(CONNECTION_ENTRIES) || !defined(LISTENER_ENTRIES) || \
	!defined(EXCHANGE_ENTRIES) || !defined(SUBTREE_LEVEL) || !defined(SUBTREE_ID) || \
	!defined(ACTIVE_INTERVAL_NS) || !defined(UNANSWERED_AFTER_NS) || !defined(IDLE_AFTER_NS)
#error "config.h: the loader passes every constant with -D"
#endif

#define FORGET_AFTER_NS 10000000000ULL /* an ended entry that no new socket took up by then is of a burst that is over */

#define OPENED_AFTER_NS 1000000000ULL /* the initial retransmission timeout (RFC 6298): what has no answer by now is worth a record */
