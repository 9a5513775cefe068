"""Values the API fills in: what a user sees who writes less than everything (`pkg/apis/*/v1/defaults.go`)."""

from __future__ import annotations

import base64
from typing import Any

Json = dict[str, Any]

_CONTAINER = {"terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File"}
_PROBE = {"timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3}
_POD_SPEC: Json = {
    "restartPolicy": "Always",
    "terminationGracePeriodSeconds": 30,
    "dnsPolicy": "ClusterFirst",
    "securityContext": {},
    "schedulerName": "default-scheduler",
}
_POD_ONLY: Json = {
    "serviceAccountName": "default",
    "priority": 0,
    "enableServiceLinks": True,
    "preemptionPolicy": "PreemptLowerPriority",
}
_ROLLING = {"maxUnavailable": "25%", "maxSurge": "25%"}
_DEFAULT_MODE = 0o644
_NODE_INFO = (
    "machineID",
    "systemUUID",
    "bootID",
    "kernelVersion",
    "osImage",
    "containerRuntimeVersion",
    "kubeletVersion",
    "kubeProxyVersion",
    "operatingSystem",
    "architecture",
)
_MODED_VOLUMES = ("configMap", "secret", "projected", "downwardAPI")


def fill(target: Json, values: Json) -> Json:
    """Set what is absent; values are copied one level deep so that tables are never shared."""
    for key, value in values.items():
        if key not in target:
            target[key] = dict(value) if isinstance(value, dict) else value
    return target


def apply_defaults(plural: str, obj: Json) -> None:
    """Fill in an object (its own copy) of a resource, before validation."""
    if plural in _BY_RESOURCE:
        _BY_RESOURCE[plural](obj)


def _spec(obj: Json) -> Json:
    spec: Json = obj.setdefault("spec", {})
    return spec


def _container(container: Json, *, host_network: bool) -> None:
    fill(container, _CONTAINER)
    container.setdefault("resources", {})
    image = str(container.get("image", "")).rsplit("/", 1)[-1]
    latest = ":" not in image or image.endswith(":latest")
    container.setdefault("imagePullPolicy", "Always" if latest and "@" not in image else "IfNotPresent")
    for port in container.get("ports", ()):
        port.setdefault("protocol", "TCP")
        if host_network and "containerPort" in port:
            port.setdefault("hostPort", port["containerPort"])
    for name in ("livenessProbe", "readinessProbe", "startupProbe"):
        if name in container:
            _probe(container[name])
    for variable in container.get("env", ()):
        reference = variable.get("valueFrom", {}).get("fieldRef")
        if reference is not None:
            reference.setdefault("apiVersion", "v1")


def _probe(probe: Json) -> None:
    fill(probe, _PROBE)
    if "httpGet" in probe:
        fill(probe["httpGet"], {"path": "/", "scheme": "HTTP"})


def _pod_spec(spec: Json) -> None:
    fill(spec, _POD_SPEC)
    host_network = bool(spec.get("hostNetwork"))
    for container in [*spec.get("containers", ()), *spec.get("initContainers", ())]:
        _container(container, host_network=host_network)
    for volume in spec.get("volumes", ()):
        for source in _MODED_VOLUMES:
            if source in volume:
                volume[source].setdefault("defaultMode", _DEFAULT_MODE)


def _template(spec: Json) -> None:
    template = spec.setdefault("template", {})
    template.setdefault("metadata", {})
    _pod_spec(template.setdefault("spec", {}))


def _pod(obj: Json) -> None:
    spec = _spec(obj)
    _pod_spec(spec)
    fill(spec, _POD_ONLY)
    spec.setdefault("serviceAccount", spec["serviceAccountName"])
    status = obj.setdefault("status", {})
    fill(status, {"phase": "Pending", "qosClass": qos_class(spec)})
    for condition in status.get("conditions", ()):
        fill(condition, {"lastProbeTime": None, "lastTransitionTime": None})


def qos_class(spec: Json) -> str:
    """`Guaranteed`, `Burstable` or `BestEffort`, from the containers' requests and limits of CPU and memory."""
    resources = [container.get("resources", {}) for container in spec.get("containers", ())]
    if not any(entry.get("requests") or entry.get("limits") for entry in resources):
        return "BestEffort"
    for entry in resources:
        limits, requests = entry.get("limits") or {}, entry.get("requests") or {}
        if not {"cpu", "memory"} <= limits.keys() or any(requests.get(k, v) != v for k, v in limits.items()):
            return "Burstable"
    return "Guaranteed"


def _deployment(obj: Json) -> None:
    spec = _spec(obj)
    fill(spec, {"replicas": 1, "revisionHistoryLimit": 10, "progressDeadlineSeconds": 600})
    strategy = spec.setdefault("strategy", {})
    if strategy.setdefault("type", "RollingUpdate") == "RollingUpdate":
        fill(strategy.setdefault("rollingUpdate", {}), _ROLLING)
    _template(spec)
    obj.setdefault("status", {})


def _replica_set(obj: Json) -> None:
    spec = _spec(obj)
    spec.setdefault("replicas", 1)
    _template(spec)
    fill(obj.setdefault("status", {}), {"replicas": 0})


def _stateful_set(obj: Json) -> None:
    spec = _spec(obj)
    fill(spec, {"replicas": 1, "podManagementPolicy": "OrderedReady", "revisionHistoryLimit": 10})
    fill(spec, {"persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Retain", "whenScaled": "Retain"}})
    strategy = spec.setdefault("updateStrategy", {})
    if strategy.setdefault("type", "RollingUpdate") == "RollingUpdate":
        strategy.setdefault("rollingUpdate", {}).setdefault("partition", 0)
    _template(spec)
    fill(obj.setdefault("status", {}), {"replicas": 0, "availableReplicas": 0})


def _daemon_set(obj: Json) -> None:
    spec = _spec(obj)
    strategy = spec.setdefault("updateStrategy", {})
    if strategy.setdefault("type", "RollingUpdate") == "RollingUpdate":
        fill(strategy.setdefault("rollingUpdate", {}), {"maxUnavailable": 1, "maxSurge": 0})
    spec.setdefault("revisionHistoryLimit", 10)
    _template(spec)
    counts = ("currentNumberScheduled", "numberMisscheduled", "desiredNumberScheduled", "numberReady")
    fill(obj.setdefault("status", {}), dict.fromkeys(counts, 0))


def _job_spec(spec: Json) -> None:
    if "parallelism" not in spec and "completions" not in spec:
        spec["completions"] = 1
    fill(spec, {"parallelism": 1, "backoffLimit": 6, "completionMode": "NonIndexed", "suspend": False})
    fill(spec, {"podReplacementPolicy": "TerminatingOrFailed", "manualSelector": False})
    _template(spec)


def _job(obj: Json) -> None:
    spec = _spec(obj)
    _job_spec(spec)
    if not spec["manualSelector"] and "uid" in obj["metadata"] and "selector" not in spec:
        uid, name = obj["metadata"]["uid"], obj["metadata"]["name"]
        spec["selector"] = {"matchLabels": {"batch.kubernetes.io/controller-uid": uid}}
        labels = spec["template"]["metadata"].setdefault("labels", {})
        labels |= {"batch.kubernetes.io/controller-uid": uid, "batch.kubernetes.io/job-name": name}
        labels |= {"controller-uid": uid, "job-name": name}
    obj.setdefault("status", {})


def _cron_job(obj: Json) -> None:
    spec = _spec(obj)
    fill(spec, {"concurrencyPolicy": "Allow", "suspend": False})
    fill(spec, {"successfulJobsHistoryLimit": 3, "failedJobsHistoryLimit": 1})
    template = spec.setdefault("jobTemplate", {})
    template.setdefault("metadata", {})
    _template(template.setdefault("spec", {}))
    obj.setdefault("status", {})


def _service(obj: Json) -> None:
    spec = _spec(obj)
    fill(spec, {"type": "ClusterIP", "sessionAffinity": "None"})
    for port in spec.get("ports", ()):
        port.setdefault("protocol", "TCP")
        if spec["type"] != "ExternalName":
            port.setdefault("targetPort", port.get("port", 0))
    if spec["type"] != "ExternalName":
        spec.setdefault("internalTrafficPolicy", "Cluster")
    if spec["type"] in {"NodePort", "LoadBalancer"}:
        spec.setdefault("externalTrafficPolicy", "Cluster")
    if spec["type"] == "LoadBalancer":
        spec.setdefault("allocateLoadBalancerNodePorts", True)
    if spec["sessionAffinity"] == "ClientIP":
        spec.setdefault("sessionAffinityConfig", {"clientIP": {"timeoutSeconds": 10800}})
    obj.setdefault("status", {"loadBalancer": {}})


def _namespace(obj: Json) -> None:
    obj["metadata"].setdefault("labels", {})["kubernetes.io/metadata.name"] = obj["metadata"].get("name", "")
    _spec(obj).setdefault("finalizers", ["kubernetes"])
    obj.setdefault("status", {}).setdefault("phase", "Active")


def _node(obj: Json) -> None:
    _spec(obj)
    status = obj.setdefault("status", {})
    fill(status, {"daemonEndpoints": {"kubeletEndpoint": {"Port": 0}}, "nodeInfo": {}})
    fill(status["nodeInfo"], dict.fromkeys(_NODE_INFO, ""))


def _network_policy(obj: Json) -> None:
    spec = _spec(obj)
    spec.setdefault("podSelector", {})
    spec.setdefault("policyTypes", ["Ingress", "Egress"] if spec.get("egress") else ["Ingress"])
    for rule in [*spec.get("ingress", ()), *spec.get("egress", ())]:
        for port in rule.get("ports", ()):
            port.setdefault("protocol", "TCP")


def _endpoint_slice(obj: Json) -> None:
    for port in obj.setdefault("ports", []):
        fill(port, {"name": "", "protocol": "TCP"})
    obj.setdefault("endpoints", [])


def _secret(obj: Json) -> None:
    obj.setdefault("type", "Opaque")
    for key, text in obj.pop("stringData", {}).items():
        obj.setdefault("data", {})[key] = base64.b64encode(text.encode()).decode()


def _binding(obj: Json) -> None:
    group = "rbac.authorization.k8s.io"
    obj.setdefault("roleRef", {}).setdefault("apiGroup", group)
    for subject in obj.get("subjects", ()):
        if subject.get("kind") in {"User", "Group"}:
            subject.setdefault("apiGroup", group)


_BY_RESOURCE = {
    "pods": _pod,
    "deployments": _deployment,
    "replicasets": _replica_set,
    "statefulsets": _stateful_set,
    "daemonsets": _daemon_set,
    "jobs": _job,
    "cronjobs": _cron_job,
    "services": _service,
    "namespaces": _namespace,
    "nodes": _node,
    "networkpolicies": _network_policy,
    "endpointslices": _endpoint_slice,
    "secrets": _secret,
    "rolebindings": _binding,
    "clusterrolebindings": _binding,
}
