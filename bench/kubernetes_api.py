"""A stand-in for the Kubernetes API of a large cluster: 10,000 pods of a real pod's size, in pages; watches stay silent.

`kubernetes_api.py` serves on a port of its own choice, prints it, and ends when its standard input does. A program of
its own, so that it shares neither CPU time nor memory with who asks it.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
import threading
import urllib.request
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qs, urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterator

PODS: Final = 10_000
PAGE: Final = 500  # client-go's, and the agent's
WORKLOADS: Final = 500
NODES: Final = 90
WATCHED: Final = "/bench/watched"  # which resources are being watched, for who wants to know that all lists are done
START_SECONDS: Final = 20.0


@dataclass(frozen=True, slots=True)
class Api:
    """A running stand-in and a kubeconfig that leads to it."""

    url: str
    kubeconfig: Path

    def watched(self) -> set[str]:
        """Paths of the resources that somebody watches, which is to say: has listed."""
        with urllib.request.urlopen(f"{self.url}{WATCHED}", timeout=5) as answer:
            return set(json.load(answer))


@contextlib.contextmanager
def kubernetes_api() -> Iterator[Api]:
    """Run the stand-in; it ends with this context, or with this process."""
    process = subprocess.Popen([sys.executable, str(Path(__file__))], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        url = f"http://127.0.0.1:{int(process.stdout.readline())}"
        with tempfile.TemporaryDirectory() as folder:
            kubeconfig = Path(folder) / "kubeconfig"
            kubeconfig.write_text(json.dumps(_kubeconfig(url)))
            yield Api(url, kubeconfig)
    finally:
        process.kill()
        process.communicate()


def _kubeconfig(url: str) -> dict[str, Any]:
    return {
        "clusters": [{"name": "bench", "cluster": {"server": url}}],
        "contexts": [{"name": "bench", "context": {"cluster": "bench"}}],
        "current-context": "bench",
    }


def pod(number: int) -> dict[str, Any]:
    """One pod as an API server gives it, about 3.5 kB: mostly what a naming client must skip."""
    workload, address = f"app-{number % WORKLOADS}", f"10.244.{number >> 8}.{number & 255}"
    return {
        "metadata": {
            "name": f"{workload}-{number}",
            "namespace": f"ns-{number % 50}",
            "uid": _uid(number),
            "resourceVersion": str(number),
            "creationTimestamp": "2026-01-01T00:00:00Z",
            "labels": {"app": workload, "version": "v1", "statefulset.kubernetes.io/pod-name": f"{workload}-{number}"},
            "annotations": {"checksum/config": f"{number:064x}"},
            "ownerReferences": [_owner(number, workload)],
            "managedFields": [_managed_fields(manager) for manager in ("kube-controller-manager", "kubelet")],
        },
        "spec": {
            "nodeName": f"node-{number % NODES}",
            "serviceAccountName": "default",
            "containers": [_container("app"), _container("proxy")],
        },
        "status": _status(address),
    }


def _uid(number: int) -> str:
    return f"00000000-0000-4000-8000-{number:012x}"


def _owner(number: int, workload: str) -> dict[str, Any]:
    uid = _uid(1 << 32 | number % WORKLOADS)
    return {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": workload, "uid": uid, "controller": True}


def _managed_fields(manager: str) -> dict[str, Any]:
    keys = [f'k:{{"type":"{name}"}}' for name in ("Ready", "Initialized")]
    conditions: dict[str, Any] = {key: {".": {}, "f:status": {}, "f:type": {}} for key in keys}
    return {
        "manager": manager,
        "operation": "Update",
        "apiVersion": "v1",
        "fieldsType": "FieldsV1",
        "fieldsV1": {"f:metadata": {"f:labels": {}}, "f:status": {"f:conditions": conditions, "f:podIPs": {}}},
    }


def _container(name: str) -> dict[str, Any]:
    return {
        "name": name,
        "image": f"registry.example/{name}@sha256:{'0' * 64}",
        "env": [{"name": f"SETTING_{i}", "value": "some value"} for i in range(8)],
        "resources": {"limits": {"memory": "256Mi"}, "requests": {"cpu": "100m", "memory": "128Mi"}},
        "volumeMounts": [{"name": "token", "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount"}],
        "livenessProbe": {"httpGet": {"path": "/healthz", "port": 8080, "scheme": "HTTP"}, "periodSeconds": 10},
    }


def _status(address: str) -> dict[str, Any]:
    conditions = ("Initialized", "Ready", "ContainersReady", "PodScheduled")
    since = "2026-01-01T00:00:00Z"
    return {
        "phase": "Running",
        "conditions": [{"type": one, "status": "True", "lastTransitionTime": since} for one in conditions],
        "podIP": address,
        "podIPs": [{"ip": address}],
        "startTime": since,
        "containerStatuses": [
            {"name": name, "ready": True, "restartCount": 0, "containerID": f"containerd://{'0' * 64}"}
            for name in ("app", "proxy")
        ],
    }


def pages() -> list[bytes]:
    """All pods as bodies of list answers; a page's continue token is the next one's index."""
    count = PODS // PAGE
    return [
        _body([pod(number) for number in range(i * PAGE, (i + 1) * PAGE)], str(i + 1) if i + 1 < count else "")
        for i in range(count)
    ]


def _body(items: list[dict[str, Any]], token: str = "") -> bytes:
    return json.dumps({"metadata": {"resourceVersion": "1", "continue": token}, "items": items}).encode()


class Handler(BaseHTTPRequestHandler):
    """Pods in pages, everything else empty."""

    protocol_version = "HTTP/1.1"
    pods: list[bytes] = []
    empty = _body([])
    watching: set[str] = set()

    def do_GET(self) -> None:
        """Answer a list; hold a watch until the client leaves."""
        url = urlsplit(self.path)
        query = parse_qs(url.query)
        if url.path == WATCHED:
            self._answer(json.dumps(sorted(self.watching)).encode())
        elif "watch" in query:
            self._hold(url.path)
        else:
            page = int(query.get("continue", ["0"])[0])
            self._answer(self.pods[page] if url.path == "/api/v1/pods" else self.empty)

    def _answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _hold(self, path: str) -> None:
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.wfile.flush()
        self.watching.add(path)
        self.rfile.read(1)
        self.close_connection = True

    def log_message(self, format: str, *_: Any) -> None:  # noqa: A002 - the base class' name
        """Say nothing."""


def main() -> None:
    """Serve until standard input ends."""
    Handler.pods = pages()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(server.server_address[1], flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
