"""The status of a Pod object, as a kubelet writes it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flows.demo.layout import NodeLayout
    from flows.demo.node.process import Process

Json = dict[str, Any]


@dataclass(slots=True)
class Container:
    """One container of a pod: its spec, and where it is in its life (`state` and `last` as the API shows them)."""

    spec: Json
    init: bool = False
    id: str = ""  # 64 hexadecimal digits, new with each start
    process: Process | None = None
    state: Json = field(default_factory=lambda: {"waiting": {"reason": "PodInitializing"}})
    last: Json = field(default_factory=dict)
    restarts: int = 0
    ready: bool = False

    @property
    def name(self) -> str:
        return str(self.spec["name"])

    @property
    def running(self) -> bool:
        return "running" in self.state

    @property
    def exit_code(self) -> int | None:
        """Exit code of the present state, None unless it has ended."""
        terminated = self.state.get("terminated")
        return None if terminated is None else int(terminated["exitCode"])


def container_status(container: Container, runtime: str) -> Json:
    """One entry of status.containerStatuses."""
    image = str(container.spec["image"])
    return {
        "name": container.name,
        "state": container.state,
        "lastState": container.last,
        "ready": container.ready,
        "restartCount": container.restarts,
        "image": image,
        "imageID": image if container.id else "",
        "containerID": f"{runtime}://{container.id}" if container.id else "",
        "started": container.running,
    }


def phase(containers: Sequence[Container], restart_policy: str) -> str:
    """The pod's phase from its containers (kubelet pkg/kubelet getPhase)."""
    main = [c for c in containers if not c.init]
    if any(c.init and c.exit_code != 0 for c in containers) or any("waiting" in c.state and not c.last for c in main):
        failed_init = any(c.init and c.exit_code not in {None, 0} for c in containers)
        return "Failed" if failed_init and restart_policy == "Never" else "Pending"
    if any(c.exit_code is None for c in main) or restart_policy == "Always":
        return "Running"
    if all(c.exit_code == 0 for c in main):
        return "Succeeded"
    return "Failed" if restart_policy == "Never" else "Running"


def problem(container: Container) -> str:
    """Why a container does not run, in the words of whoever knows best; empty for one that does or never failed."""
    if container.running:
        return ""
    details = [*container.last.values(), *container.state.values()]
    return next((str(row["message"]) for row in details if row.get("message")), "")


def conditions(containers: Sequence[Container], sandboxed: bool, final: str, old: Sequence[Json], now: str) -> list[Json]:
    """status.conditions; a condition that did not change keeps its lastTransitionTime."""
    main = [c for c in containers if not c.init]
    unready = [c.name for c in main if not c.ready]
    not_ready = {
        "reason": "ContainersNotReady",
        "message": f"containers with unready status: [{' '.join(unready)}]",
    }
    if final == "Succeeded":
        not_ready = {"reason": "PodCompleted"}
    initialized = all(c.exit_code == 0 for c in containers if c.init)
    rows: list[tuple[str, bool, Json]] = [
        ("PodReadyToStartContainers", sandboxed, {}),
        ("Initialized", initialized, {} if initialized else {"reason": "ContainersNotInitialized"}),
        ("Ready", not unready, {} if not unready else not_ready),
        ("ContainersReady", not unready, {} if not unready else not_ready),
        ("PodScheduled", True, {}),
    ]
    before = {c["type"]: c for c in old}
    return [_condition(kind, "True" if is_true else "False", why, before.get(kind), now) for kind, is_true, why in rows]


def _condition(kind: str, status: str, why: Json, old: Json | None, now: str) -> Json:
    since = old["lastTransitionTime"] if old and old["status"] == status else now
    return {"type": kind, "status": status, "lastProbeTime": None, "lastTransitionTime": since, **why}


def pod_status(
    containers: Sequence[Container], pod: Json, node: NodeLayout, addresses: Sequence[str], qos: str, now: str
) -> Json:
    """The whole status of a pod; `addresses` is empty before it has a network, `now` is RFC 3339."""
    old = pod.get("status") or {}
    now_phase = phase(containers, pod["spec"].get("restartPolicy", "Always"))
    status: Json = {
        "phase": now_phase,
        "conditions": conditions(containers, bool(addresses), now_phase, old.get("conditions") or [], now),
        "hostIP": node.address,
        "hostIPs": [{"ip": node.address}, {"ip": node.address6}],
        "startTime": old.get("startTime", now),
        "qosClass": qos,
    }
    if addresses:
        status |= {"podIP": addresses[0], "podIPs": [{"ip": address} for address in addresses]}
    runtime = node.runtime
    if any(c.init for c in containers):
        status["initContainerStatuses"] = [container_status(c, runtime) for c in containers if c.init]
    status["containerStatuses"] = [container_status(c, runtime) for c in containers if not c.init]
    return status
