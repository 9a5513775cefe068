"""What a pod's spec means for its containers: environment, files, volumes and DNS settings, as a kubelet
works them out.
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flows.demo import layout

if TYPE_CHECKING:
    from collections.abc import Callable

Json = dict[str, Any]

REFERENCE = re.compile(r"\$\$|\$\(([A-Za-z_.-][A-Za-z0-9_.-]*)\)")
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class MissingObjectError(Exception):
    """A ConfigMap, Secret or key that the pod names does not exist (yet)."""


@dataclass(frozen=True, slots=True)
class PodContext:
    """What a pod's fields refer to: the Pod object, its addresses, its node, and the API to look things up."""

    pod: Json
    addresses: list[str]
    node: layout.NodeLayout
    lookup: Callable[[str, str, str], Json | None]

    @property
    def namespace(self) -> str:
        return str(self.pod["metadata"]["namespace"])

    @property
    def hostname(self) -> str:
        spec = self.pod["spec"]
        return str(self.node.name if spec.get("hostNetwork") else spec.get("hostname") or self.pod["metadata"]["name"])

    def data(self, resource: str, name: str, *, optional: bool = False) -> dict[str, str]:
        """Keys and texts of a ConfigMap or Secret; MissingObjectError if it does not exist."""
        found = self.lookup(resource, self.namespace, name)
        if found is None:
            if optional:
                return {}
            raise MissingObjectError(f'{resource[:-1]} "{name}" not found')
        if resource == "secrets":
            decoded = {k: base64.b64decode(v).decode(errors="surrogateescape") for k, v in (found.get("data") or {}).items()}
            return decoded | (found.get("stringData") or {})
        return dict(found.get("data") or {})

    def field(self, path: str) -> str:
        """A value of the downward API (`metadata.name`, `status.podIP`, `metadata.labels['x']`, ...)."""
        simple = {
            "metadata.name": self.pod["metadata"]["name"],
            "metadata.namespace": self.namespace,
            "metadata.uid": self.pod["metadata"]["uid"],
            "spec.nodeName": self.node.name,
            "spec.serviceAccountName": self.pod["spec"].get("serviceAccountName", "default"),
            "status.hostIP": self.node.address,
            "status.hostIPs": f"{self.node.address},{self.node.address6}",
            "status.podIP": self.addresses[0],
            "status.podIPs": ",".join(self.addresses),
        }
        if path in simple:
            return str(simple[path])
        keyed = re.fullmatch(r"metadata\.(labels|annotations)(?:\['(.+)'\])?", path)
        if keyed is None:
            raise MissingObjectError(f"fieldPath {path!r} is not one of {', '.join(simple)}, metadata.labels['KEY']")
        values: dict[str, str] = self.pod["metadata"].get(keyed[1]) or {}
        if keyed[2]:
            return values.get(keyed[2], "")
        return "".join(f'{k}="{v}"\n' for k, v in sorted(values.items()))


def expand(text: str, env: dict[str, str]) -> str:
    """Kubernetes' `$(NAME)` references: unknown names stay as written, `$$` is one dollar sign."""

    def value(match: re.Match[str]) -> str:
        if match[0] == "$$":
            return "$"
        return env.get(match[1], match[0])

    return REFERENCE.sub(value, text)


def environment(container: Json, ctx: PodContext) -> dict[str, str]:
    """A container's environment: the runtime's and the cluster's variables, envFrom, then env."""
    env = {
        "PATH": PATH,
        "HOME": "/root",
        "HOSTNAME": ctx.hostname,
        "KUBERNETES_SERVICE_HOST": layout.KUBERNETES_SERVICE,
        "KUBERNETES_SERVICE_PORT": "443",
    }
    for source in container.get("envFrom") or []:
        for key, resource in (("configMapRef", "configmaps"), ("secretRef", "secrets")):
            if ref := source.get(key):
                data = ctx.data(resource, ref["name"], optional=bool(ref.get("optional")))
                env.update({source.get("prefix", "") + k: v for k, v in data.items()})
    for item in container.get("env") or []:
        value = _env_value(item, env, ctx)
        if value is not None:
            env[item["name"]] = value
    return env


def _env_value(item: Json, env: dict[str, str], ctx: PodContext) -> str | None:
    source = item.get("valueFrom")
    if not source:
        return expand(str(item.get("value", "")), env)
    if ref := source.get("fieldRef"):
        return ctx.field(ref["fieldPath"])
    for key, resource in (("configMapKeyRef", "configmaps"), ("secretKeyRef", "secrets")):
        if ref := source.get(key):
            optional = bool(ref.get("optional"))
            data = ctx.data(resource, ref["name"], optional=optional)
            if ref["key"] not in data and not optional:
                raise MissingObjectError(f'{resource[:-1]} "{ref["name"]}" has no key "{ref["key"]}"')
            return data.get(ref["key"])
    return ""  # resourceFieldRef: nothing is limited here


def resolv_conf(ctx: PodContext) -> str | None:
    """The pod's /etc/resolv.conf by its dnsPolicy; None for the machine's own."""
    spec = ctx.pod["spec"]
    policy = spec.get("dnsPolicy", "ClusterFirst")
    config = spec.get("dnsConfig") or {}
    servers, searches, options = list(config.get("nameservers") or []), list(config.get("searches") or []), {}
    if policy == "Default" or (policy == "ClusterFirst" and spec.get("hostNetwork")):
        return None
    if policy != "None":
        servers = [layout.DNS_SERVICE, *servers]
        cluster = [f"{ctx.namespace}.svc.{layout.DOMAIN}", f"svc.{layout.DOMAIN}", layout.DOMAIN]
        searches = [*cluster, *searches]
        options = {"ndots": "5"}
    options |= {o["name"]: str(o.get("value", "")) for o in config.get("options") or []}
    words = [f"{k}:{v}" if v else k for k, v in options.items()]
    lines = [f"search {' '.join(searches)}"] if searches else []
    lines += [f"nameserver {server}" for server in servers]
    lines += [f"options {' '.join(words)}"] if words else []
    return "\n".join(lines) + "\n"


def hosts_file(ctx: PodContext) -> str:
    """The pod's /etc/hosts, as the kubelet writes it."""
    spec, name = ctx.pod["spec"], ctx.hostname
    if spec.get("subdomain"):
        name = f"{name}.{spec['subdomain']}.{ctx.namespace}.svc.{layout.DOMAIN}\t{name}"
    lines = [
        "# Kubernetes-managed hosts file.",
        "127.0.0.1\tlocalhost",
        "::1\tlocalhost ip6-localhost ip6-loopback",
    ]
    lines += [f"{address}\t{name}" for address in ctx.addresses]
    lines += ["\t".join([alias["ip"], *alias["hostnames"]]) for alias in spec.get("hostAliases") or []]
    return "\n".join(lines) + "\n"


def etc_files(ctx: PodContext) -> dict[str, str]:
    """The files below /etc that every container of the pod gets."""
    files = {"/etc/hostname": ctx.hostname + "\n", "/etc/hosts": hosts_file(ctx)}
    resolv = resolv_conf(ctx)
    return files if resolv is None else files | {"/etc/resolv.conf": resolv}


def pick_items(data: dict[str, str], items: list[Json] | None, source: str) -> dict[str, str]:
    """The `items` of a volume source as path -> text; all keys when there are none."""
    if not items:
        return data
    for item in items:
        if item["key"] not in data:
            raise MissingObjectError(f'{source} has no key "{item["key"]}"')
    return {item["path"]: data[item["key"]] for item in items}
