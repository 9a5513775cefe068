"""The cluster's API as a source of names."""

from __future__ import annotations

from flows.agent.enrich.kube_source import KubernetesSource
from flows.kube.client import ApiClient


def connect(node_name: str, kubeconfig: str | None = None, context: str | None = None) -> KubernetesSource:
    """Make the source of this cluster's names; nothing is sent before its start(). Raises ConfigurationError."""
    return KubernetesSource(ApiClient(kubeconfig, context, "flows-agent"), node_name)
