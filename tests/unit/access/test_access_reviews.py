"""Questions to the API: what goes over the wire, and what a real server's answers mean."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from flows.kube.errors import ApiError
from flows.relay.access.reviews import ACCESS_REVIEWS, NAMESPACES, TOKEN_REVIEWS, Reviews, User

if TYPE_CHECKING:
    from collections.abc import Callable

    from access_cluster import Cluster, CountingApi

DATA = Path(__file__).parents[2] / "data" / "kubernetes-api"
VIEWER = User(
    "system:serviceaccount:ns-0:viewer",
    "67a97bc1-1740-4b7f-a03c-30b80af0fc5f",
    ("system:serviceaccounts", "system:serviceaccounts:ns-0", "system:authenticated"),
    {"authentication.kubernetes.io/credential-id": ["JTI=cbe44690-c466-4d6c-93d8-e4b12aaac4af"]},
)


def recorded(name: str) -> bytes:
    """The body that a real API server answered with."""
    return (DATA / f"{name}.http").read_bytes().replace(b"\r\n", b"\n").partition(b"\n\n")[2]


class Wire:
    """An API that gives fixed bodies and remembers what it was asked."""

    def __init__(self, *answers: bytes | Exception, seconds: float = 0.0) -> None:
        self.answers, self.seconds = list(answers), seconds
        self.requests: list[tuple[str, Any]] = []

    def read(self, path: str, query: dict[str, str], accept: str) -> bytes:
        self.requests.append((path, {**query, "accept": accept}))
        return self._answer()

    def post(self, path: str, body: bytes) -> bytes:
        self.requests.append((path, json.loads(body)))
        return self._answer()

    def _answer(self) -> bytes:
        time.sleep(self.seconds)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.fixture
def ask() -> Any:
    """Makes Reviews that are closed at the end."""
    made: list[Reviews] = []

    def make(wire: Wire, seconds: float = 5.0) -> Reviews:
        made.append(Reviews(wire, seconds))
        return made[-1]

    yield make
    for reviews in made:
        reviews.close()


async def test_recorded_token_review_names_the_user_with_all_that_reviews_need(ask: Callable[..., Reviews]) -> None:
    wire = Wire(recorded("tokenreview-ok"))
    assert await ask(wire).user("TOKEN") == VIEWER
    head = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview"}
    assert wire.requests == [(TOKEN_REVIEWS, {**head, "spec": {"token": "TOKEN"}})]


async def test_recorded_refusal_of_a_token_says_why(ask: Callable[..., Reviews]) -> None:
    assert await ask(Wire(recorded("tokenreview-bad"))).user("bad.token.here") == "invalid bearer token"


@pytest.mark.parametrize(
    ("name", "namespace", "allowed"),
    [("allowed-namespace", "ns-0", True), ("denied-namespace", "ns-1", False), ("denied-cluster", "", False)],
)
async def test_recorded_access_reviews(ask: Callable[..., Reviews], name: str, namespace: str, *, allowed: bool) -> None:
    body = recorded(f"subjectaccessreview-{name}")
    wire = Wire(body)
    user = User(VIEWER.name, groups=VIEWER.groups)
    assert await ask(wire).allowed(user, namespace) is allowed
    theirs = json.loads(body)
    assert wire.requests == [(ACCESS_REVIEWS, {key: theirs[key] for key in ("apiVersion", "kind", "spec")})]


async def test_access_review_carries_uid_and_extra_of_the_token_review(ask: Callable[..., Reviews]) -> None:
    wire = Wire(recorded("subjectaccessreview-denied-cluster"))
    await ask(wire).allowed(VIEWER, "")
    spec = wire.requests[0][1]["spec"]
    assert (spec["user"], spec["uid"], spec["extra"]) == (VIEWER.name, VIEWER.uid, VIEWER.extra)
    assert tuple(spec["groups"]) == VIEWER.groups


async def test_a_veto_outweighs_an_allowance(ask: Callable[..., Reviews]) -> None:
    assert not await ask(Wire(b'{"status":{"allowed":true,"denied":true}}')).allowed(VIEWER, "a")


@pytest.mark.parametrize("status", [b'"authenticated":true', b'"authenticated":true,"user":{}', b'"user":{"username":"x"}', b""])
async def test_no_name_or_no_word_of_authentication_is_no_user(ask: Callable[..., Reviews], status: bytes) -> None:
    assert await ask(Wire(b'{"status":{%s}}' % status)).user("TOKEN") == ""


async def test_namespaces_come_in_pages_as_names_only(ask: Callable[..., Reviews]) -> None:
    page = json.loads(recorded("namespaces"))
    page["metadata"]["continue"] = "more"
    last = {"metadata": {}, "items": [{"metadata": {"name": "zz"}}]}
    wire = Wire(json.dumps(page).encode(), json.dumps(last).encode())
    names = [item["metadata"]["name"] for item in page["items"]]
    assert await ask(wire).namespaces() == {*names, "zz"}
    assert [(path, query.get("continue")) for path, query in wire.requests] == [(NAMESPACES, None), (NAMESPACES, "more")]
    assert "PartialObjectMetadataList" in wire.requests[0][1]["accept"]


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"{}", b'{"status":null}', b'{"status":{"allowed":"yes"}}', b"\xff"])
async def test_answer_that_makes_no_sense_is_an_error_and_never_a_decision(ask: Callable[..., Reviews], body: bytes) -> None:
    with pytest.raises(ApiError, match="not what the API sends"):
        await ask(Wire(body)).allowed(VIEWER, "")


async def test_answer_that_does_not_come_is_an_error(ask: Callable[..., Reviews]) -> None:
    reviews = ask(Wire(recorded("tokenreview-ok"), seconds=0.5), seconds=0.05)
    with pytest.raises(ApiError, match=r"tokenreviews: no answer within 0.05 s"):
        await reviews.user("TOKEN")


async def test_no_error_repeats_the_token(ask: Callable[..., Reviews]) -> None:
    with pytest.raises(ApiError) as caught:
        await ask(Wire(ApiError(400, "spec.token: s3cr3t is not good"))).user("s3cr3t")
    assert "s3cr3t" not in str(caught.value)
    echoing = b'{"status":{"error":"s3cr3t is not good"}}'
    assert await ask(Wire(echoing)).user("s3cr3t") == "TOKEN is not good"


async def test_what_was_closed_asks_no_more(ask: Callable[..., Reviews]) -> None:
    reviews = ask(Wire())
    reviews.close()
    with pytest.raises(ApiError, match="shutdown"):
        await reviews.user("TOKEN")


async def test_account_of_the_stand_in_is_described_like_the_recorded_one(
    cluster: Cluster, api: CountingApi, ask: Callable[..., Reviews]
) -> None:
    cluster.namespace("ns-0")
    found = await ask(api).user(cluster.token("viewer", "ns-0"))
    assert isinstance(found, User)
    assert (found.name, found.groups, found.extra.keys()) == (VIEWER.name, VIEWER.groups, VIEWER.extra.keys())
    assert len(found.uid) == len(VIEWER.uid)
