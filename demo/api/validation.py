"""Rules an object must keep, and the 422 causes of those it breaks (`pkg/apis/*/validation`)."""

from __future__ import annotations

import ipaddress
import json
import re
from typing import TYPE_CHECKING, Any

from flows.demo.api.causes import forbidden, immutable, invalid, required, unsupported
from flows.demo.api.cron import parse_schedule

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from flows.demo.api.errors import Cause
    from flows.demo.api.kinds import Kind
from flows.demo.api.names import LABEL, LABEL_TEXT, key_causes, label_causes, name_causes

Json = dict[str, Any]

_POD_UPDATE_TEXT = (
    "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,"
    "`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),"
    "`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)"
)
_SELECTING = ("deployments", "replicasets", "statefulsets", "daemonsets")
_ENUMS: dict[tuple[str, str], tuple[str, ...]] = {
    ("services", "type"): ("ClusterIP", "ExternalName", "LoadBalancer", "NodePort"),
    ("services", "sessionAffinity"): ("ClientIP", "None"),
    ("pods", "restartPolicy"): ("Always", "Never", "OnFailure"),
    ("pods", "dnsPolicy"): ("ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"),
    ("cronjobs", "concurrencyPolicy"): ("Allow", "Forbid", "Replace"),
}


def check_create(kind: Kind, obj: Json) -> list[Cause]:
    """What is wrong with a new object, defaults filled in."""
    return [*_metadata(kind, obj["metadata"]), *_content(kind, obj)]


def check_update(kind: Kind, fresh: Json, old: Json) -> list[Cause]:
    """What is wrong with a change of an object."""
    causes = [*_metadata(kind, fresh["metadata"]), *_content(kind, fresh)]
    before, after = old.get("spec", {}), fresh.get("spec", {})
    if kind.plural in _SELECTING and before.get("selector") != after.get("selector"):
        causes.append(immutable("spec.selector", after.get("selector")))
    if kind.plural == "jobs" and _essence(before.get("template")) != _essence(after.get("template")):
        causes.append(immutable("spec.template", after.get("template")))
    if kind.plural == "pods" and _pod_frozen(before) != _pod_frozen(after, before):
        causes.append(forbidden("spec", _POD_UPDATE_TEXT))
    if kind.plural == "services":
        causes += _service_change(before, after)
    if kind.plural.endswith("rolebindings") and old.get("roleRef") != fresh.get("roleRef"):
        causes.append(invalid("roleRef", fresh.get("roleRef"), "cannot change roleRef"))
    if kind.plural in {"configmaps", "secrets"} and old.get("immutable"):
        causes += [forbidden("data", "field is immutable when `immutable` is set")] * (old.get("data") != fresh.get("data"))
    return causes


def _essence(template: object) -> str:
    return json.dumps(template, sort_keys=True)


def _pod_frozen(spec: Json, before: Json | None = None) -> str:
    """The part of a pod's spec that may not change; a pod without a node may get one."""
    free = ("activeDeadlineSeconds", "tolerations", "terminationGracePeriodSeconds", "schedulingGates")
    frozen = {key: value for key, value in spec.items() if key not in free}
    for name in ("containers", "initContainers"):
        frozen[name] = [{**container, "image": ""} for container in spec.get(name, ())]
    if before is not None and not before.get("nodeName"):
        frozen.pop("nodeName", None)
    return json.dumps(frozen, sort_keys=True)


def _metadata(kind: Kind, metadata: Json) -> Iterator[Cause]:
    name = metadata.get("name", "")
    if not name:
        yield required("metadata.name", "name or generateName is required")
    else:
        yield from name_causes(kind, name)
    yield from label_causes("metadata.labels", metadata.get("labels") or {})
    for key in metadata.get("annotations") or {}:
        yield from key_causes("metadata.annotations", key)
    for position, owner in enumerate(metadata.get("ownerReferences") or ()):
        for field in ("apiVersion", "kind", "name", "uid"):
            if not owner.get(field):
                yield required(f"metadata.ownerReferences[{position}].{field}", "must not be empty")


def _content(kind: Kind, obj: Json) -> Iterator[Cause]:
    spec = obj.get("spec") or {}
    for (plural, field), allowed in _ENUMS.items():
        if plural == kind.plural and spec.get(field) not in {*allowed, None}:
            yield unsupported(f"spec.{field}", spec[field], allowed)
    if kind.plural in _CONTENT:
        yield from _CONTENT[kind.plural](obj, spec)


def _pod(_obj: Json, spec: Json) -> Iterator[Cause]:
    yield from _pod_spec("spec", spec)


def _pod_spec(path: str, spec: Json) -> Iterator[Cause]:
    if not spec.get("containers"):
        yield required(f"{path}.containers")
    seen: set[str] = set()
    for group in ("initContainers", "containers"):
        for position, container in enumerate(spec.get(group) or ()):
            yield from _container(f"{path}.{group}[{position}]", container, seen)


def _container(path: str, container: Json, seen: set[str]) -> Iterator[Cause]:
    name = container.get("name", "")
    if not name:
        yield required(f"{path}.name")
    elif not re.fullmatch(LABEL, name) or len(name) > 63:
        yield invalid(f"{path}.name", name, LABEL_TEXT)
    elif name in seen:
        yield f"{path}.name", "FieldValueDuplicate", f'Duplicate value: "{name}"'
    seen.add(name)
    if not container.get("image"):
        yield required(f"{path}.image")
    for position, port in enumerate(container.get("ports") or ()):
        yield from _port(f"{path}.ports[{position}].containerPort", port.get("containerPort", 0))
        if port["protocol"] not in {"SCTP", "TCP", "UDP"}:
            yield unsupported(f"{path}.ports[{position}].protocol", port["protocol"], ("SCTP", "TCP", "UDP"))


def _port(path: str, number: object) -> Iterator[Cause]:
    if not isinstance(number, int) or not 1 <= number <= 65535:
        yield invalid(path, number, "must be between 1 and 65535, inclusive")


def _workload(_obj: Json, spec: Json) -> Iterator[Cause]:
    selector = spec.get("selector")
    if selector is None:
        yield required("spec.selector")
    elif not selector.get("matchLabels") and not selector.get("matchExpressions"):
        yield invalid("spec.selector", selector, "empty selector is invalid for deployment")
    template = spec["template"]
    labels = template["metadata"].get("labels") or {}
    yield from label_causes("spec.template.metadata.labels", labels)
    wanted = (selector or {}).get("matchLabels") or {}
    if wanted.items() - labels.items():
        yield invalid("spec.template.metadata.labels", labels, "`selector` does not match template `labels`")
    yield from _template("spec.template.spec", template["spec"], ("Always",))
    yield from _not_negative("spec.replicas", spec.get("replicas", 0))


def _template(path: str, spec: Json, restarts: tuple[str, ...]) -> Iterator[Cause]:
    if spec["restartPolicy"] not in restarts:
        yield unsupported(f"{path}.restartPolicy", spec["restartPolicy"], restarts)
    yield from _pod_spec(path, spec)


def _not_negative(path: str, value: int) -> Iterator[Cause]:
    if value < 0:
        yield invalid(path, value, "must be greater than or equal to 0")


def _job(_obj: Json, spec: Json, path: str = "spec") -> Iterator[Cause]:
    for field in ("parallelism", "completions", "backoffLimit"):
        yield from _not_negative(f"{path}.{field}", spec.get(field, 0))
    yield from _template(f"{path}.template.spec", spec["template"]["spec"], ("OnFailure", "Never"))


def _cron_job(_obj: Json, spec: Json) -> Iterator[Cause]:
    schedule = spec.get("schedule", "")
    if not schedule:
        yield required("spec.schedule")
    else:
        try:
            parse_schedule(schedule)
        except ValueError as error:
            yield invalid("spec.schedule", schedule, str(error))
    yield from _job({}, spec["jobTemplate"]["spec"], "spec.jobTemplate.spec")


def _service(_obj: Json, spec: Json) -> Iterator[Cause]:
    ports = spec.get("ports") or ()
    if not ports and spec.get("clusterIP") != "None" and spec["type"] != "ExternalName":
        yield required("spec.ports")
    if spec["type"] == "ExternalName" and not spec.get("externalName"):
        yield required("spec.externalName")
    seen: set[tuple[object, object]] = set()
    for position, port in enumerate(ports):
        path = f"spec.ports[{position}]"
        yield from _port(f"{path}.port", port.get("port", 0))
        if len(ports) > 1 and not port.get("name"):
            yield required(f"{path}.name")
        if port["protocol"] not in {"SCTP", "TCP", "UDP"}:
            yield unsupported(f"{path}.protocol", port["protocol"], ("SCTP", "TCP", "UDP"))
        yield from _target_port(f"{path}.targetPort", port.get("targetPort", 1))
        if (key := (port.get("port"), port["protocol"])) in seen:
            text = json.dumps({"port": key[0], "protocol": key[1]}, separators=(",", ":"))
            yield path, "FieldValueDuplicate", f"Duplicate value: {text}"
        seen.add(key)
    yield from label_causes("spec.selector", spec.get("selector") or {})
    for position, text in enumerate(spec.get("clusterIPs") or ()):
        if text != "None" and not _is_address(text):
            yield invalid(f"spec.clusterIPs[{position}]", text, "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)")


def _target_port(path: str, target: object) -> Iterator[Cause]:
    if isinstance(target, str):
        if not re.fullmatch(LABEL, target) or len(target) > 15 or not re.search("[a-z]", target):
            yield invalid(path, target, "must contain at least one letter (a-z)")
    else:
        yield from _port(path, target)


def _service_change(before: Json, after: Json) -> Iterator[Cause]:
    old, new = before.get("clusterIPs") or [], after.get("clusterIPs") or []
    if "ExternalName" in {before.get("type"), after.get("type")} or not old:
        return
    if new[:1] != old[:1]:
        yield invalid("spec.clusterIPs[0]", new, "may not change once set")


def _is_address(text: object) -> bool:
    try:
        ipaddress.ip_address(str(text))
    except ValueError:
        return False
    return True


def _endpoint_slice(obj: Json, _spec: Json) -> Iterator[Cause]:
    allowed = ("FQDN", "IPv4", "IPv6")
    if not obj.get("addressType"):
        yield required("addressType")
    elif obj["addressType"] not in allowed:
        yield unsupported("addressType", obj["addressType"], allowed)
    for position, endpoint in enumerate(obj["endpoints"]):
        if not endpoint.get("addresses"):
            yield required(f"endpoints[{position}].addresses", "must contain at least 1 address")


def _binding(obj: Json, _spec: Json) -> Iterator[Cause]:
    reference = obj["roleRef"]
    if not reference.get("name"):
        yield required("roleRef.name")
    if reference.get("kind") not in {"Role", "ClusterRole"}:
        yield unsupported("roleRef.kind", reference.get("kind", ""), ("Role", "ClusterRole"))


_CONTENT: dict[str, Callable[[Json, Json], Iterator[Cause]]] = {
    "pods": _pod,
    **dict.fromkeys(_SELECTING, _workload),
    "jobs": _job,
    "cronjobs": _cron_job,
    "services": _service,
    "endpointslices": _endpoint_slice,
    "rolebindings": _binding,
    "clusterrolebindings": _binding,
}
