"""Why the kernel drops packets, in its own words: numbers differ from kernel to kernel, so they are read from its BTF."""

from __future__ import annotations

from functools import lru_cache

from flows.agent.probe.btf import Btf, BtfError

PREFIX = "SKB_DROP_REASON_"


def drop_reasons(btf: Btf) -> dict[str, int]:
    """Numbers by name without prefix, of enum skb_drop_reason; empty where the kernel gives no reasons (before Linux 5.17)."""
    try:
        told = btf.enumerators("skb_drop_reason")
    except BtfError:
        return {}
    return {name.removeprefix(PREFIX): number for name, number in told.items() if name.startswith(PREFIX)}


@lru_cache(maxsize=1)
def reason_names() -> dict[int, str]:
    """Names by number, of the running kernel."""
    try:
        return {number: name for name, number in drop_reasons(Btf.of_running_kernel()).items()}
    except (BtfError, OSError):
        return {}
