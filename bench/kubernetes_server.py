"""A stand-in for the Kubernetes API of a large cluster: 10,000 pods of a real pod's size, which change when told to.

`kubernetes_server.py [--tls FOLDER] [--no-streams]` serves on a port of its own choice, prints it, and ends when its standard
input does. A program of its own, so that it shares neither CPU time nor memory with who asks it. --no-streams: refuse to
stream lists, as servers before 1.32 do.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import ssl
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qs, urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterator

PODS: Final = 10_000
WORKLOADS: Final = 500
NODES: Final = 90
WATCHED: Final = "/bench/watched"  # which resources are being watched, for who wants to know that all lists are done
CHANGES: Final = "/bench/changes"  # ?rate=N: from now on so many a second; how many pods have changed so far, and bytes
SENT: Final = "/bench/sent"  # bytes of lists, by path
PODS_PATH: Final = "/api/v1/pods"


def pod(number: int) -> dict[str, Any]:
    """One pod as an API server gives it, about 5 kB: mostly what a naming client must skip."""
    workload, address = f"app-{number % WORKLOADS}", f"10.244.{number % PODS >> 8}.{number & 255}"
    return {
        "metadata": {
            "name": f"{workload}-{number}",
            "namespace": f"ns-{number % 50}",
            "uid": _uid(number),
            "resourceVersion": str(1 + number),
            "creationTimestamp": "2026-01-01T00:00:00Z",
            "labels": {"app": workload, "version": "v1", "statefulset.kubernetes.io/pod-name": f"{workload}-{number}"},
            "annotations": {"checksum/config": f"{number:064x}"},
            "ownerReferences": [_owner(number, workload)],
            "managedFields": [_managed_fields(manager) for manager in ("kube-controller-manager", "kubelet")],
        },
        "spec": {
            "nodeName": f"node-{number % NODES}",
            "serviceAccountName": "default",
            "serviceAccount": "default",
            "restartPolicy": "Always",
            "terminationGracePeriodSeconds": 30,
            "dnsPolicy": "ClusterFirst",
            "schedulerName": "default-scheduler",
            "enableServiceLinks": True,
            "preemptionPolicy": "PreemptLowerPriority",
            "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
            "tolerations": [_toleration("not-ready"), _toleration("unreachable")],
            "volumes": [_token_volume()],
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


def _toleration(name: str) -> dict[str, Any]:
    return {"key": f"node.kubernetes.io/{name}", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}


def _token_volume() -> dict[str, Any]:
    field = {"apiVersion": "v1", "fieldPath": "metadata.namespace"}
    sources = [
        {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}},
        {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
        {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": field}]}},
    ]
    return {"name": "token", "projected": {"defaultMode": 420, "sources": sources}}


def _status(address: str) -> dict[str, Any]:
    conditions = ("Initialized", "Ready", "ContainersReady", "PodScheduled")
    since = "2026-01-01T00:00:00Z"
    return {
        "phase": "Running",
        "qosClass": "Burstable",
        "conditions": [{"type": one, "status": "True", "lastProbeTime": None, "lastTransitionTime": since} for one in conditions],
        "hostIP": "192.168.0.1",
        "hostIPs": [{"ip": "192.168.0.1"}],
        "podIP": address,
        "podIPs": [{"ip": address}],
        "startTime": since,
        "containerStatuses": [_container_status(name, since) for name in ("app", "proxy")],
    }


def _container_status(name: str, since: str) -> dict[str, Any]:
    return {
        "name": name,
        "ready": True,
        "started": True,
        "restartCount": 0,
        "image": f"registry.example/{name}:v1",
        "imageID": f"registry.example/{name}@sha256:{'0' * 64}",
        "containerID": f"containerd://{'0' * 64}",
        "state": {"running": {"startedAt": since}},
        "lastState": {},
    }


def _dumped(made: dict[str, Any]) -> bytes:
    return json.dumps(made, separators=(",", ":")).encode()


def changes() -> Iterator[bytes]:
    """Lines of a watch, for ever: pod after pod is about to end, ends, and is replaced; another one gets its address."""
    number = PODS
    while True:
        old, new = pod(number - PODS), pod(number)
        old["metadata"]["deletionTimestamp"] = "2026-01-02T00:00:00Z"
        starting = {**new, "status": {**new["status"], "phase": "Pending"}}
        for kind, made in (("MODIFIED", old), ("DELETED", old), ("ADDED", starting), ("MODIFIED", new)):
            yield _line(kind, made)
        number += 1


def _line(kind: str, made: dict[str, Any]) -> bytes:
    return _dumped({"type": kind, "object": {"kind": "Pod", "apiVersion": "v1", **made}}) + b"\n"


def _bookmark() -> bytes:
    metadata = {"resourceVersion": str(PODS), "annotations": {"k8s.io/initial-events-end": "true"}}
    return _dumped({"type": "BOOKMARK", "object": {"metadata": metadata}}) + b"\n"


class Cluster:
    """What the handlers share. rate: pods that change in a second."""

    def __init__(self, streams: bool) -> None:
        self.streams, self.rate = streams, 0
        self.watching: set[str] = set()
        self.list_bytes: dict[str, int] = {}
        self.changed, self.changed_bytes = 0, 0
        self._pods = [_dumped(pod(number)) for number in range(PODS)]

    def pods(self, query: dict[str, list[str]]) -> list[bytes]:
        """Pods that a field selector names, by their node or by not being on it."""
        node = query.get("fieldSelector", [""])[0].partition(",")[0]
        name = node.rpartition("=")[2].encode()
        if not node:
            return self._pods
        return [one for one in self._pods if (b'"nodeName":"' + name + b'"' in one) != ("!=" in node)]


class Handler(BaseHTTPRequestHandler):
    """Pods, which change in a watch of all nodes' but one; everything else is empty and stays so."""

    protocol_version = "HTTP/1.1"
    cluster: Cluster

    def do_GET(self) -> None:
        """Answer a list; hold a watch until the client leaves."""
        url = urlsplit(self.path)
        query = parse_qs(url.query)
        if url.path == WATCHED:
            self._answer(sorted(self.cluster.watching))
        elif url.path == SENT:
            self._answer(self.cluster.list_bytes)
        elif url.path == CHANGES:
            self.cluster.rate = int(query.get("rate", [self.cluster.rate])[0])
            self._answer([self.cluster.changed, self.cluster.changed_bytes])
        elif "sendInitialEvents" in query and not self.cluster.streams:
            self._answer({"code": 422, "message": "sendInitialEvents is forbidden"}, 422)
        elif "watch" in query:
            self._watch(url.path, query)
        else:
            items = self.cluster.pods(query) if url.path == PODS_PATH else []
            self._count(url.path, self._send(b'{"metadata":{"resourceVersion":"1"},"items":[' + b",".join(items) + b"]}"))

    def _answer(self, body: Any, status: int = 200) -> None:
        self._send(json.dumps(body).encode(), status)

    def _send(self, body: bytes, status: int = 200) -> int:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        return len(body)

    def _count(self, path: str, size: int) -> None:
        self.cluster.list_bytes[path] = self.cluster.list_bytes.get(path, 0) + size

    def _watch(self, path: str, query: dict[str, list[str]]) -> None:
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.close_connection = True
        if "sendInitialEvents" in query:
            items = self.cluster.pods(query) if path == PODS_PATH else []
            lines = [b'{"type":"ADDED","object":' + one + b"}\n" for one in items]
            self._count(path, sum(self._chunk(b"".join(lines[i : i + 20])) for i in range(0, len(lines), 20)))
            self._chunk(_bookmark())
        self.wfile.flush()
        own = query.get("fieldSelector", [""])[0].startswith("spec.nodeName=")
        if not own:
            self.cluster.watching.add(path)
        if path == PODS_PATH and not own:
            self._change()
        self.rfile.read(1)

    def _change(self) -> None:
        """Tell changes one by one, evenly spread."""
        begun, done = time.monotonic(), 0
        for line in changes():
            while done >= (time.monotonic() - begun) * self.cluster.rate:
                if not self.cluster.rate:
                    begun, done = time.monotonic(), 0
                time.sleep(0.002)
            done += 1
            self.cluster.changed += 1
            self.cluster.changed_bytes += self._chunk(line)

    def _chunk(self, data: bytes) -> int:
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        return len(data)

    def handle(self) -> None:
        """Clients come and go."""
        with contextlib.suppress(OSError):
            super().handle()

    def log_message(self, format: str, *_: Any) -> None:  # noqa: A002 - the base class' name
        """Say nothing."""


def main() -> None:
    """Serve until standard input ends."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--tls", type=Path, metavar="FOLDER")
    parser.add_argument("--no-streams", action="store_true")
    options = parser.parse_args()
    Handler.cluster = Cluster(not options.no_streams)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    if options.tls:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(options.tls / "tls.crt", options.tls / "tls.key")
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(server.server_address[1], flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
