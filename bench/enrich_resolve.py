"""Time the naming of records: ns per record in batches of 4,096 with 10,000 pods known, beside the target.

`.venv/bin/python bench/enrich_resolve.py`; prints a table and exits 0.
No root, no cluster: the API server is a small one of its own.
"""

from __future__ import annotations

import gc
import json
import multiprocessing
import resource
import tempfile
import time
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import parse_qs, urlsplit

import numpy as np

from flows.agent.enrich.enricher import Enricher
from flows.agent.enrich.hashindex import HashIndex
from flows.agent.enrich.kube_records import Changes, PodRecord
from flows.agent.probe.record import RECORD

if TYPE_CHECKING:
    from numpy.typing import NDArray

BATCH = 4096
PODS = 10_000
LOCAL_PODS = 110  # the kubelet's default limit
REPEAT = 200
RNG = np.random.default_rng(7)


def main() -> None:
    """Print the table."""
    print(f"{'what':44} {'value':>10} {'target':>10}")
    lookup_ns()
    with tempfile.TemporaryDirectory() as root:
        enricher, ids = cluster(Path(root))
        for name, records in mixes(ids).items():
            row(f"resolve, {name}", best(partial(enricher.resolve, records)) / BATCH, "100 ns")
        enricher.close()
    first_list()


def row(name: str, value: float, target: str) -> None:
    """Print one line."""
    print(f"{name:44} {value:>7.1f} {target.rsplit(maxsplit=1)[-1]:2} {target:>10}")


def best(call: Any) -> float:
    """Give the median time of a call, ns: what a batch costs on a machine that does other things, too."""
    times = []
    for _ in range(REPEAT):
        start = time.perf_counter_ns()
        call()
        times.append(time.perf_counter_ns() - start)
    return float(np.median(times))


def lookup_ns() -> None:
    """Time the hash index alone, 20,000 entries."""
    for words, name in ((1, "u64"), (2, "16-byte")):
        keys = RNG.integers(1, 1 << 63, (20_000, words), dtype=np.uint64)
        index = HashIndex(words)
        index.insert(keys, np.arange(1, 20_001, dtype=np.uint32))
        columns = tuple(np.ascontiguousarray(column) for column in keys[RNG.integers(0, 20_000, BATCH)].T)
        row(
            f"hash index lookup, {name} keys",
            best(partial(index.lookup, *columns)) / BATCH,
            "25 ns",
        )


def address(number: int) -> bytes:
    """Give pod number `number` an address."""
    return b"\0" * 10 + b"\xff\xff" + bytes([10, 244, number >> 8, number & 255])


def uid(number: int) -> str:
    """Give it a uid."""
    return f"00000000-0000-4000-8000-{number:012x}"


def cluster(root: Path) -> tuple[Enricher, NDArray[np.uint64]]:
    """Make an enricher that knows 10,000 pods, 110 of them here with a cgroup each; and those cgroups'
    ids.
    """
    paths = [root / f"kubepods.slice/kubepods-pod{uid(i).replace('-', '_')}.slice" for i in range(LOCAL_PODS)]
    for path in paths:
        (path / f"cri-containerd-{'a' * 64}.scope").mkdir(parents=True)
    pods = tuple(pod_record(i) for i in range(PODS))
    enricher = Enricher(root, "node-0", node_addresses=["192.168.0.1"])
    enricher._inbox.append(Changes("pods", pods))
    enricher.apply_changes()
    ids = [(path / f"cri-containerd-{'a' * 64}.scope").stat().st_ino for path in paths]
    return enricher, np.array(ids, np.uint64)


def pod_record(i: int) -> PodRecord:
    """Make pod number i: 50 namespaces, 500 workloads, 90 nodes."""
    return PodRecord(
        uid=uid(i),
        namespace=f"ns-{i % 50}",
        name=f"app-{i}",
        labels=(("app", f"app-{i % 500}"),),
        service_account="default",
        node=f"node-{i % 90}",
        host_network=False,
        addresses=(address(i),),
        owner=None,
        config_hash="",
        started_ns=0,
        containers=(),
    )


def mixes(ids: NDArray[np.uint64]) -> dict[str, NDArray[Any]]:
    """Make batches: pods only; pods, host, Internet and loopback as on a busy node; all of it host and
    loopback.
    """
    pods = np.zeros(BATCH, RECORD)
    local = RNG.integers(0, LOCAL_PODS, BATCH)
    pods["cgroup_id"] = ids[local]
    pods["time_ns"] = time.monotonic_ns()
    pods["conn_id"] = np.arange(BATCH)
    pods["protocol"] = 6
    pods["netns"] = 4026531840
    pods["local_port"] = RNG.integers(1024, 65535, BATCH)
    pods["remote_port"] = 80
    table = np.frombuffer(b"".join(address(i) for i in range(PODS)), np.uint8).reshape(-1, 16)
    pods["local_addr"], pods["remote_addr"] = table[local], table[RNG.integers(0, PODS, BATCH)]
    node = pods.copy()
    node["remote_addr"][: BATCH // 10] = address_of(192, 168, 0, 1)
    node["remote_addr"][BATCH // 10 : BATCH // 5, 12:] = RNG.integers(1, 223, (BATCH // 5 - BATCH // 10, 4))
    node["remote_addr"][BATCH // 5 : BATCH // 4] = address_of(127, 0, 0, 1)
    loopback = node.copy()
    loopback["local_addr"] = loopback["remote_addr"] = address_of(127, 0, 0, 1)
    return {"pod to pod": pods, "node: 10% host, 10% world, 5% loopback": node, "all loopback": loopback}


def address_of(*octets: int) -> NDArray[np.uint8]:
    """Give an IPv4 address as 16 bytes."""
    return np.frombuffer(b"\0" * 10 + b"\xff\xff" + bytes(octets), np.uint8)


POD_JSON = (
    '{{"metadata":{{"name":"app-{0}","namespace":"ns-{1}","uid":"{2}","resourceVersion":"{0}","creationTimestamp":'
    '"2026-01-01T00:00:00Z","labels":{{"app":"app-{1}","pod-template-hash":"{1:08x}","version":"v1"}},"annotations":'
    '{{"checksum/config":"{3}"}},"ownerReferences":[{{"apiVersion":"apps/v1","kind":"ReplicaSet","name":"app-{1}",'
    '"uid":"{4}","controller":true}}],"managedFields":[{5}]}},"spec":{{"containers":[{5}],"nodeName":"node-{1}",'
    '"serviceAccountName":"default"}},"status":{{"phase":"Running","conditions":[{5}],"podIP":"10.244.{6}.{7}",'
    '"podIPs":[{{"ip":"10.244.{6}.{7}"}}],"startTime":"2026-01-01T00:00:00Z"}}}}'
)
FILLER = ",".join(f'{{"name":"{i:040}","value":{{"a":[1,2,3],"b":null,"c":"text"}}}}' for i in range(12))


def page(number: int, token: str) -> bytes:
    """Make one page of 500 pods, about 3.5 KB each as a real cluster's are."""
    pods = ",".join(
        POD_JSON.format(i, i % 90, uid(i), "0" * 64, uid(1 << 20 | i % 500), FILLER, i >> 8, i & 255)
        for i in range(number * 500, number * 500 + 500)
    )
    return f'{{"metadata":{{"resourceVersion":"9","continue":"{token}"}},"items":[{pods}]}}'.encode()


class Api(BaseHTTPRequestHandler):
    """Serves the pods in pages and everything else empty; watches stay silent."""

    pages: ClassVar[list[bytes]] = []
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Answer a list; hold a watch until the client leaves."""
        url = urlsplit(self.path)
        query = parse_qs(url.query)
        if "watch" in query:
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            self.rfile.read(1)
            return
        body = b'{"metadata":{"resourceVersion":"9"},"items":[]}'
        if url.path == "/api/v1/pods":
            body = self.pages[int(query.get("continue", ["0"])[0])]
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


def serve(port: Any) -> None:
    """Be the API server, in a process of its own, and tell its port."""
    count = PODS // 500
    Api.pages = [page(number, str(number + 1) if number + 1 < count else "") for number in range(count)]
    server = ThreadingHTTPServer(("127.0.0.1", 0), Api)
    server.daemon_threads = True
    port.send(server.server_address[1])
    server.serve_forever()


def first_list() -> None:
    """Time and weigh the first list of 10,000 pods from a server, until their addresses are known."""
    ours, theirs = multiprocessing.get_context("spawn").Pipe()
    server = multiprocessing.get_context("spawn").Process(target=serve, args=(theirs,))
    server.start()
    try:
        with tempfile.TemporaryDirectory() as root:
            follow(Path(root), ours.recv())
    finally:
        server.terminate()
        server.join()


def follow(root: Path, port: int) -> None:
    """Follow the server until all pods are in effect, with the client as the agent uses it."""
    config = {
        "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{port}"}}],
        "contexts": [{"name": "x", "context": {"cluster": "c"}}],
        "current-context": "x",
    }
    (root / "config").write_text(json.dumps(config), "ascii")
    (root / "cgroup").mkdir()
    bare = resident()
    from flows.agent.enrich.kubernetes import connect  # noqa: PLC0415 - what importing the client weighs is shown

    enricher = Enricher(root / "cgroup", "node-0")
    source = connect("node-0", str(root / "config"))
    gc.collect()
    before, start = resident(), time.perf_counter()
    source.start(enricher._inbox.append)
    while not (source.status().in_sync and not enricher._inbox):
        enricher.apply_changes()
        time.sleep(0.005)
    took = time.perf_counter() - start
    known = len(enricher._names.directory.pods)
    row(f"first list of {known} pods ({len(page(0, '')) / 500 / 1000:.1f} KB each)", took, "3 s")
    row("  resident memory it adds", (resident() - before) / 1e6, "40 MB")
    row("  and the Kubernetes client itself", (before - bare) / 1e6, "- MB")
    row("this process, resident", resident() / 1e6, "120 MB")
    source.stop()
    enricher.close()


def resident() -> int:
    """Give this process' resident memory, bytes."""
    pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    return pages * resource.getpagesize()


if __name__ == "__main__":
    main()
