"""What callers may see, decided by a real API over HTTPS with real tokens, roles and bindings."""

from __future__ import annotations

import asyncio
import logging
import threading
from typing import TYPE_CHECKING

import grpc
import pytest
from access_cluster import NAMESPACE_LISTS, QUICK, Cluster, CountingApi, basic, bearer

from flows.kube.errors import ApiError
from flows.relay.access.credentials import Credentials
from flows.relay.access.kubernetes import KubernetesAccess
from flows.relay.access.reviews import THREADS
from flows.relay.access.scope import Denied, Scope

if TYPE_CHECKING:
    from flows.relay.access.scope import Grant

VIEWER = "system:serviceaccount:a:viewer"


async def refusal(access: KubernetesAccess, credentials: Credentials) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(Denied) as caught:
        await access.admit(credentials)
    return caught.value.code, str(caught.value)


async def test_cluster_wide_binding_shows_everything(cluster: Cluster, access: KubernetesAccess, api: CountingApi) -> None:
    token = cluster.token("viewer", "a")
    cluster.bind("a:viewer")
    assert (await access.admit(bearer(token))).scope == Scope(VIEWER, None)
    assert api.asked == {"tokenreviews": 1, "subjectaccessreviews": 1}


@pytest.mark.parametrize("namespaces", [{"a"}, {"b"}, {"a", "c"}])
async def test_bindings_in_namespaces_show_those(cluster: Cluster, access: KubernetesAccess, namespaces: set[str]) -> None:
    token = cluster.token("viewer", "a")
    for namespace in namespaces:
        cluster.bind("a:viewer", namespace)
    assert (await access.admit(basic(token))).scope == Scope(VIEWER, frozenset(namespaces))


async def test_two_users_each_see_their_own(cluster: Cluster, access: KubernetesAccess) -> None:
    tokens = [cluster.token("viewer", namespace) for namespace in "ab"]
    for namespace in "ab":
        cluster.bind(f"{namespace}:viewer", namespace)
    grants: list[Grant] = await asyncio.gather(*(access.admit(bearer(token)) for token in tokens))
    assert [grant.scope.namespaces for grant in grants] == [frozenset("a"), frozenset("b")]


async def test_nobody_is_told_the_verb_resource_and_group_to_grant(cluster: Cluster, access: KubernetesAccess) -> None:
    code, text = await refusal(access, bearer(cluster.token("nobody", "b")))
    assert code == grpc.StatusCode.PERMISSION_DENIED
    assert 'user "system:serviceaccount:b:nobody" may not get resource "flows" in API group "flows.dev"' in text
    assert "kubectl create rolebinding flows-viewer --clusterrole=flows-viewer --serviceaccount=b:nobody -n b" in text


async def test_invalid_token_is_told_how_to_give_one(access: KubernetesAccess) -> None:
    code, text = await refusal(access, basic("not.a.token", "jane"))
    assert code == grpc.StatusCode.UNAUTHENTICATED
    assert '"invalid bearer token"' in text
    assert '"jane", does not count' in text
    assert "kubectl create token" in text
    assert "not.a.token" not in text


async def test_a_token_put_where_the_name_belongs_is_not_repeated(cluster: Cluster, access: KubernetesAccess) -> None:
    token = cluster.token("viewer", "a")
    _, text = await refusal(access, basic("password", token))
    assert token not in text


async def test_token_of_a_deleted_account_is_invalid(cluster: Cluster, access: KubernetesAccess) -> None:
    token = cluster.token("viewer", "a")
    cluster.bind("a:viewer")
    cluster.storage.delete("serviceaccounts", "a", "viewer")
    cluster.account("viewer", "a")  # of the same name, but another
    assert (await refusal(access, bearer(token)))[0] == grpc.StatusCode.UNAUTHENTICATED


async def test_expired_token_is_invalid(cluster: Cluster, access: KubernetesAccess) -> None:
    cluster.bind("a:viewer")
    assert (await refusal(access, bearer(cluster.token("viewer", "a", -1))))[0] == grpc.StatusCode.UNAUTHENTICATED


async def test_a_decision_is_not_good_for_longer_than_the_token(cluster: Cluster, access: KubernetesAccess) -> None:
    token = cluster.token("viewer", "a", 2)
    cluster.bind("a:viewer")
    await access.admit(bearer(token))
    await asyncio.sleep(2.1)  # far less than a decision is remembered for
    assert (await refusal(access, bearer(token)))[0] == grpc.StatusCode.UNAUTHENTICATED


async def test_certificate_user_is_checked_like_any_other(cluster: Cluster, access: KubernetesAccess, api: CountingApi) -> None:
    cluster.bind("jane", "b")
    pem, _ = cluster.pki.client_certificate("jane", ["dev"])
    assert (await access.admit(Credentials(certificate=pem))).scope == Scope("jane", frozenset({"b"}))
    assert api.asked["tokenreviews"] == 0
    code, text = await refusal(access, Credentials(certificate=cluster.pki.client_certificate("joe's", ["dev"])[0]))
    assert code == grpc.StatusCode.PERMISSION_DENIED
    assert """--user='joe'"'"'s' -n NAMESPACE""" in text  # safe to paste into a shell


async def test_groups_of_a_certificate_count(cluster: Cluster, access: KubernetesAccess) -> None:
    cluster.bind_role("flows-viewer", {"kind": "Group", "name": "dev"}, "c")
    pem, _ = cluster.pki.client_certificate("jane", ["dev"])
    assert (await access.admit(Credentials(certificate=pem))).scope == Scope("jane", frozenset({"c"}))


# Caching


async def test_decisions_are_remembered_whichever_way_they_went(
    cluster: Cluster, access: KubernetesAccess, api: CountingApi
) -> None:
    cluster.bind("a:viewer", "a")
    allowed, denied = bearer(cluster.token("viewer", "a")), bearer(cluster.token("nobody", "a"))
    for _ in range(5):
        await access.admit(allowed)
        await refusal(access, denied)
        await refusal(access, bearer("rubbish"))
    everywhere = len(cluster.storage.list("namespaces"))
    assert api.asked == {"tokenreviews": 3, "subjectaccessreviews": 2 * (1 + everywhere), NAMESPACE_LISTS: 1}


async def test_remembered_refusals_are_errors_of_their_own(cluster: Cluster, access: KubernetesAccess) -> None:
    found: list[Denied] = []
    for _ in range(2):
        with pytest.raises(Denied) as caught:
            await access.admit(bearer("rubbish"))
        found.append(caught.value)
    assert found[0] is not found[1]
    assert str(found[0]) == str(found[1])


async def test_calls_at_once_share_one_decision(cluster: Cluster, access: KubernetesAccess, api: CountingApi) -> None:
    api.delay = 0.05
    token = cluster.token("viewer", "a")
    cluster.bind("a:viewer")
    grants = await asyncio.gather(*(access.admit(bearer(token)) for _ in range(100)))
    assert {grant.scope for grant in grants} == {Scope(VIEWER, None)}
    assert api.asked == {"tokenreviews": 1, "subjectaccessreviews": 1}


async def test_memory_is_short(cluster: Cluster, quick: KubernetesAccess) -> None:
    token = cluster.token("viewer", "a")
    await refusal(quick, bearer(token))
    binding = cluster.bind("a:viewer", "a")
    await asyncio.sleep(QUICK.denied + 0.05)
    assert (await quick.admit(bearer(token))).scope.namespaces == frozenset({"a"})
    cluster.unbind(binding, "a")
    await asyncio.sleep(QUICK.allowed + 0.05)
    assert (await refusal(quick, bearer(token)))[0] == grpc.StatusCode.PERMISSION_DENIED


async def test_new_namespace_is_found(cluster: Cluster, quick: KubernetesAccess) -> None:
    token = cluster.token("viewer", "a")
    await refusal(quick, bearer(token))
    cluster.namespace("new")
    cluster.bind("a:viewer", "new")
    await asyncio.sleep(QUICK.namespaces + 0.05)
    assert (await quick.admit(bearer(token))).scope.namespaces == frozenset({"new"})


async def test_many_namespaces_are_asked_about_a_few_at_a_time(
    cluster: Cluster, access: KubernetesAccess, api: CountingApi
) -> None:
    for number in range(60):
        cluster.namespace(f"team-{number}")
    api.delay = 0.01
    token = cluster.token("viewer", "a")
    cluster.bind("a:viewer", "team-42")
    assert (await access.admit(bearer(token))).scope.namespaces == frozenset({"team-42"})
    assert api.most == THREADS


async def test_strangers_who_try_tokens_are_turned_away_before_they_fill_the_memory(
    access: KubernetesAccess, api: CountingApi
) -> None:
    api.delay = 0.02
    answers = await asyncio.gather(*(access.admit(bearer(f"rubbish-{n}")) for n in range(400)), return_exceptions=True)
    codes = [answer.code for answer in answers if isinstance(answer, Denied)]
    assert len(codes) == 400
    assert codes.count(grpc.StatusCode.UNAVAILABLE) == 400 - 256
    assert api.asked["tokenreviews"] == 256
    assert len(access._decisions._users._asking) == 0


# Faults


async def test_no_answer_from_kubernetes_means_no_new_call(cluster: Cluster, access: KubernetesAccess) -> None:
    token = cluster.token("viewer", "a")
    cluster.bind("a:viewer")
    await cluster.server.stop_listening()
    code, text = await refusal(access, bearer(token))
    assert code == grpc.StatusCode.UNAVAILABLE
    assert "cannot ask Kubernetes" in text
    assert "tokenreviews" in text  # what was being done
    assert "refused" in text  # the cause
    assert "kubectl get --raw /readyz" in text  # the cure
    assert token not in text
    await cluster.server.listen()
    assert (await access.admit(bearer(token))).scope == Scope(VIEWER, None)  # an error is not remembered


async def test_part_of_an_answer_is_none(cluster: Cluster, access: KubernetesAccess, api: CountingApi) -> None:
    """A limited user is not shown less because a review failed: that would look like the whole."""
    token = cluster.token("viewer", "a")
    cluster.bind("a:viewer", "a")
    post, calls = api.post, iter(range(100))

    def failing(path: str, body: bytes) -> bytes:
        if next(calls) == 4:
            raise ApiError(503, "lost")
        return post(path, body)

    api.post = failing  # type: ignore[method-assign]
    code, text = await refusal(access, bearer(token))
    assert (code, '"lost"' in text) == (grpc.StatusCode.UNAVAILABLE, True)
    assert (await access.admit(bearer(token))).scope.namespaces == frozenset({"a"})


async def test_relay_without_the_right_to_ask_says_what_it_needs(cluster: Cluster) -> None:
    access = KubernetesAccess(cluster.client(cluster.token("powerless", "c")))
    code, text = await refusal(access, bearer(cluster.token("viewer", "a")))
    access.close()
    assert code == grpc.StatusCode.UNAVAILABLE
    assert "powerless" in text
    assert "may create tokenreviews and subjectaccessreviews" in text


async def test_outage_and_recovery_are_logged_once_and_no_log_has_a_token(
    cluster: Cluster, access: KubernetesAccess, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    token = cluster.token("viewer", "a")
    cluster.bind("a:viewer")
    await cluster.server.stop_listening()
    for _ in range(3):
        await refusal(access, bearer(token))
    await cluster.server.listen()
    await access.admit(bearer(token))
    await access.admit(basic(token))
    ours = [record.message for record in caplog.records if record.name.startswith("flows.relay")]
    assert [message.partition(",")[0] for message in ours] == ["access cannot be checked", "access can be checked again"]
    assert token not in caplog.text
    assert token.rpartition(".")[2] not in caplog.text


async def test_a_caller_who_leaves_does_not_stop_the_decision(
    cluster: Cluster, access: KubernetesAccess, api: CountingApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    answered, post = threading.Event(), api.post

    def held(path: str, body: bytes) -> bytes:
        answered.wait(10)
        return post(path, body)

    monkeypatch.setattr(api, "post", held)
    token = cluster.token("viewer", "a")
    cluster.bind("a:viewer")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.03):
            await access.admit(bearer(token))
    assert api.asked["tokenreviews"] == 0
    answered.set()
    await access.admit(bearer(token))
    assert api.asked["tokenreviews"] == 1
