"""What a node must have: checked before anything is loaded, each lack with its cure."""

from __future__ import annotations

import errno
import os
import platform
import re
from pathlib import Path

from flows.agent.probe.bpf import SYSCALL
from flows.agent.probe.btf import VMLINUX

# Bits of capabilities(7), and what the agent does with each.
CAPABILITIES = {
    "CAP_BPF": (39, "load eBPF programs"),
    "CAP_PERFMON": (38, "read kernel structures from eBPF"),
    "CAP_NET_ADMIN": (12, "attach to cgroups"),
}
CAP_SYS_ADMIN = 21  # implies the three on any kernel that has them
MINIMUM_KERNEL = (5, 15)  # inet_sk_error_report, socket cookies in tracing programs; the first long-term release with both
LOCKDOWN = Path("/sys/kernel/security/lockdown")
STATUS = Path("/proc/self/status")


def missing_capabilities(status: str) -> list[str]:
    """Names of the capabilities that a process with this /proc/PID/status lacks."""
    found = re.search(r"^CapEff:\s*([0-9a-f]+)$", status, re.MULTILINE)
    effective = int(found[1], 16) if found else 0
    if effective >> CAP_SYS_ADMIN & 1:
        return [name for name in ("CAP_NET_ADMIN",) if not effective >> CAPABILITIES[name][0] & 1]
    return [name for name, (bit, _) in CAPABILITIES.items() if not effective >> bit & 1]


def lockdown_mode(text: str) -> str:
    """The mode in force, of text like `none [integrity] confidentiality`."""
    found = re.search(r"\[(\w+)\]", text)
    return found[1] if found else "none"


def kernel_version(release: str) -> tuple[int, int]:
    """(major, minor) of a release like 6.1.0-31-amd64; (0, 0) if it says nothing."""
    found = re.match(r"(\d+)\.(\d+)", release)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def explain(error: int | None) -> str:
    """A likely cause and cure of an errno that bpf(2) gave, to be appended to a message; empty if there is nothing to add."""
    if error in (errno.EPERM, errno.EACCES):
        return f"\n{_why_not_permitted()}"
    if error == errno.ENOMEM:
        return "\nOut of locked memory (RLIMIT_MEMLOCK) or of the cgroup's memory: ulimit -l unlimited, or raise the limit."
    return ""


def _why_not_permitted() -> str:
    missing = missing_capabilities(STATUS.read_text())
    if missing:
        return "Missing " + ", ".join(missing) + "."
    mode = lockdown_mode(LOCKDOWN.read_text()) if LOCKDOWN.exists() else "none"
    if mode == "confidentiality":
        return "Kernel lockdown is in confidentiality mode, which forbids eBPF to read the kernel: boot with lockdown=integrity."
    return "The kernel or a security module (AppArmor, SELinux, seccomp) forbids bpf(2): allow it for this process."


def problems() -> list[str]:
    """Everything that would keep the probe from starting on this machine, one sentence each, with the cure."""
    found = []
    missing = missing_capabilities(STATUS.read_text())
    if missing:
        uses = "; ".join(f"{name} to {CAPABILITIES[name][1]}" for name in missing)
        found.append(f"missing capabilities: {uses}. Run as root (sudo), or grant them.")
    if not VMLINUX.exists():
        found.append(f"{VMLINUX} does not exist: the kernel was built without CONFIG_DEBUG_INFO_BTF=y, which the agent needs.")
    if kernel_version(os.uname().release) < MINIMUM_KERNEL:
        found.append(f"Linux {os.uname().release} is too old: the agent needs {MINIMUM_KERNEL[0]}.{MINIMUM_KERNEL[1]} or newer.")
    if platform.machine() not in SYSCALL:
        found.append(f"no support for {platform.machine()}: the agent runs on {' and '.join(SYSCALL)}.")
    return found
