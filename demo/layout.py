"""Names, addresses and paths of the demo cluster: the one place where they are chosen."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Driver = Literal["systemd", "cgroupfs"]
Runtime = Literal["containerd", "cri-o", "docker"]

# Everything the demo makes on the machine carries this name, so that a sweep finds it whatever crashed.
NAME = "flows-demo"
PREFIX = f"{NAME}-"

CLUSTER = "demo"
DOMAIN = "cluster.local"

MANIFESTS = Path(__file__).parent / "manifests"
RELAY_MANIFEST = MANIFESTS / "50-relay.yaml"

RUN = Path("/run/flows")
STATE = RUN / "demo"
KUBECONFIG = STATE / "kubeconfig"
AGENT_KUBECONFIG = STATE / "agent.kubeconfig"
STATUS = STATE / "status.json"
PID_FILE = STATE / "daemon.json"
DAEMON_LOG = STATE / "daemon.log"
DNS_RECORDS = STATE / "dns"
PODS = STATE / "pods"
API_SOCKET = STATE / "api.sock"  # where the daemon answers what the API's front passes on
CONTROL_SOCKET = STATE / "control.sock"  # `flows demo stop`, `start` and `api`: root's alone
SOCKETS = STATE / "sockets"  # the relay's pod has this folder
RELAY_SOCKET = STATE / "relay.sock"  # where the CLI looks; a link into SOCKETS
PKI = STATE / "pki"
FLOWS_CA, AGENT_PKI, RELAY_PKI = PKI / "flows-ca.crt", PKI / "agent", PKI / "relay"
SECURE_PKI = PKI / "secure"  # of the workload demo/secure
LOGS = STATE / "logs"
BPF = STATE / "bpf"  # a bpffs of the demo's own: unmounting it removes all that agents keep there
NETNS = Path("/run/netns")

# The wire: a bridge in a namespace of its own, so that neither br_netfilter nor the machine's firewall sees
# pods talk.
WIRE_NETNS = f"{PREFIX}wire"
MACHINE_LINK = NAME
NODE_NET, NODE_NET6 = "172.31.77.0/24", "fd00:172:31:77::/64"
MACHINE_ADDRESS, MACHINE_ADDRESS6 = "172.31.77.1", "fd00:172:31:77::1"
API_ADDRESS, API_ADDRESS6 = "172.31.77.10", "fd00:172:31:77::10"
API_PORT = 6443
AGENT_PORT = 4244  # Hubble's
API_UNIT = "api"

# kubeadm's defaults, so that the addresses look like those of a cluster met in the field.
SERVICE_NET, SERVICE_NET6 = "10.96.0.0/16", "fd00:10:96::/108"
KUBERNETES_SERVICE = "10.96.0.1"
DNS_SERVICE = "10.96.0.10"


@dataclass(frozen=True, slots=True)
class NodeLayout:
    """One node: its number gives its addresses; driver and runtime give the shape of its cgroups."""

    number: int
    driver: Driver
    runtime: Runtime

    @property
    def name(self) -> str:
        return f"node-{self.number}"

    @property
    def zone(self) -> str:
        return f"zone-{self.number}"

    @property
    def netns(self) -> str:
        return f"{PREFIX}{self.name}"

    @property
    def address(self) -> str:
        return f"172.31.77.{10 + self.number}"

    @property
    def address6(self) -> str:
        return f"fd00:172:31:77::{10 + self.number}"

    @property
    def pod_net(self) -> str:
        return f"10.244.{self.number}.0/24"

    @property
    def pod_net6(self) -> str:
        return f"fd00:10:244:{self.number}::/64"

    @property
    def gateway(self) -> str:
        return self.pod_address(1)

    @property
    def gateway6(self) -> str:
        return self.pod_address6(1)

    @property
    def agent_unit(self) -> str:
        return f"agent/{self.name}"

    @property
    def agent_socket(self) -> str:
        return f"unix://{STATE}/{self.name}.sock"

    def pod_address(self, host: int) -> str:
        return f"10.244.{self.number}.{host}"

    def pod_address6(self, host: int) -> str:
        return f"fd00:10:244:{self.number}::{host:x}"


# One node per runtime, and both cgroup drivers: what the agent must know how to read.
NODES = (
    NodeLayout(1, "systemd", "containerd"),
    NodeLayout(2, "systemd", "cri-o"),
    NodeLayout(3, "cgroupfs", "docker"),
)


def agent_log(node: str) -> Path:
    """Where a node's agent writes what it has to say."""
    return LOGS / f"agent-{node}.log"


def flows_program() -> str:
    """The `flows` command of the environment this process runs in."""
    return os.fspath(Path(sys.executable).with_name("flows"))
