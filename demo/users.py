"""`flows demo token`: what somebody else than the administrator shows to the API server and to the relay."""

from __future__ import annotations

import json
import re

from flows.demo import layout
from flows.demo.client import Client
from flows.demo.errors import UsageError
from flows.demo.status import read_status

_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")  # of a namespace or a ServiceAccount


def token_of(account: str, seconds: int) -> str:
    """A token of a ServiceAccount (NAMESPACE/NAME), good for so long; UsageError, or DemoError when there is none."""
    namespace, _, name = account.partition("/")
    if not _NAME.fullmatch(namespace) or not _NAME.fullmatch(name):
        raise UsageError(f"demo token: expected NAMESPACE/NAME such as demo/viewer, got {account!r}")
    read_status()
    path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token"
    answer = Client(layout.KUBECONFIG).request("POST", path, {"spec": {"expirationSeconds": seconds}})
    return str(answer["status"]["token"])


def kubeconfig_of(account: str, token: str) -> str:
    """The administrator's kubeconfig with somebody else in it."""
    config = json.loads(layout.KUBECONFIG.read_text())
    config["users"] = [{"name": account, "user": {"token": token}}]
    config["contexts"][0]["context"]["user"] = account
    return json.dumps(config, indent=2)
