"""The node's own addresses, as the kernel's tables list them."""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path

FIB_TRIE = Path("/proc/net/fib_trie")  # IPv4: leaves, each with "host LOCAL" if it is one of ours
IF_INET6 = Path("/proc/net/if_inet6")  # IPv6: 32 hex digits first

_LOCAL = re.compile(r"\|-- ([0-9.]+)\n\s+/32 host LOCAL")


def parse_ipv4(fib_trie: str) -> set[str]:
    """Local IPv4 addresses of /proc/net/fib_trie."""
    return set(_LOCAL.findall(fib_trie))


def parse_ipv6(if_inet6: str) -> set[str]:
    """IPv6 addresses of /proc/net/if_inet6; lines of another form are left out."""
    words = (line.split(maxsplit=1)[0] for line in if_inet6.splitlines() if line.strip())
    return {str(ipaddress.IPv6Address(int(word, 16))) for word in words if re.fullmatch(r"[0-9a-f]{32}", word)}


def read() -> set[str]:
    """All addresses of this network namespace."""
    ipv6 = parse_ipv6(IF_INET6.read_text()) if IF_INET6.exists() else set()
    return parse_ipv4(FIB_TRIE.read_text()) | ipv6
