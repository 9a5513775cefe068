/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
/* Packets: headers in, one flat struct out. Nothing here trusts a length field. */
#pragma once
#include "maps.h"

#define ETH_P_IP 0x0800
#define ETH_P_IPV6 0x86dd
#define EXTENSION_HEADERS 8 /* RFC 8200 names seven kinds, each at most once, destination options twice */

struct packet {
	struct address source;
	struct address destination;
	u32 length;       /* IP header included */
	u32 transport;    /* offset of the transport header */
	u32 sequence;     /* TCP */
	u16 source_port;  /* ICMP echo: the identifier */
	u16 destination_port;
	u8 protocol;
	u8 flags;         /* TCP */
	u8 icmp_type;
	u8 icmp_code;
};

enum parsed { PARSED, NOT_OURS, BAD };

#define LOAD(skb, offset, into) bpf_skb_load_bytes(skb, offset, &(into), sizeof(into))

static __always_inline u16 big_endian16(u8 *bytes)
{
	return (u16)bytes[0] << 8 | bytes[1];
}

static __always_inline int bad(int reason)
{
	count(reason);
	return BAD;
}

static __always_inline int parse_ipv4(struct __sk_buff *skb, struct packet *packet)
{
	struct {
		u8 version_length, tos, total_length[2], id[2], fragment[2], ttl, protocol, checksum[2];
		u32 source, destination;
	} ip;
	u32 header;

	if (LOAD(skb, 0, ip) < 0)
		return bad(MALFORMED);
	header = (ip.version_length & 15) * 4;
	packet->length = big_endian16(ip.total_length);
	if (ip.version_length >> 4 != 4 || header < sizeof(ip) || packet->length < header || packet->length > skb->len)
		return bad(MALFORMED);
	if (big_endian16(ip.fragment) & 0x1fff)
		return bad(FRAGMENT);
	packet->source = mapped(ip.source);
	packet->destination = mapped(ip.destination);
	packet->transport = header;
	packet->protocol = ip.protocol;
	return PARSED;
}

/* Walks to the transport header (RFC 8200, 4). */
static __always_inline int skip_extensions(struct __sk_buff *skb, struct packet *packet)
{
	struct {
		u8 next, length, rest[6];
	} extension;

	for (int i = 0; i < EXTENSION_HEADERS; i++) {
		u8 protocol = packet->protocol;

		if (protocol != IPPROTO_HOPOPTS && protocol != IPPROTO_ROUTING && protocol != IPPROTO_FRAGMENT &&
		    protocol != IPPROTO_AH && protocol != IPPROTO_DSTOPTS)
			return PARSED;
		if (LOAD(skb, packet->transport, extension) < 0)
			return bad(MALFORMED);
		if (protocol == IPPROTO_FRAGMENT && big_endian16(extension.rest) & 0xfff8)
			return bad(FRAGMENT);
		packet->protocol = extension.next;
		if (protocol == IPPROTO_FRAGMENT)
			packet->transport += 8;
		else if (protocol == IPPROTO_AH)
			packet->transport += (extension.length + 2) * 4; /* RFC 4302, 2.2 */
		else
			packet->transport += (extension.length + 1) * 8;
		if (packet->transport > packet->length)
			return bad(MALFORMED);
	}
	return bad(MALFORMED);
}

static __always_inline int parse_ipv6(struct __sk_buff *skb, struct packet *packet)
{
	struct {
		u8 version_class, flow[3], payload_length[2], next, hop_limit;
		struct address source, destination;
	} ip;

	if (LOAD(skb, 0, ip) < 0)
		return bad(MALFORMED);
	packet->length = big_endian16(ip.payload_length) + sizeof(ip);
	if (ip.version_class >> 4 != 6 || packet->length > skb->len)
		return bad(MALFORMED);
	packet->source = ip.source;
	packet->destination = ip.destination;
	packet->transport = sizeof(ip);
	packet->protocol = ip.next;
	return skip_extensions(skb, packet);
}

static __always_inline int parse_tcp(struct __sk_buff *skb, struct packet *packet, u32 room)
{
	struct {
		u8 source[2], destination[2], sequence[4], acknowledged[4], offset, flags, window[2], checksum[2], urgent[2];
	} tcp;

	if (room < sizeof(tcp) || LOAD(skb, packet->transport, tcp) < 0)
		return bad(MALFORMED);
	if ((tcp.offset >> 4) * 4 < sizeof(tcp) || (tcp.offset >> 4) * 4 > room)
		return bad(MALFORMED);
	packet->source_port = big_endian16(tcp.source);
	packet->destination_port = big_endian16(tcp.destination);
	packet->flags = tcp.flags;
	packet->sequence = *(u32 *)tcp.sequence;
	return PARSED;
}

static __always_inline int parse_udp(struct __sk_buff *skb, struct packet *packet, u32 room)
{
	struct {
		u8 source[2], destination[2], length[2], checksum[2];
	} udp;

	if (room < sizeof(udp) || LOAD(skb, packet->transport, udp) < 0)
		return bad(MALFORMED);
	if (big_endian16(udp.length) < sizeof(udp) || big_endian16(udp.length) > room)
		return bad(MALFORMED);
	packet->source_port = big_endian16(udp.source);
	packet->destination_port = big_endian16(udp.destination);
	return PARSED;
}

static __always_inline int parse_sctp(struct __sk_buff *skb, struct packet *packet, u32 room)
{
	struct {
		u8 source[2], destination[2], tag[4], checksum[4];
	} sctp;

	if (room < sizeof(sctp) || LOAD(skb, packet->transport, sctp) < 0)
		return bad(MALFORMED);
	packet->source_port = big_endian16(sctp.source);
	packet->destination_port = big_endian16(sctp.destination);
	return PARSED;
}

enum { /* RFC 792; RFC 4443; RFC 4861 */
	ICMP_ECHO_REPLY = 0,
	ICMP_ECHO = 8,
	ICMPV6_ECHO = 128,
	ICMPV6_ECHO_REPLY = 129,
	ICMPV6_MLD_FIRST = 130,
	ICMPV6_REDIRECT = 137,
	ICMPV6_MLD2_REPORT = 143,
};

static __always_inline bool is_echo(struct packet *packet)
{
	if (packet->protocol == IPPROTO_ICMP)
		return packet->icmp_type == ICMP_ECHO || packet->icmp_type == ICMP_ECHO_REPLY;
	return packet->icmp_type == ICMPV6_ECHO || packet->icmp_type == ICMPV6_ECHO_REPLY;
}

/* Neighbour discovery and multicast listener reports belong to the link, as ARP does: they are no flows. */
static __always_inline bool is_link_local_control(struct packet *packet)
{
	return packet->protocol == IPPROTO_ICMPV6 && (packet->icmp_type == ICMPV6_MLD2_REPORT ||
		(packet->icmp_type >= ICMPV6_MLD_FIRST && packet->icmp_type <= ICMPV6_REDIRECT));
}

static __always_inline int parse_icmp(struct __sk_buff *skb, struct packet *packet, u32 room)
{
	struct {
		u8 type, code, checksum[2], identifier[2], sequence[2];
	} icmp;

	if (room < sizeof(icmp) || LOAD(skb, packet->transport, icmp) < 0)
		return bad(MALFORMED);
	packet->icmp_type = icmp.type;
	packet->icmp_code = icmp.code;
	if (is_link_local_control(packet))
		return NOT_OURS;
	if (is_echo(packet))
		packet->source_port = packet->destination_port = big_endian16(icmp.identifier);
	return PARSED;
}

static __always_inline int parse_transport(struct __sk_buff *skb, struct packet *packet)
{
	u32 room = packet->length - packet->transport;

	switch (packet->protocol) {
	case IPPROTO_TCP:
		return parse_tcp(skb, packet, room);
	case IPPROTO_UDP:
		return parse_udp(skb, packet, room);
	case IPPROTO_ICMP:
	case IPPROTO_ICMPV6:
		return parse_icmp(skb, packet, room);
	case IPPROTO_SCTP:
		return parse_sctp(skb, packet, room);
	}
	return bad(UNKNOWN_PROTOCOL);
}

static __always_inline int parse(struct __sk_buff *skb, struct packet *packet)
{
	int result = skb->protocol == bpf_htons(ETH_P_IP) ? parse_ipv4(skb, packet) : parse_ipv6(skb, packet);

	return result == PARSED ? parse_transport(skb, packet) : result;
}
