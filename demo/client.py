"""A small client of the demo's API server: what `flows demo apply` and `delete` need of kubectl."""

from __future__ import annotations

import base64
import difflib
import http.client
import json
import os
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import yaml

from flows.demo.api.kinds import BY_TYPE, Kind
from flows.demo.errors import DemoError, UsageError

if TYPE_CHECKING:
    from pathlib import Path

Json = dict[str, Any]
LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
TIMEOUT_SECONDS = 10.0
# What must exist before what lives in it or refers to it.
FIRST = ("Namespace", "ServiceAccount", "ConfigMap", "Secret", "Service")


class ApiError(DemoError):
    """The API server's refusal; `code` is the HTTP status."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class Manifest:
    """One object of a manifest file, and the resource it belongs to."""

    kind: Kind
    body: Json

    @property
    def path(self) -> str:
        """URL path of the collection the object lives in."""
        base = f"/apis/{self.kind.api_version}" if self.kind.group else "/api/v1"
        inside = f"/namespaces/{self.body['metadata'].get('namespace', 'default')}" if self.kind.namespaced else ""
        return f"{base}{inside}/{self.kind.plural}"

    @property
    def title(self) -> str:
        """`deployment.apps/web`, as kubectl prints it."""
        group = f".{self.kind.group}" if self.kind.group else ""
        return f"{self.kind.singular}{group}/{self.body['metadata']['name']}"


class ManifestLoader(yaml.SafeLoader):
    """YAML as Kubernetes reads it: what looks like a date is text, as in JSON."""

    yaml_implicit_resolvers = {
        letter: [(tag, pattern) for tag, pattern in rows if tag != "tag:yaml.org,2002:timestamp"]
        for letter, rows in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


def parse_manifests(text: str, source: str) -> list[Manifest]:
    """Objects of a YAML or JSON text: several documents, and Lists, allowed. UsageError names what is wrong where."""
    try:
        documents = [d for d in yaml.load_all(text, ManifestLoader) if d is not None]
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UsageError(f"{source}: not YAML: {' '.join(str(error).split())}") from None
    bodies: list[Any] = []
    for document in documents:
        is_list = isinstance(document, dict) and str(document.get("kind", "")).endswith("List")
        bodies += document.get("items") or [] if is_list else [document]
    if not bodies:
        raise UsageError(f"{source}: holds no object; expected a manifest with apiVersion, kind and metadata")
    return [_manifest(body, f"{source}, object {number}") for number, body in enumerate(bodies, 1)]


def _manifest(body: Any, source: str) -> Manifest:
    if not isinstance(body, dict):
        raise UsageError(f"{source}: expected a mapping with apiVersion, kind and metadata, got {type(body).__name__}")
    version, name = body.get("apiVersion"), body.get("kind")
    kind = BY_TYPE.get((version, name)) if isinstance(version, str) and isinstance(name, str) else None
    if kind is None:
        known = [f"{kind} ({version})" for version, kind in BY_TYPE]
        near = difflib.get_close_matches(f"{name} ({version})", known, 1) or known
        raise UsageError(f"{source}: {name} ({version}) is not served by the demo; expected {' or '.join(near)}")
    metadata = body.get("metadata")
    if not isinstance(metadata, dict) or not isinstance(metadata.get("name"), str):
        raise UsageError(f"{source}: {name} has no metadata.name")
    return Manifest(kind, body)


def in_order(manifests: list[Manifest]) -> list[Manifest]:
    """Manifests in an order in which each finds what it needs."""
    return sorted(manifests, key=lambda m: FIRST.index(m.kind.kind) if m.kind.kind in FIRST else len(FIRST))


def merge_patch(last: Json, wanted: Json, live: Json) -> Json:
    """JSON merge patch (RFC 7386) that makes `wanted` true of `live` and removes what was in `last` and is
    no longer wanted.
    """
    patch: Json = {key: None for key in last if key not in wanted and key in live}
    for key, value in wanted.items():
        here = live.get(key)
        if isinstance(value, dict) and isinstance(here, dict):
            before = last.get(key)
            inner = merge_patch(before if isinstance(before, dict) else {}, value, here)
            if inner:
                patch[key] = inner
        elif not _covers(here, value):
            patch[key] = value
    return patch


def _covers(live: Any, wanted: Any) -> bool:
    """Whether `live` says all that `wanted` says: the server adds defaults inside lists, which are no difference."""
    if isinstance(wanted, dict) and isinstance(live, dict):
        return all(_covers(live.get(key), value) for key, value in wanted.items())
    if isinstance(wanted, list) and isinstance(live, list):
        return len(live) == len(wanted) and all(map(_covers, live, wanted))
    return bool(live == wanted)


class Client:
    """Requests to the API server that a kubeconfig names."""

    def __init__(self, kubeconfig: Path) -> None:
        config = yaml.safe_load(kubeconfig.read_text())
        cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
        self.address = urlsplit(cluster["server"])
        self.token = user.get("token", "")
        self.context = ssl.create_default_context(
            cafile=cluster.get("certificate-authority"),
            cadata=_decoded(cluster, "certificate-authority-data"),
        )
        if certificate := _decoded(user, "client-certificate-data"):
            _load_pair(self.context, certificate + "\n" + (_decoded(user, "client-key-data") or ""))
        elif "client-certificate" in user:
            self.context.load_cert_chain(user["client-certificate"], user["client-key"])

    def request(self, method: str, path: str, body: Json | None = None, kind: str = "application/json") -> Json:
        """One request; ApiError when the server refuses, DemoError when it is not there."""
        host, port = self.address.hostname or "", self.address.port or 443
        connection = http.client.HTTPSConnection(host, port, context=self.context, timeout=TIMEOUT_SECONDS)
        headers = {"Accept": "application/json", "Content-Type": kind}
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        try:
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            response = connection.getresponse()
            answer: Json = json.loads(response.read() or b"{}")
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise DemoError(f"{method} {self.address.geturl()}{path}: {error}; is the demo up? flows demo status") from None
        finally:
            connection.close()
        if response.status >= 400:
            raise ApiError(response.status, str(answer.get("message", f"HTTP {response.status}")))
        return answer

    def apply(self, manifest: Manifest) -> tuple[str, Json]:
        """Create or change an object, as `kubectl apply`; what was done (created, configured, unchanged)
        and the object.
        """
        wanted = json.loads(json.dumps(manifest.body))
        text = json.dumps(wanted, sort_keys=True)
        wanted["metadata"].setdefault("annotations", {})[LAST_APPLIED] = text
        try:
            return "created", self.request("POST", manifest.path, wanted)
        except ApiError as error:
            if error.code != 409:
                raise
        path = f"{manifest.path}/{manifest.body['metadata']['name']}"
        live = self.request("GET", path)
        last = json.loads((live["metadata"].get("annotations") or {}).get(LAST_APPLIED, "{}"))
        patch = merge_patch(last, wanted, live)
        if not patch:
            return "unchanged", live
        return "configured", self.request("PATCH", path, patch, "application/merge-patch+json")

    def delete(self, manifest: Manifest) -> None:
        """Delete an object, and in the background what it owns."""
        options = {"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Background"}
        self.request("DELETE", f"{manifest.path}/{manifest.body['metadata']['name']}", options)


def _decoded(row: Json, key: str) -> str | None:
    return base64.b64decode(row[key]).decode() if key in row else None


def _load_pair(context: ssl.SSLContext, pem: str) -> None:
    """Give the client certificate to OpenSSL, which only reads files, without leaving the key in one."""
    fd = os.memfd_create("flows-demo-pem", os.MFD_CLOEXEC)
    try:
        os.write(fd, pem.encode())
        context.load_cert_chain(f"/proc/self/fd/{fd}")
    finally:
        os.close(fd)
