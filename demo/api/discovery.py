"""What the API says about itself: `/api`, `/apis`, resource lists and the version."""

from __future__ import annotations

from typing import Any

from flows.demo.api.errors import unknown_resource
from flows.demo.api.kinds import KINDS, REVIEWS, Kind, groups

Json = dict[str, Any]
VERSION: Json = {
    "major": "1",
    "minor": "36",
    "emulationMajor": "1",
    "emulationMinor": "36",
    "minCompatibilityMajor": "1",
    "minCompatibilityMinor": "35",
    "gitVersion": "v1.36.2",
    "gitCommit": "",
    "gitTreeState": "",
    "buildDate": "1970-01-01T00:00:00Z",
    "goVersion": "",
    "compiler": "",
    "platform": "linux/amd64",
}
"""The version whose behaviour this stand-in follows."""
_VERBS = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"]
_SUBRESOURCE_VERBS = ["get", "patch", "update"]


def document(path: str, server_address: str) -> Json | None:
    """What a discovery path answers; None when there is no such path. Raises StatusError 404 inside a known version."""
    fixed = {"": {"paths": root_paths()}, "api": api_versions(server_address), "apis": api_groups()}
    if (found := fixed.get(path.strip("/"))) is not None:
        return found
    match path.strip("/").split("/"):
        case ["apis", group]:
            return api_group(group)
        case ["api", version, *rest]:
            return _in_version("", version, rest)
        case ["apis", group, version, *rest]:
            return _in_version(group, version, rest)
    return None


def _in_version(group: str, version: str, rest: list[str]) -> Json | None:
    listed = resource_list(group, version)
    if listed is not None and rest:
        raise unknown_resource()
    return listed


def root_paths() -> list[str]:
    """`GET /`: the paths there are."""
    versions = [f"/apis/{name}/{version}" for name, version in groups().items()]
    named = [f"/apis/{name}" for name in groups()]
    fixed = ["/api", "/api/v1", "/apis", "/healthz", "/livez", "/openapi/v2", "/openapi/v3", "/readyz", "/version"]
    return sorted([*fixed, *versions, *named])


def api_versions(server_address: str) -> Json:
    """`GET /api`."""
    addresses = [{"clientCIDR": "0.0.0.0/0", "serverAddress": server_address}]
    return {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": addresses}


def _group(name: str, version: str) -> Json:
    entry = {"groupVersion": f"{name}/{version}", "version": version}
    return {"name": name, "versions": [entry], "preferredVersion": entry}


def api_groups() -> Json:
    """`GET /apis`."""
    listed = [_group(name, version) for name, version in groups().items()]
    return {"kind": "APIGroupList", "apiVersion": "v1", "groups": listed}


def api_group(name: str) -> Json | None:
    """`GET /apis/NAME`; None when there is no such group."""
    if name not in groups():
        return None
    return {"kind": "APIGroup", "apiVersion": "v1", **_group(name, groups()[name])}


def resource_list(group: str, version: str) -> Json | None:
    """`GET /api/v1` or `/apis/GROUP/VERSION`; None when there is no such version."""
    kinds = [kind for kind in (*KINDS, *REVIEWS) if (kind.group, kind.version) == (group, version)]
    if not kinds:
        return None
    resources = [entry for kind in kinds for entry in _entries(kind)]
    version_text = f"{group}/{version}" if group else version
    head = {"kind": "APIResourceList"} | ({"apiVersion": "v1"} if group else {})
    return {**head, "groupVersion": version_text, "resources": resources}


def _entries(kind: Kind) -> list[Json]:
    entry: Json = {"name": kind.plural, "singularName": kind.singular, "namespaced": kind.namespaced}
    entry |= {"kind": kind.kind, "verbs": ["create"] if kind in REVIEWS else _VERBS}
    if kind.short_names:
        entry["shortNames"] = list(kind.short_names)
    if kind.categories:
        entry["categories"] = list(kind.categories)
    return [entry, *(_subresource(kind, name) for name in kind.subresources)]


def _subresource(kind: Kind, name: str) -> Json:
    entry: Json = {"name": f"{kind.plural}/{name}", "singularName": "", "namespaced": kind.namespaced}
    if name == "scale":
        return entry | {"group": "autoscaling", "version": "v1", "kind": "Scale", "verbs": _SUBRESOURCE_VERBS}
    if name == "token":
        group = {"group": "authentication.k8s.io", "version": "v1", "kind": "TokenRequest"}
        return entry | group | {"verbs": ["create"]}
    if name == "portforward":
        return entry | {"kind": "PodPortForwardOptions", "verbs": ["create", "get"]}
    return entry | {"kind": kind.kind, "verbs": _SUBRESOURCE_VERBS}
