"""A cluster's API on loopback with accounts, roles and bindings, and ways to be one of its users."""

from __future__ import annotations

import base64
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from flows.demo.api.pki import write_kubeconfig
from flows.kube.client import ApiClient
from flows.relay.access.credentials import Credentials
from flows.relay.access.reviews import NAMESPACES
from flows.relay.access.times import Times

if TYPE_CHECKING:
    from pathlib import Path

    from flows.demo.api.pki import Pki
    from flows.demo.api.server import RunningServer
    from flows.demo.api.storage import Storage

Json = dict[str, Any]
RBAC = "rbac.authorization.k8s.io"
VIEWER_RULES = [{"verbs": ["get"], "apiGroups": ["flows.dev"], "resources": ["flows"]}]
RELAY_RULES = [
    {"verbs": ["create"], "apiGroups": ["authentication.k8s.io"], "resources": ["tokenreviews"]},
    {"verbs": ["create"], "apiGroups": ["authorization.k8s.io"], "resources": ["subjectaccessreviews"]},
    {"verbs": ["list", "watch"], "apiGroups": [""], "resources": ["namespaces"]},
    {"verbs": ["list", "watch"], "apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"]},
]
"""The relay's ClusterRole, as docs/access.md has it."""
QUICK = Times(allowed=0.2, denied=0.1, namespaces=0.3, recheck=(0.1, 0.15), shared=0.05, review=5.0, outage=1.5)
"""The defaults, about 150 times as fast."""


class CountingApi:
    """The real client, counting what is asked; `delay` makes the answers slow, from the moment they are asked."""

    def __init__(self, client: ApiClient) -> None:
        self.client, self.delay = client, 0.0
        self.asked: Counter[str] = Counter()
        self.under_way, self.most = 0, 0
        self._lock = threading.Lock()

    def read(self, path: str, query: dict[str, str], accept: str) -> bytes:
        return self._counted(path, lambda: self.client.read(path, query, accept))

    def post(self, path: str, body: bytes) -> bytes:
        return self._counted(path, lambda: self.client.post(path, body))

    def _counted(self, path: str, ask: Any) -> bytes:
        with self._lock:
            self.asked[path.rpartition("/")[2]] += 1
            self.under_way += 1
            self.most = max(self.most, self.under_way)
        try:
            time.sleep(self.delay)
            answer: bytes = ask()
            return answer
        finally:
            with self._lock:
                self.under_way -= 1


@dataclass
class Cluster:
    """The API, what it stores, and the relay's way to it."""

    storage: Storage
    server: RunningServer
    pki: Pki
    directory: Path
    clients: list[ApiClient] = field(default_factory=list)

    def client(self, token: str = "") -> CountingApi:
        """As the relay's account, or with another token."""
        token = token or self.token("flows-relay", "flows-system")
        path = self.directory / f"kubeconfig-{len(self.clients)}"
        write_kubeconfig(path, self.server.url, self.pki, token=token)
        self.clients.append(ApiClient(str(path)))
        return CountingApi(self.clients[-1])

    def namespace(self, name: str) -> None:
        self.storage.create("namespaces", {"metadata": {"name": name}})

    def account(self, name: str, namespace: str) -> Json:
        return self.storage.create("serviceaccounts", {"metadata": {"name": name, "namespace": namespace}})

    def token(self, name: str, namespace: str, seconds: int = 3600) -> str:
        account = self.storage.get("serviceaccounts", namespace, name) or self.account(name, namespace)
        return self.pki.service_account_token(namespace, name, account["metadata"]["uid"], seconds)

    def bind(self, user: str, namespace: str = "") -> str:
        """Grant flows-viewer to an account (`namespace:name`) or a user, in one namespace or all; the binding's name."""
        home, _, account = user.partition(":")
        subject = {"kind": "ServiceAccount", "namespace": home, "name": account} if account else user_subject(user)
        return self.bind_role("flows-viewer", subject, namespace)

    def bind_role(self, role: str, subject: Json, namespace: str = "") -> str:
        name = f"{role}-{subject['name']}"
        metadata = {"name": name} | ({"namespace": namespace} if namespace else {})
        reference = {"apiGroup": RBAC, "kind": "ClusterRole", "name": role}
        kind = "rolebindings" if namespace else "clusterrolebindings"
        self.storage.create(kind, {"metadata": metadata, "roleRef": reference, "subjects": [subject]})
        return name

    def unbind(self, name: str, namespace: str = "") -> None:
        if namespace:
            self.storage.delete("rolebindings", namespace, name)
        else:
            self.storage.delete("clusterrolebindings", None, name)


def user_subject(name: str) -> Json:
    return {"kind": "User", "apiGroup": RBAC, "name": name}


def prepare(cluster: Cluster) -> None:
    """Namespaces a, b and c, the role of viewers, and the relay's account with its role."""
    for name in ("a", "b", "c", "flows-system"):
        cluster.namespace(name)
    cluster.storage.create("clusterroles", {"metadata": {"name": "flows-viewer"}, "rules": VIEWER_RULES})
    cluster.storage.create("clusterroles", {"metadata": {"name": "flows-relay"}, "rules": RELAY_RULES})
    relay = {"kind": "ServiceAccount", "namespace": "flows-system", "name": "flows-relay"}
    cluster.account("flows-relay", "flows-system")
    cluster.bind_role("flows-relay", relay)


def bearer(token: str) -> Credentials:
    return Credentials(f"Bearer {token}", "ipv4:192.0.2.1:1234")


def basic(token: str, name: str = "x") -> Credentials:
    return Credentials("Basic " + base64.b64encode(f"{name}:{token}".encode()).decode(), "ipv4:192.0.2.1:1234")


NAMESPACE_LISTS = NAMESPACES.rpartition("/")[2]
