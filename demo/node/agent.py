"""The flows agent of a node: in the node's network, on the node's own cgroup."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from flows.demo import layout
from flows.demo.node import cgroups
from flows.demo.node.unit import Program

if TYPE_CHECKING:
    from pathlib import Path


def command(node: layout.NodeLayout, cgroup: Path) -> list[str]:
    """The agent's command line; `cgroup` is the node's, the root of what it sees."""
    return [
        layout.flows_program(),
        "agent",
        *("--cgroup", os.fspath(cgroup)),
        *("--node", node.name),
        *("--cluster", layout.CLUSTER),
        *("--keep", os.fspath(layout.BPF / node.name)),
        *("--listen", f"{node.address}:{layout.AGENT_PORT}"),
        *("--listen", node.agent_socket),
        *("--kubeconfig", os.fspath(layout.AGENT_KUBECONFIG)),
        *("--tls-cert-file", os.fspath(layout.AGENT_PKI / "tls.crt")),
        *("--tls-key-file", os.fspath(layout.AGENT_PKI / "tls.key")),
        *("--tls-client-ca-file", os.fspath(layout.AGENT_PKI / "ca.crt")),
    ]


def program(node: layout.NodeLayout, cgroup: Path) -> Program:
    """The agent as a unit; `cgroup` is the node's."""
    return Program(
        name=node.agent_unit,
        netns=node.netns,
        cgroup=cgroup / cgroups.unit_path(node.driver, "flows-agent"),
        argv=command(node, cgroup),
        address=(node.address, layout.AGENT_PORT),
        spec=layout.STATE / f"{node.name}.agent.json",
        log=layout.agent_log(node.name),
    )
