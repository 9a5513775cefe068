"""The manifests of docs/access.md and the commands of refusals do what is said of them."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from access_cluster import Cluster, basic, bearer

from flows.demo.api.pki import write_kubeconfig
from flows.relay.access.credentials import Credentials
from flows.relay.access.kubernetes import KubernetesAccess
from flows.relay.access.scope import Denied

if TYPE_CHECKING:
    from access_cluster import CountingApi

DOCUMENT = (Path(__file__).parents[3] / "docs" / "access.md").read_text("utf-8")
RESOURCES = {"ClusterRole": "clusterroles", "RoleBinding": "rolebindings", "ClusterRoleBinding": "clusterrolebindings"}


def manifest(kind: str, name: str) -> dict[str, Any]:
    blocks = map(yaml.safe_load, re.findall(r"```yaml\n(.*?)```", DOCUMENT, re.DOTALL))
    (found,) = (block for block in blocks if (block["kind"], block["metadata"]["name"]) == (kind, name))
    return dict(found)


def apply(cluster: Cluster, kind: str, name: str) -> None:
    wanted = manifest(kind, name)
    stored = cluster.storage.get("clusterroles", None, name) if kind == "ClusterRole" else None
    if stored is None:
        cluster.storage.create(RESOURCES[kind], wanted)
    else:
        cluster.storage.update(RESOURCES[kind], {**stored, "rules": wanted["rules"]})


async def kubectl(cluster: Cluster, command: str) -> str:
    path = write_kubeconfig(cluster.directory / "admin", cluster.server.url, cluster.pki)
    environment = {"KUBECONFIG": str(path), "HOME": str(cluster.directory), "PATH": "/usr/local/bin:/usr/bin:/bin"}
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_shell(command, stdout=pipe, stderr=pipe, env=environment)
    out, error = await process.communicate()
    assert process.returncode == 0, error.decode()
    return out.decode().strip()


@pytest.fixture
def documented(cluster: Cluster) -> Cluster:
    """A cluster with the roles of the document, also for the relay itself."""
    cluster.namespace("shop")
    apply(cluster, "ClusterRole", "flows-viewer")
    apply(cluster, "ClusterRole", "flows-relay")
    return cluster


async def test_binding_in_a_namespace_shows_it_to_the_team_and_the_dashboard(
    documented: Cluster, access: KubernetesAccess
) -> None:
    apply(documented, "RoleBinding", "flows-viewer")
    token = documented.token("dashboard", "shop")
    member, _ = documented.pki.client_certificate("jane", ["shop-team"])
    for credentials in (bearer(token), Credentials(certificate=member)):
        assert (await access.admit(credentials)).scope.namespaces == frozenset({"shop"})


async def test_cluster_wide_binding_shows_everything_to_operators(documented: Cluster, access: KubernetesAccess) -> None:
    apply(documented, "ClusterRoleBinding", "flows-viewer")
    operator, _ = documented.pki.client_certificate("jane", ["operators"])
    assert (await access.admit(Credentials(certificate=operator))).scope.namespaces is None


async def test_the_command_of_a_refusal_grants_what_was_refused(
    documented: Cluster, access: KubernetesAccess, api: CountingApi
) -> None:
    documented.account("someone", "shop")
    token = await kubectl(documented, "kubectl create token someone -n shop")
    with pytest.raises(Denied) as caught:
        await access.admit(basic(token))
    command = re.search(r"kubectl create rolebinding [^,]+", str(caught.value))
    assert command is not None
    # The stand-in does not read the client's protobuf, so the object that the command would send is stored directly.
    binding = json.loads(await kubectl(documented, f"{command[0]} --dry-run=client -o json"))
    documented.storage.create("rolebindings", binding)
    again = KubernetesAccess(api)  # remembers no refusal
    assert (await again.admit(basic(token))).scope.namespaces == frozenset({"shop"})
    again.close()


async def test_the_question_of_the_document_is_answered(documented: Cluster) -> None:
    (question,) = re.findall(r"```sh\n(.*?)```", DOCUMENT, re.DOTALL)
    question = question.replace("kubectl create", "kubectl create --validate=false")  # the stand-in has no schema of reviews
    assert json.loads(await kubectl(documented, question))["allowed"] is False
    apply(documented, "RoleBinding", "flows-viewer")
    assert json.loads(await kubectl(documented, question))["allowed"] is True
