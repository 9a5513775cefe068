"""Who is asking (client certificate or bearer token) and what RBAC lets them do."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from flows.demo.api.errors import StatusError, unauthorized

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flows.demo.api.kinds import Kind
    from flows.demo.api.pki import Pki
    from flows.demo.api.storage import Storage

Json = dict[str, Any]
AUTHENTICATED = "system:authenticated"
MASTERS = "system:masters"
"""The group that RBAC never refuses."""


@dataclass(frozen=True, slots=True)
class User:
    """An authenticated (or anonymous) caller."""

    name: str
    groups: tuple[str, ...]
    uid: str = ""
    extra: Json = field(default_factory=dict, hash=False)


ANONYMOUS = User("system:anonymous", ("system:unauthenticated",))


@dataclass(frozen=True, slots=True)
class Attributes:
    """One act to be allowed: on a resource, or on a URL path when `path` is set."""

    verb: str
    group: str = ""
    resource: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""
    path: str = ""

    @property
    def full_resource(self) -> str:
        """`pods` or `pods/status`, as rules name it."""
        return f"{self.resource}/{self.subresource}" if self.subresource else self.resource


def authenticate(authorization: str, peer_certificate: Json | None, storage: Storage, pki: Pki) -> User:
    """The caller behind a request. Raises StatusError 401 for a token that is not ours."""
    scheme, _, token = authorization.partition(" ")
    if scheme.lower() == "bearer" and token.strip():
        user = token_user(token.strip(), storage, pki)
        if user is None:
            raise unauthorized()
        return user
    return certificate_user(peer_certificate) if peer_certificate else ANONYMOUS


def certificate_user(certificate: Json) -> User:
    """The user of a verified client certificate: common name, with organizations as groups."""
    pairs = [pair for group in certificate.get("subject", ()) for pair in group]
    groups = tuple(value for key, value in pairs if key == "organizationName")
    names = [value for key, value in pairs if key == "commonName"]
    return User(names[0] if names else "", (*groups, AUTHENTICATED))


def token_user(token: str, storage: Storage, pki: Pki) -> User | None:
    """The ServiceAccount of a valid token whose account still exists; None otherwise."""
    claims = pki.token_claims(token)
    if claims is None:
        return None
    bound = claims["kubernetes.io"]
    account, namespace = bound["serviceaccount"], bound["namespace"]
    stored = storage.get("serviceaccounts", namespace, account["name"])
    if stored is None or stored["metadata"]["uid"] != account["uid"]:
        return None
    groups = ("system:serviceaccounts", f"system:serviceaccounts:{namespace}", AUTHENTICATED)
    extra = {"authentication.kubernetes.io/credential-id": [f"JTI={claims['jti']}"]}
    return User(claims["sub"], groups, account["uid"], extra)


def allow(user: User, act: Attributes, storage: Storage) -> str | None:
    """The reason why RBAC allows an act; None when it does not."""
    if MASTERS in user.groups:
        return ""
    for binding, rules in _bound_rules(user, act.namespace, storage):
        if any(rule_matches(rule, act) for rule in rules):
            return binding
    return None


def _bound_rules(user: User, namespace: str, storage: Storage) -> Iterator[tuple[str, list[Json]]]:
    for binding in storage.list("clusterrolebindings"):
        if (subject := _subject(binding, user)) is not None:
            yield _reason(binding, subject), _rules(binding, storage)
    if not namespace:
        return
    for binding in storage.list("rolebindings", namespace):
        if (subject := _subject(binding, user)) is not None:
            yield _reason(binding, subject), _rules(binding, storage)


def _subject(binding: Json, user: User) -> Json | None:
    own = binding["metadata"].get("namespace", "")
    for subject in binding.get("subjects") or ():
        name = subject.get("name", "")
        if subject.get("kind") == "ServiceAccount":
            matches = user.name == f"system:serviceaccount:{subject.get('namespace', own)}:{name}"
        elif subject.get("kind") == "Group":
            matches = name in user.groups
        else:
            matches = subject.get("kind") == "User" and user.name == name
        if matches:
            return dict(subject)
    return None


def _rules(binding: Json, storage: Storage) -> list[Json]:
    reference = binding["roleRef"]
    if reference["kind"] == "Role":
        role = storage.get("roles", binding["metadata"].get("namespace", ""), reference["name"])
    else:
        role = storage.get("clusterroles", None, reference["name"])
    return list(role.get("rules") or ()) if role else []


def _reason(binding: Json, subject: Json) -> str:
    metadata, role = binding["metadata"], binding["roleRef"]
    place = f"/{metadata['namespace']}" if metadata.get("namespace") else ""
    who = subject["name"] + (f"/{subject['namespace']}" if subject.get("namespace") else "")
    return (
        f'RBAC: allowed by {binding["kind"]} "{metadata["name"]}{place}" of {role["kind"]} "{role["name"]}" '
        f'to {subject["kind"]} "{who}"'
    )


def rule_matches(rule: Json, act: Attributes) -> bool:
    """Whether one `PolicyRule` covers an act."""
    verbs = rule.get("verbs") or ()
    if "*" not in verbs and act.verb not in verbs:
        return False
    if act.path:
        return any(_path_matches(pattern, act.path) for pattern in rule.get("nonResourceURLs") or ())
    groups, resources = rule.get("apiGroups") or (), rule.get("resources") or ()
    wanted = {"*", act.full_resource} | ({f"*/{act.subresource}"} if act.subresource else set())
    names = rule.get("resourceNames") or ()
    in_group = "*" in groups or act.group in groups
    return in_group and not wanted.isdisjoint(resources) and (not names or act.name in names)


def _path_matches(pattern: str, path: str) -> bool:
    return pattern in {"*", path} or (pattern.endswith("*") and path.startswith(pattern[:-1]))


def denied(user: User, act: Attributes, kind: Kind | None) -> StatusError:
    """403 in the words of the real server."""
    if act.path:
        message = f'forbidden: User "{user.name}" cannot {act.verb} path "{act.path}"'
        return StatusError(403, "Forbidden", message, {})
    where = f'in the namespace "{act.namespace}"' if act.namespace else "at the cluster scope"
    qualified = kind.qualified if kind else act.resource
    subject = f'{qualified} "{act.name}"' if act.name else qualified
    message = (
        f'{subject} is forbidden: User "{user.name}" cannot {act.verb} resource "{act.full_resource}" '
        f'in API group "{act.group}" {where}'
    )
    details: Json = {"name": act.name} if act.name else {}
    details |= {"group": act.group} if act.group else {}
    return StatusError(403, "Forbidden", message, {**details, "kind": act.resource})
