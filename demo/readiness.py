"""What the cluster still waits for: workloads and pods that are not what their specs ask for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from flows.demo.api.storage import Storage

Json = dict[str, Any]

# Resource -> (how many are wanted, how many are ready) from an object with a status.
WANTED: dict[str, Callable[[Json], tuple[int, int]]] = {
    "deployments": lambda o: (o["spec"].get("replicas", 1), o["status"].get("readyReplicas", 0)),
    "statefulsets": lambda o: (o["spec"].get("replicas", 1), o["status"].get("readyReplicas", 0)),
    "daemonsets": lambda o: (o["status"].get("desiredNumberScheduled", 0), o["status"].get("numberReady", 0)),
}


def waiting_for(storage: Storage) -> list[str]:
    """One text per workload or bare pod that is not ready, such as `deployment demo/svc-b: 1 of 2 ready`."""
    found: list[str] = []
    for resource, count in WANTED.items():
        for obj in storage.list(resource):
            wanted, ready = count({"status": {}, **obj})
            seen = (obj.get("status") or {}).get("observedGeneration", 0) >= obj["metadata"].get("generation", 0)
            if ready < wanted or not seen:
                found.append(f"{resource[:-1]} {_title(obj)}: {ready} of {wanted} ready")
    return found + [f"pod {_title(p)}: {_why(p)}" for p in storage.list("pods") if _is_bare(p) and not _settled(p)]


def _title(obj: Json) -> str:
    return f"{obj['metadata']['namespace']}/{obj['metadata']['name']}"


def _is_bare(pod: Json) -> bool:
    return not pod["metadata"].get("ownerReferences")


def _settled(pod: Json) -> bool:
    status = pod.get("status") or {}
    conditions = {c["type"]: c["status"] for c in status.get("conditions") or []}
    return status.get("phase") == "Succeeded" or conditions.get("Ready") == "True"


def _why(pod: Json) -> str:
    status = pod.get("status") or {}
    for container in status.get("containerStatuses") or []:
        if waiting := container["state"].get("waiting"):
            return str(waiting["reason"])
    return str(status.get("phase", "Pending"))
