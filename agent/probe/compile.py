"""Compile and load, in a process of its own that ends at once: BCC maps LLVM (about 125 MB), which the agent must not carry.

Run as `python -m flows.agent.probe.compile FD`: reads a Settings as JSON from the socket FD, answers with one JSON line and the
descriptors of maps and programs (SCM_RIGHTS). The only module that imports bcc.
"""

from __future__ import annotations

import json
import mmap
import os
import platform
import re
import socket
import sys
import tempfile
from importlib import resources
from pathlib import Path

from flows.agent.probe.bpf import AttachType, ProgramType, VerifierError, load_program
from flows.agent.probe.btf import Btf, Kind
from flows.agent.probe.drop_reasons import drop_reasons
from flows.agent.probe.openssl_source import OPENSSL
from flows.agent.probe.openssl_source import SOURCE as OPENSSL_SOURCE
from flows.agent.probe.source import SOCKET_OFFSETS, Source

INCLUDE = re.compile(r'#include "([a-z0-9_]+\.h)"')
MAPS = (
    "records", "short_lanes", "short_slots", "long_lanes", "long_slots", "counters", "openssl_calls",
    "connections", "exchanges", "connections_to_sweep", "exchanges_to_sweep", "attentions",
)  # fmt: skip

# name in bpf/flows.c: program type, attach type, kind and name of the BTF type that a tracing program is typed by
PROGRAMS: dict[str, tuple[ProgramType, AttachType, Kind | None, str]] = {
    "ingress": (ProgramType.CGROUP_SKB, AttachType.CGROUP_INET_INGRESS, None, ""),
    "egress": (ProgramType.CGROUP_SKB, AttachType.CGROUP_INET_EGRESS, None, ""),
    "inet_sock_set_state": (
        ProgramType.TRACING, AttachType.TRACE_RAW_TP, Kind.TYPEDEF, "btf_trace_inet_sock_set_state",
    ),
    "inet_sk_error_report": (
        ProgramType.TRACING,
        AttachType.TRACE_RAW_TP,
        Kind.TYPEDEF,
        "btf_trace_inet_sk_error_report",
    ),
    "kfree_skb": (ProgramType.TRACING, AttachType.TRACE_RAW_TP, Kind.TYPEDEF, "btf_trace_kfree_skb"),
    "sweep_connections": (ProgramType.RAW_TRACEPOINT, AttachType.NONE, None, ""),
    "sweep_exchanges": (ProgramType.RAW_TRACEPOINT, AttachType.NONE, None, ""),
    "adopt_sockets": (ProgramType.TRACING, AttachType.TRACE_ITER, Kind.FUNC, "bpf_iter_task_file"),
}  # fmt: skip

# OFFSET_<name> in bpf/*.h: structure and field
OFFSETS = SOCKET_OFFSETS | {
    "sock_state": ("sock", "__sk_common.skc_state"),
    "sock_flags": ("sock", "__sk_common.skc_flags"),
    "sock_err": ("sock", "sk_err"),
    "sock_error_queue": ("sock", "sk_error_queue"),
    "skb_head": ("sk_buff", "head"),
    "skb_network_header": ("sk_buff", "network_header"),
    "skb_protocol": ("sk_buff", "protocol"),
    "skb_sk": ("sk_buff", "sk"),
    "sk_buff_head_prev": ("sk_buff_head", "prev"),
    "sk_buff_cb": ("sk_buff", "cb"),
    "sock_exterr_errno": ("sock_exterr_skb", "ee.ee_errno"),
    "sock_owned": ("sock", "sk_lock.owned"),
    "tcp_bytes_sent": ("tcp_sock", "bytes_sent"),
    "tcp_bytes_retrans": ("tcp_sock", "bytes_retrans"),
    "tcp_bytes_received": ("tcp_sock", "bytes_received"),
    "tcp_bytes_acked": ("tcp_sock", "bytes_acked"),
    "tcp_clock": ("tcp_sock", "tcp_clock_cache"),
    "tcp_segs_in": ("tcp_sock", "segs_in"),
    "tcp_segs_out": ("tcp_sock", "segs_out"),
    "tcp_srtt_us": ("tcp_sock", "srtt_us"),
    "tcp_total_retrans": ("tcp_sock", "total_retrans"),
    "tcp_snd_nxt": ("tcp_sock", "snd_nxt"),
    "tcp_snd_una": ("tcp_sock", "snd_una"),
    "task_pid": ("task_struct", "pid"),
}
SOURCES = {0: Source("flows.c", MAPS, PROGRAMS, OFFSETS), OPENSSL: OPENSSL_SOURCE}  # by constant SOURCE


def one_text(folder: Path, name: str, seen: set[str] | None = None) -> str:
    """A source with its own headers put in place: BCC rewrites map accesses in the main file only.

    Each header is taken once, where it is first included.
    """
    seen = set() if seen is None else seen
    seen.add(name)
    lines = []
    for line in (folder / name).read_text().splitlines():
        included = INCLUDE.fullmatch(line)
        if included is None:
            lines.append(line if line != "#pragma once" else "")
        elif included[1] not in seen:
            lines.append(one_text(folder, included[1], seen))
    return "\n".join(lines) + "\n"


def offset_flags(btf: Btf, offsets: dict[str, tuple[str, str]]) -> list[str]:
    """-DOFFSET_... for the running kernel. Raises BtfError if it lacks a field."""
    flags = [f"-DOFFSET_{name}={btf.offset(*field)}" for name, field in offsets.items()]
    flags.append(f"-DNETFILTER_DROP={drop_reasons(btf).get('NETFILTER_DROP', 0)}")
    return flags


def compile_flags(btf: Btf, constants: dict[str, int], offsets: dict[str, tuple[str, str]]) -> list[str]:
    """All flags of one compilation; the C library's copies of the UAPI headers stand in for the kernel's."""
    machine = platform.machine()
    return [
        "-isystem", "/usr/include",
        "-isystem", f"/usr/include/{machine}-linux-gnu",
        f"-DPAGE_SIZE={mmap.PAGESIZE}",
        f"-DSTORES_IN_ORDER={int(machine == 'x86_64')}",
        *(f"-D{name}={value}ULL" for name, value in constants.items()),
        *offset_flags(btf, offsets),
    ]  # fmt: skip


def build(constants: dict[str, int]) -> tuple[dict[str, int], dict[str, int]]:
    """Compile a source and load it. Returns descriptors of maps and of programs. Raises BtfError, VerifierError, OSError."""
    folder = Path(str(resources.files("flows.bpf")))
    source = SOURCES[constants.get("SOURCE", 0)]
    os.environ["BCC_KERNEL_SOURCE"] = str(folder / "kernel")
    from bcc import BPF, lib  # noqa: PLC0415 - after the environment, which bcc reads once

    btf = Btf.of_running_kernel()
    module = BPF(text=one_text(folder, source.name), cflags=compile_flags(btf, constants, source.offsets))
    maps = {name: os.dup(lib.bpf_table_fd(module.module, name.encode())) for name in source.maps}
    programs = {}
    for name, (kind, attach, typed, type_name) in source.programs.items():
        btf_id = btf.type_id(type_name, typed) if typed is not None else 0
        attached = AttachType(constants.get("UPROBES", attach))
        programs[name] = load_program(f"flows_{name}", module.dump_func(name), kind, attached, btf_id)
    return maps, programs


def _answer(channel: socket.socket, constants: dict[str, int]) -> None:
    if constants.get("SOURCE"):
        os.nice(10)  # plaintext may wait for a busy node's CPU; flows should not
    try:
        maps, programs = build(constants)
    except VerifierError as error:
        reply = {
            "error": f"loading eBPF program {error.name}: {error.strerror}\n{error.log}",
            "errno": error.errno,
        }
        channel.sendall(json.dumps(reply).encode())
        return
    except OSError as error:
        reply = {"error": f"loading eBPF: {error}", "errno": error.errno}
        channel.sendall(json.dumps(reply).encode())
        return
    except Exception as error:  # noqa: BLE001 - bcc raises bare Exception; the agent tells what happened
        channel.sendall(json.dumps({"error": f"compiling eBPF: {error}", "errno": 0}).encode())
        return
    names = {"maps": list(maps), "programs": list(programs)}
    socket.send_fds(channel, [json.dumps(names).encode()], [*maps.values(), *programs.values()])


def main() -> None:
    """Serve one request on the inherited socket."""
    channel = socket.socket(fileno=int(sys.argv[1]))
    os.chdir(tempfile.gettempdir())
    _answer(channel, json.loads(channel.recv(65536)))


if __name__ == "__main__":
    main()
