"""What the probe can be told, and why each default is what it is."""

from __future__ import annotations

from dataclasses import dataclass

SECOND = 1_000_000_000
OF_A_FLOOD = 20  # of first bytes that may be looked at, one in so many is when more come
MAX_DNS_PORTS = 4  # DNS_PORT_* of bpf/l7.h


@dataclass(frozen=True, slots=True)
class ProbeSettings:
    """Sizes and intervals of the kernel side. Intervals in nanoseconds."""

    ring_bytes: int = 8 << 20
    """A power of two. 58,000 records: most of a second of the fastest that two cores open connections (17,000/s, both ends seen,
    two records each), so that a reader that is kept from the CPU for so long loses nothing."""

    requests: bool = True
    """Whether first bytes are looked at: DNS, HTTP and TLS are seen without a proxy, which is what people come for."""

    short_slots: int = 32_768
    """First bytes of requests and answers that wait, on all CPUs together, 11 MB: at 5,000 requests/s with both ends seen
    one and a half seconds, of which the reader takes a fifth."""

    long_slots: int = 2_048
    """The same for long ones, 4 MB: TLS hellos, HTTP/2 headers, requests and DNS answers of more than 208 bytes."""

    payloads_per_second: int = 40_000
    """First bytes that are all looked at: 10,000 requests/s with both ends seen, 4 to 10 % of a core. Of more a share is taken,
    each request with its answer, and the rest is told as sampled."""

    sampled_per_second: int = 40_000 // OF_A_FLOOD
    """First bytes that are looked at when more come than that: quantiles of 500 requests a second are good enough, and a node
    that is so busy needs its CPUs. These take half a percent of one."""

    dns_ports: tuple[int, ...] = (53,)
    """Ports of DNS; up to four. 5353 (mDNS) and 5355 (LLMNR) speak something else in the same form."""

    connection_entries: int = 131_072
    """TCP connections known at once: above what one busy proxy holds. Memory is taken as they come, but for 2 MB of buckets; more
    buckets would make each sweep longer (17 ns for each)."""

    listener_entries: int = 16_384
    """Listening ports, per cgroup: far above what the 250 pods of a large node open."""

    exchange_entries: int = 65_536
    """UDP, ICMP, SCTP and raw exchanges known at once: with 30 s until an idle one ends, 2,000 new ones a second."""

    active_interval_ns: int = 5 * SECOND
    """A record this often for what stays active: NetObserv's eviction time, what users of flow tools expect."""

    unanswered_after_ns: int = 3 * SECOND
    """SYNs go out after 0, 1 and 3 s (RFC 6298): by then two repetitions had no answer, and people's own time-outs begin."""

    idle_after_ns: int = 30 * SECOND
    """An exchange ends by this much silence: conntrack's own time-out for one UDP datagram (nf_conntrack_udp_timeout)."""

    sweep_seconds: float = 1.0
    """How often connections that wait for an answer are looked at, if there are any: UNANSWERED comes no later than this."""

    full_sweep_seconds: float = 5.0
    """How often everything that is quiet is looked at; ACTIVE and IDLE come no later than this. 4 ms of one CPU each."""

    batch_seconds: float = 1.0
    """After the first record, how long to let more come in, unless somebody asks for flows or follows them: these have what waits
    moved at once. A batch of requests costs 2 ms before it costs anything for each."""

    look_seconds: float = 0.1
    """How often to look meanwhile whether a ring fills, or more comes than may be looked at: the fastest that two cores open
    connections fills a tenth of it, and the first bytes of as many requests take the agent 30 ms. To wake up costs 0.2 ms."""

    filled: float = 0.25
    """From here on, of the fullest ring, what waits is moved: the rest is for what comes before the reader gets a CPU."""


@dataclass(frozen=True, slots=True)
class PlaintextSettings:
    """Whose plaintext is read, and what that may cost."""

    off_limits: frozenset[str] = frozenset()
    """Namespaces at whose plaintext nobody looks."""

    budget_percent: float = 1.0
    """Of the time of all CPUs: what the agent takes for all else that it does at thousands of flows a second. Of two CPUs it is
    4,000 calls/s of OpenSSL, some 1,500 requests/s of a server."""
