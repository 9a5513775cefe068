"""Cgroup path to what runs in it: pod UID, QoS class, container and runtime, or systemd unit.

Layouts: kubelet pkg/kubelet/cm (systemd and cgroupfs drivers, pod_container_manager_linux.go,
cgroup_manager_linux.go), containerd, CRI-O, Docker (cri-dockerd) and podman scopes, systemd.unit(5) names. A
prefix of any kind is accepted: a subtree, `/kubelet` of kind and k3s, `kubelet-kubepods.slice`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class CgroupName:
    """What a cgroup's path tells; empty strings where it does not. pod_uid has dashes, or is a static pod's
    hash.
    """

    pod_uid: str = ""
    container_id: str = ""
    runtime: str = ""
    systemd_unit: str = ""
    qos: str = ""


UNIT_SUFFIXES: Final = (".service", ".scope", ".socket", ".mount", ".swap")
QOS: Final = {"besteffort": "BestEffort", "burstable": "Burstable", "": "Guaranteed"}
_RUNTIMES: Final = {
    "cri-containerd": "containerd",
    "containerd": "containerd",
    "nerdctl": "containerd",
    "crio": "cri-o",
    "docker": "docker",
    "libpod": "podman",
}

_UID: Final = r"[0-9a-f]{8}[-_][0-9a-f]{4}[-_][0-9a-f]{4}[-_][0-9a-f]{4}[-_][0-9a-f]{12}|[0-9a-f]{32}"
# systemd driver: [kubelet-]kubepods[-burstable]-pod<uid>.slice; cgroupfs driver: pod<uid> below
# kubepods[/burstable].
_POD_SLICE: Final = re.compile(rf"(?:.*-)?kubepods(?:-(besteffort|burstable))?-pod({_UID})\.slice")
_POD: Final = re.compile(rf"pod({_UID})")
_QOS: Final = re.compile(r"(?:.*-)?(?:kubepods-)?(besteffort|burstable)(?:\.slice)?")
_ID: Final = r"[0-9a-f]{64}"
_CONTAINER: Final = re.compile(rf"(?:(?P<runtime>[a-z][a-z0-9-]*)-)?(?P<id>{_ID})(?:\.scope)?")
# containerd with the systemd driver but without it (SystemdCgroup=false): <slice>:<prefix>:<id>
_COLON: Final = re.compile(rf"(?P<slice>[^:]*):(?P<runtime>[a-z-]+):(?P<id>{_ID})")
# A path that is not a container although it carries a container's id: conmon runs beside it, outside of the
# pod.
_MONITOR: Final = re.compile(r"(?:crio-conmon|libpod-conmon|conmon)-")
_PARENT_RUNTIMES: Final = {"docker": "docker", "libpod_parent": "podman", "machine.slice": "podman"}


def parse(path: str) -> CgroupName:
    """Tell what a cgroup path (from any root, `/`-separated) says about its processes."""
    parts = [part for part in path.split("/") if part]
    uid, qos, below = _pod(parts)
    container_id, runtime = _container(below if uid else parts)
    unit = "" if uid or (container_id and _is_scope_of(parts, container_id)) else _unit(parts)
    return CgroupName(uid, container_id, runtime, unit, qos)


def _pod(parts: list[str]) -> tuple[str, str, list[str]]:
    """Find the innermost pod (kind runs kubelets inside of a node's own pod-like cgroups): UID, QoS, path
    below it.
    """
    for depth in range(len(parts) - 1, -1, -1):
        part = parts[depth]
        below = parts[depth + 1 :]
        if match := _POD_SLICE.fullmatch(part.partition(":")[0]):
            return _dashed(match[2]), QOS[match[1] or ""], [part] if ":" in part else below
        parents = parts[:depth]
        if (match := _POD.fullmatch(part)) and any("kubepods" in parent for parent in parents):
            return _dashed(match[1]), _qos_above(parents), below
    return "", "", parts


def _dashed(uid: str) -> str:
    return uid.replace("_", "-")


def _qos_above(parents: list[str]) -> str:
    match = _QOS.fullmatch(parents[-1]) if parents else None
    return QOS[match[1] if match else ""]


def _container(parts: list[str]) -> tuple[str, str]:
    """Find the innermost container: its id and runtime. What a container makes below itself is still that
    container.
    """
    for depth in range(len(parts) - 1, -1, -1):
        part = parts[depth]
        if _MONITOR.match(part):
            return "", ""
        match = _COLON.fullmatch(part) or _CONTAINER.fullmatch(part)
        if match:
            parent = parts[depth - 1] if depth else ""
            return match["id"], _runtime(match["runtime"], parent)
    return "", ""


def _runtime(prefix: str | None, parent: str) -> str:
    return _RUNTIMES.get(prefix or "", _PARENT_RUNTIMES.get(parent, ""))


def _is_scope_of(parts: list[str], container_id: str) -> bool:
    """Tell a container with a scope or directory of its own from a unit that merely runs below one."""
    depth = next(i for i, part in enumerate(parts) if container_id in part)
    return not any(part.endswith(UNIT_SUFFIXES) for part in parts[depth + 1 :])


def _unit(parts: list[str]) -> str:
    """Name the innermost systemd unit; user@1000.service/app.slice/x.service is x.service. Slices only
    group.
    """
    for part in reversed(parts):
        if part.endswith(UNIT_SUFFIXES) and not part.startswith("."):
            return unescape(part)
    return ""


def unescape(unit: str) -> str:
    r"""Undo systemd's escapes (systemd-escape(1)): `\x2d` is `-`. Bytes that are not UTF-8 stay escaped."""
    if "\\x" not in unit:
        return unit
    raw = re.sub(
        rb"\\x([0-9a-f]{2})",
        lambda match: bytes([int(match[1], 16)]),
        unit.encode("utf-8", "surrogateescape"),
    )
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return unit
