"""Questions to the Kubernetes API: whose token, who may, which namespaces. https://kubernetes.io/docs/reference/access-authn-authz/"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

import msgspec

from flows.kube.errors import ApiError
from flows.kube.wire import ListMeta, ObjectMeta, Wire
from flows.relay.access.refusals import GROUP, RESOURCE, VERB
from flows.relay.access.times import DEFAULT

if TYPE_CHECKING:
    from collections.abc import Callable

TOKEN_REVIEWS: Final = "/apis/authentication.k8s.io/v1/tokenreviews"  # noqa: S105 - a path
ACCESS_REVIEWS: Final = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
NAMESPACES: Final = "/api/v1/namespaces"
METADATA_LIST: Final = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json"
PAGE_LIMIT: Final = 500  # as client-go
THREADS: Final = 8
"""Requests at once: as many connections as the client keeps open, and few enough to be no load for an API server."""

Answer = TypeVar("Answer")


class AccessApi(Protocol):
    """What is needed of kube.client.ApiClient: blocking, safe for several threads, raises ApiError."""

    def read(self, path: str, query: dict[str, str], accept: str) -> bytes:
        """GET a body."""

    def post(self, path: str, body: bytes) -> bytes:
        """POST a JSON body and return that of the answer."""


@dataclass(frozen=True, slots=True)
class User:
    """Who Kubernetes says a caller is."""

    name: str
    uid: str = ""
    groups: tuple[str, ...] = ()
    extra: dict[str, list[str]] = field(default_factory=dict)


class _UserInfo(Wire):
    username: str | None = None
    uid: str | None = None
    groups: list[str] | None = None
    extra: dict[str, list[str]] | None = None


class _TokenStatus(Wire):
    authenticated: bool | None = None
    user: _UserInfo | None = None
    error: str | None = None


class _TokenReview(Wire):
    status: _TokenStatus


class _AccessStatus(Wire):
    allowed: bool
    denied: bool | None = None


class _AccessReview(Wire):
    status: _AccessStatus


class _Namespace(Wire):
    metadata: ObjectMeta


class _Namespaces(Wire):
    metadata: ListMeta
    items: list[_Namespace] | None = None


class Reviews:
    """Asks the API in a few threads. Every method raises ApiError, also for an answer that does not come or makes no sense."""

    def __init__(self, api: AccessApi, seconds: float = DEFAULT.review) -> None:
        """seconds: for one answer."""
        self._api, self._seconds = api, seconds
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="access-review")

    async def user(self, token: str) -> User | str:
        """The user of a token (TokenReview); a text if it is not valid: what Kubernetes says of it, which may be ""."""
        review = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": token}}
        try:
            status = (await self._post(TOKEN_REVIEWS, review, _TokenReview)).status
        except ApiError as error:
            raise ApiError(error.code, str(error).replace(token, "TOKEN")) from None
        found = status.user
        if not status.authenticated or found is None or not found.username:
            return (status.error or "").replace(token, "TOKEN")
        return User(found.username, found.uid or "", tuple(found.groups or ()), found.extra or {})

    async def allowed(self, user: User, namespace: str) -> bool:
        """Whether a user may see flows (SubjectAccessReview) in a namespace; "": in all."""
        asked = {"verb": VERB, "group": GROUP, "resource": RESOURCE} | ({"namespace": namespace} if namespace else {})
        spec: dict[str, Any] = {"resourceAttributes": asked, "user": user.name, "groups": user.groups}
        spec |= ({"uid": user.uid} if user.uid else {}) | ({"extra": user.extra} if user.extra else {})
        review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": spec}
        status = (await self._post(ACCESS_REVIEWS, review, _AccessReview)).status
        return status.allowed and not status.denied

    async def namespaces(self) -> frozenset[str]:
        """All namespaces that exist."""
        return await self._thread(NAMESPACES, self._namespaces)

    def close(self) -> None:
        """Start no more requests."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _namespaces(self) -> frozenset[str]:
        names: set[str] = set()
        query = {"limit": str(PAGE_LIMIT)}
        while True:
            page = msgspec.json.decode(self._api.read(NAMESPACES, query, METADATA_LIST), type=_Namespaces)
            names.update(item.metadata.name for item in page.items or ())
            if not page.metadata.continue_token:
                return frozenset(names)
            query["continue"] = page.metadata.continue_token

    async def _post(self, path: str, review: dict[str, Any], answer: type[Answer]) -> Answer:
        body = msgspec.json.encode(review)
        return await self._thread(path, lambda: msgspec.json.decode(self._api.post(path, body), type=answer))

    async def _thread(self, path: str, ask: Callable[[], Answer]) -> Answer:
        try:
            async with asyncio.timeout(self._seconds):
                return await asyncio.get_running_loop().run_in_executor(self._threads, ask)
        except TimeoutError:
            raise ApiError(0, f"{path}: no answer within {self._seconds:g} s") from None
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise ApiError(0, f"{path}: the answer is not what the API sends: {error}") from error
        except RuntimeError as error:  # of a pool that was shut down
            raise ApiError(0, f"{path}: {error}") from error
