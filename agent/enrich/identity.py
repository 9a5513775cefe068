"""Identity: Hubble's labels of a pod and a number equal for equal labels.

Labels are those that Cilium makes an identity from (pkg/k8s SanitizePodLabels, pkg/labelsfilter defaults):
the pod's own without the per-replica ones, its namespace and that one's labels, its ServiceAccount and the
cluster.
"""

from __future__ import annotations

import hashlib
import re
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from flows.flow.endpoint import Reserved

if TYPE_CHECKING:
    from flows.agent.enrich.kube_records import Labels, PodRecord

RESERVED_LABELS: Final = {
    Reserved.HOST: "reserved:host",
    Reserved.WORLD: "reserved:world",
    Reserved.REMOTE_NODE: "reserved:remote-node",
    Reserved.KUBE_APISERVER: "reserved:kube-apiserver",
}
# Numbers of pods have bit 30 set and bit 31 clear. Cilium uses up to 65,535 in a cluster, cluster << 16 in a
# mesh (24 bits), 1 << 24 and 2 << 24 for node-local scopes: none of these can be taken for one of ours.
POD_BIT: Final = 1 << 30
_KEPT: Final = "app.kubernetes.io"
_DROPPED: Final = re.compile(
    r"io\.cilium\.k8s|io\.kubernetes|kubernetes\.io|statefulset\.kubernetes\.io/pod-name|apps\.kubernetes\.io/pod-index"
    r"|batch\.kubernetes\.io/(?:job-completion-index|controller-uid)|.*beta\.kubernetes\.io|k8s\.io"
    r"|pod-template-(?:generation|hash)|controller-(?:revision-hash|uid)|annotation|etcd_node|topology\.kubernetes\.io"
)


def pod_labels(pod: PodRecord, namespace_labels: Labels, cluster: str) -> tuple[str, ...]:
    """Give a pod's labels as Hubble shows them, sorted."""
    return _labels(pod.labels, pod.namespace, namespace_labels, pod.service_account, cluster)


# Replicas share the result: a cluster of 10,000 pods has hundreds of label sets.
@lru_cache(maxsize=4096)
def _labels(own: Labels, namespace: str, of_namespace: Labels, account: str, cluster: str) -> tuple[str, ...]:
    labels = [f"k8s:{key}={value}" for key, value in own if key.startswith(_KEPT) or not _DROPPED.match(key)]
    labels += [f"k8s:io.cilium.k8s.namespace.labels.{key}={value}" for key, value in of_namespace]
    labels.append(f"k8s:io.kubernetes.pod.namespace={namespace}")
    labels.append(f"k8s:io.cilium.k8s.policy.cluster={cluster}")
    if account:
        labels.append(f"k8s:io.cilium.k8s.policy.serviceaccount={account}")
    return tuple(sorted(labels))


@lru_cache(maxsize=4096)
def pod_identity(labels: tuple[str, ...]) -> int:
    """Give the identity number of a label set (which holds namespace and cluster): the same on every node."""
    digest = hashlib.blake2b("\0".join(labels).encode(), digest_size=4).digest()
    return POD_BIT | (int.from_bytes(digest, "big") & (POD_BIT - 1))
