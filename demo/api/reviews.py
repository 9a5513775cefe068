"""Questions that clients create to have them answered: token and access reviews."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flows.demo.api.access import Attributes, User, allow, token_user
from flows.demo.api.errors import StatusError, invalid
from flows.demo.api.pki import ISSUER

if TYPE_CHECKING:
    from flows.demo.api.kinds import Kind
    from flows.demo.api.pki import Pki
    from flows.demo.api.storage import Storage

Json = dict[str, Any]


def answer(kind: Kind, review: Json, caller: User, storage: Storage, pki: Pki) -> Json:
    """The review with its `status`. `review` is decoded; raises StatusError 422 when it asks nothing."""
    spec = review.get("spec") or {}
    answered = {**review, "metadata": review.get("metadata") or {}, "spec": spec}
    if kind.kind == "TokenReview":
        return answered | {"status": _token_status(spec.get("token", ""), storage, pki)}
    if kind.kind == "SelfSubjectReview":
        del answered["spec"]
        return answered | {"status": {"userInfo": user_info(caller)}}
    asked = caller if kind.kind == "SelfSubjectAccessReview" else _asked_user(kind, spec)
    return answered | {"status": _access_status(kind, spec, asked, storage)}


def user_info(user: User) -> Json:
    """A `UserInfo` object."""
    info: Json = {"username": user.name}
    info |= {"uid": user.uid} if user.uid else {}
    info["groups"] = list(user.groups)
    return info | ({"extra": user.extra} if user.extra else {})


def _token_status(token: str, storage: Storage, pki: Pki) -> Json:
    user = token_user(token, storage, pki)
    if user is None:
        return {"user": {}, "error": "invalid bearer token"}
    return {"authenticated": True, "user": user_info(user), "audiences": [ISSUER]}


def _asked_user(kind: Kind, spec: Json) -> User:
    if not spec.get("user") and not spec.get("groups"):
        text = "Required value: at least one of user or group must be specified"
        raise _wrong(kind, "spec.user", text)
    return User(spec.get("user", ""), tuple(spec.get("groups") or ()), spec.get("uid", ""))


def _wrong(kind: Kind, field: str, text: str) -> StatusError:
    return invalid(kind, "", [(field, "FieldValueRequired", text)])


def _access_status(kind: Kind, spec: Json, user: User, storage: Storage) -> Json:
    resource, path = spec.get("resourceAttributes"), spec.get("nonResourceAttributes")
    if (resource is None) == (path is None):
        text = "Required value: exactly one of nonResourceAttributes or resourceAttributes must be specified"
        raise _wrong(kind, "spec.resourceAttributes", text)
    if resource is None:
        assert path is not None
        act = Attributes(path.get("verb", ""), path=path.get("path", ""))
    else:
        fields = ("verb", "group", "resource", "subresource", "namespace", "name")
        act = Attributes(**{field: resource.get(field, "") for field in fields})
    reason = allow(user, act, storage)
    if reason is None:
        return {"allowed": False}
    return {"allowed": True, **({"reason": reason} if reason else {})}
