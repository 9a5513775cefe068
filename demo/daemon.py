"""The control plane: one process that is storage and API, controllers, kubelets, kube-proxy, DNS source, and the
parent of the agents and of the API's front.
"""

from __future__ import annotations

import argparse
import asyncio
import errno
import json
import logging
import os
import signal
import sys
from typing import TYPE_CHECKING, Any

from flows.demo import announcement, layout, readiness
from flows.demo.api.kinds import BY_PLURAL
from flows.demo.api.pki import Pki, write_kubeconfig
from flows.demo.api.server import RunningServer, bind_unix, start_api
from flows.demo.api.storage import Storage
from flows.demo.client import in_order, parse_manifests
from flows.demo.control import Control
from flows.demo.controllers import run_controllers
from flows.demo.node import agent, cgroups, dns, netns, policy, proxy, services, wire
from flows.demo.node.certificates import write_certificates
from flows.demo.node.events import Recorder
from flows.demo.node.kubelet import Kubelet
from flows.demo.node.pod import NodeParts
from flows.demo.node.podnet import AddressPool
from flows.demo.node.podspec import MissingObjectError
from flows.demo.node.unit import Program, Unit
from flows.demo.reaction import Reaction

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from pathlib import Path

Json = dict[str, Any]
AGENT_MANIFEST = layout.MANIFESTS / "00-agent.yaml"  # read here already: the agents' credentials are made from it
API_URL = f"https://{layout.API_ADDRESS}:{layout.API_PORT}"
log = logging.getLogger(__name__)


class ControlPlane:
    """All the parts, wired to one Storage."""

    def __init__(self, *, agents: bool) -> None:
        self.storage = Storage((layout.SERVICE_NET, layout.SERVICE_NET6))
        self.pki = Pki(layout.PKI)
        self.root = cgroups.root()
        # Any change: `up` waits until the status is as new as the last object it applied.
        self.status = Reaction("status", self.storage, frozenset(BY_PLURAL) - {"events"}, self.write_status)
        self.kubelets = [Kubelet(self._parts(node), self.status.trigger) for node in layout.NODES]
        self.announcement = Reaction("agents", self.storage, frozenset(), self.announce)
        self.agents = {n: Unit(agent.program(n, self.root / n.name), self.agent_changed) for n in layout.NODES if agents}

    def _parts(self, node: layout.NodeLayout) -> NodeParts:
        recorder = Recorder(self.storage, node.name)
        return NodeParts(node, self.storage, AddressPool(node), recorder, self.root / node.name, self.account_files)

    def lay_out(self) -> None:
        """Make the network, the certificates, the nodes' cgroups, and where the agents keep their programs."""
        wire.build(layout.NODES)
        write_certificates()
        layout.BPF.mkdir()
        netns.run(["mount", "-t", "bpf", layout.NAME, os.fspath(layout.BPF)])
        layout.RELAY_SOCKET.symlink_to(layout.SOCKETS / layout.RELAY_SOCKET.name)
        for node in layout.NODES:
            (self.root / node.name).mkdir(parents=True, exist_ok=True)

    async def run(self) -> None:
        """Serve until cancelled; then the agents detach and the pods end. The rest is the sweep's."""
        api = await self.start_api()
        self.front = Unit(self.front_program(), self.status.trigger, api.api.new_watch_cache)
        units = {unit.program.name: unit for unit in (self.front, *self.agents.values())}
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(Control(units, api.api).serve())
                for part in self.parts():
                    group.create_task(part)
        finally:
            await asyncio.gather(*(kubelet.stop() for kubelet in self.kubelets))
            await api.close()

    def parts(self) -> list[Coroutine[Any, Any, Any]]:
        """Everything that runs side by side."""
        names = frozenset({"services", "endpointslices"})
        selected = frozenset({"networkpolicies", "pods", "namespaces"})
        reactions = [
            self.status,
            self.announcement,
            Reaction("kube-proxy", self.storage, names, self.load_proxy),
            Reaction("dns", self.storage, names | {"pods"}, self.write_dns),
            Reaction("network policy", self.storage, selected, self.load_policy),
        ]
        runners: list[Kubelet | Reaction | Unit] = [self.front, *self.kubelets, *reactions, *self.agents.values()]
        api = [(address, layout.API_PORT) for address in (layout.API_ADDRESS, layout.API_ADDRESS6)]
        control = run_controllers(self.storage, api_addresses=api, ca_pem=self.pki.ca_pem)
        return [control, *(runner.run() for runner in runners)]

    async def start_api(self) -> RunningServer:
        """The API on a Unix socket, and who may use it; the front is what listens on the wire."""
        names = (layout.API_ADDRESS, layout.API_ADDRESS6)
        sockets = [bind_unix(layout.API_SOCKET)]
        server = await start_api(self.storage, (), layout.API_PORT, self.pki, sockets=sockets, names=names, connect=self.connect)
        for manifest in in_order(parse_manifests(AGENT_MANIFEST.read_text(), AGENT_MANIFEST.name)):
            self.storage.create(manifest.kind.plural, manifest.body)
        write_kubeconfig(layout.KUBECONFIG, API_URL, self.pki)
        token = self.account_files(announcement.NAMESPACE, "flows-agent")["token"]
        write_kubeconfig(layout.AGENT_KUBECONFIG, API_URL, self.pki, user="flows-agent", token=token)
        return server

    def front_program(self) -> Program:
        """The API's front as a unit."""
        addresses = (layout.API_ADDRESS, layout.API_ADDRESS6)
        command = [sys.executable, "-m", "flows.demo.api.front", os.fspath(layout.API_SOCKET), str(layout.API_PORT), *addresses]
        return Program(
            name=layout.API_UNIT,
            netns=layout.WIRE_NETNS,
            cgroup=self.root / "api-front",
            argv=command,
            address=(layout.API_ADDRESS, layout.API_PORT),
            spec=layout.STATE / "api.json",
            log=layout.LOGS / "api.log",
        )

    async def connect(self, pod: Json, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection to localhost inside a pod's network, as container runtimes make it for port forwarding."""
        workers = (kubelet.worker_of(pod["metadata"]["uid"]) for kubelet in self.kubelets)
        worker = next((worker for worker in workers if worker), None)
        if worker is None:
            raise ConnectionRefusedError(errno.ECONNREFUSED, "the pod runs on no node")
        return await asyncio.open_connection(sock=await netns.connect(worker.netns, "127.0.0.1", port))

    def agent_changed(self) -> None:
        """An agent came or went."""
        self.status.trigger()
        self.announcement.trigger()

    def account_files(self, namespace: str, account: str) -> dict[str, str]:
        """What a pod finds in /var/run/secrets/kubernetes.io/serviceaccount."""
        found = self.storage.get("serviceaccounts", namespace, account)
        if found is None:
            raise MissingObjectError(f'serviceaccount "{account}" not found')
        token = self.pki.service_account_token(namespace, account, found["metadata"]["uid"])
        return {"token": token, "ca.crt": self.pki.ca_pem.decode(), "namespace": namespace}

    # Reactions

    async def announce(self) -> None:
        """The agents, for those who look for them in the API."""
        if self.agents:
            announcement.announce(self.storage, list(self.agents.items()))

    async def load_proxy(self) -> None:
        """kube-proxy: the Services as nftables, the same on every node."""
        ports = services.service_ports(self.storage.list("services"), self.storage.list("endpointslices"))
        text = proxy.ruleset(ports)
        await asyncio.gather(*(asyncio.to_thread(netns.nft, node.netns, text) for node in layout.NODES))

    async def load_policy(self) -> None:
        """The NetworkPolicies as nftables, on each node those of its pods."""
        everything = (
            self.storage.list("networkpolicies"),
            self.storage.list("pods"),
            self.storage.list("namespaces"),
        )
        texts = [policy.ruleset(node.name, *everything) for node in layout.NODES]
        pairs = zip(layout.NODES, texts, strict=True)
        await asyncio.gather(*(asyncio.to_thread(netns.nft, node.netns, text) for node, text in pairs))

    async def write_dns(self) -> None:
        """The name server's records; it reads them again on SIGHUP."""
        lists = (self.storage.list(resource) for resource in ("services", "endpointslices", "pods"))
        if dns.write(dns.records(*lists)):
            for kubelet in self.kubelets:
                kubelet.signal_image("dnsmasq", signal.SIGHUP)

    async def write_status(self) -> None:
        """What `flows demo status` shows."""
        status = {
            "version": self.storage.version,
            "waiting": readiness.waiting_for(self.storage),
            "nodes": [
                {
                    "name": n.name,
                    "addresses": [n.address, n.address6],
                    "netns": n.netns,
                    "cgroup": os.fspath(self.root / n.name),
                }
                for n in layout.NODES
            ],
            "pods": [pod for kubelet in self.kubelets for pod in kubelet.describe()],
            "agents": [{"node": node.name, "socket": node.agent_socket, **unit.describe()} for node, unit in self.agents.items()],
            "api": self.front.describe(),
            "kubeconfig": os.fspath(layout.KUBECONFIG),
        }
        replace_file(layout.STATUS, json.dumps(status))


def replace_file(path: Path, text: str) -> None:
    """Write a file so that a reader sees the old or the new text, never half of one."""
    fresh = path.with_name(path.name + ".new")
    fresh.write_text(text)
    fresh.replace(path)


async def serve(*, agents: bool) -> None:
    """Run the control plane until SIGTERM or SIGINT."""
    plane = ControlPlane(agents=agents)
    await asyncio.to_thread(plane.lay_out)
    work = asyncio.create_task(plane.run())
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, work.cancel)
    await asyncio.wait([work])
    if not work.cancelled() and (error := work.exception()):
        raise error


def main() -> None:
    """Entry point of `python -m flows.demo.daemon`, which `flows demo up` starts."""
    parser = argparse.ArgumentParser(prog="flows-demo-daemon", description=__doc__)
    parser.add_argument("--no-agents", action="store_true")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    asyncio.run(serve(agents=not args.no_agents))


if __name__ == "__main__":
    main()
