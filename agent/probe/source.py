"""What is compiled at once: a source of bpf/, its maps and programs, and the kernel offsets that it uses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flows.agent.probe.bpf import AttachType, ProgramType
    from flows.agent.probe.btf import Kind


# OFFSET_<name> in bpf/kernel.h and what all sources use: structure and field.
SOCKET_OFFSETS = {
    "sock_family": ("sock", "__sk_common.skc_family"),
    "sock_local": ("sock", "__sk_common.skc_rcv_saddr"),
    "sock_remote": ("sock", "__sk_common.skc_daddr"),
    "sock_v6_local": ("sock", "__sk_common.skc_v6_rcv_saddr"),
    "sock_v6_remote": ("sock", "__sk_common.skc_v6_daddr"),
    "sock_remote_port": ("sock", "__sk_common.skc_dport"),
    "sock_net": ("sock", "__sk_common.skc_net.net"),
    "sock_cookie": ("sock", "__sk_common.skc_cookie"),
    "sock_protocol": ("sock", "sk_protocol"),
    "sock_cgroup": ("sock", "sk_cgrp_data.cgroup"),
    "inet_local_port": ("inet_sock", "inet_sport"),
    "cgroup_kn": ("cgroup", "kn"),
    "cgroup_level": ("cgroup", "level"),
    "cgroup_parent": ("cgroup", "self.parent"),
    "cgroup_of_state": ("cgroup_subsys_state", "cgroup"),
    "kernfs_node_id": ("kernfs_node", "id"),
    "net_inum": ("net", "ns.inum"),
    "task_tgid": ("task_struct", "tgid"),
    "task_group_leader": ("task_struct", "group_leader"),
    "task_comm": ("task_struct", "comm"),
    "socket_sk": ("socket", "sk"),
}


@dataclass(frozen=True, slots=True)
class Source:
    """One compilation.

    Programs by name: program type, attach type, kind and name of the BTF type that a tracing program is typed by.
    """

    name: str
    maps: tuple[str, ...]
    programs: dict[str, tuple[ProgramType, AttachType, Kind | None, str]]
    offsets: dict[str, tuple[str, str]]
