"""Controllers on a storage, without a loop: they and kubelets go one step when told to."""

from __future__ import annotations

from typing import Any

from api_cluster import add_node, set_running

from flows.demo.api.bootstrap import bootstrap
from flows.demo.api.storage import Storage
from flows.demo.controllers.loop import ControlLoop
from flows.demo.controllers.namespaces import ClusterDefaults

Json = dict[str, Any]


class Demo:
    """A storage with controllers that run when told to, and a kubelet of the tests' own."""

    def __init__(self) -> None:
        self.storage = Storage()
        bootstrap(self.storage)
        self.loop = ControlLoop(self.storage, ClusterDefaults((("10.0.0.1", 6443), ("fd00::1", 6443)), "ca"))
        for number in range(3):
            add_node(self.storage, f"node-{number}", zone="ab"[number % 2])

    def settle(self) -> None:
        with self.loop.subscribed():
            self.loop.settle(everything=True)

    def pods(self, **labels: str) -> list[Json]:
        listed = self.storage.list("pods")
        return [p for p in listed if labels.items() <= (p["metadata"].get("labels") or {}).items()]

    def run_pods(self) -> None:
        """Kubelets: start what waits, remove what was asked to go; then let controllers follow."""
        for number, item in enumerate(self.storage.list("pods")):
            if "deletionTimestamp" in item["metadata"]:
                self.storage.delete("pods", item["metadata"]["namespace"], item["metadata"]["name"])
            elif item["status"]["phase"] == "Pending" and item["spec"].get("nodeName"):
                address = self.storage.version % 60_000 + number
                set_running(self.storage, item, f"10.1.{address >> 8}.{address & 255}", f"fd01::{address:x}")
        self.settle()

    def until_settled(self) -> None:
        before = -1
        while before != self.storage.version:
            before = self.storage.version
            self.run_pods()

    def get(self, resource: str, name: str, namespace: str = "default") -> Json:
        found = self.storage.get(resource, namespace, name)
        assert found is not None
        return found

    def end(self, item: Json, phase: str) -> None:
        self.storage.update_status("pods", {**item, "status": {**item["status"], "phase": phase}})
