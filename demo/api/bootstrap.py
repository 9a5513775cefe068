"""What every cluster has from the start: its namespaces and the roles of RBAC."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flows.demo.api.errors import StatusError

if TYPE_CHECKING:
    from flows.demo.api.storage import Storage

Json = dict[str, Any]
NAMESPACES = ("default", "kube-node-lease", "kube-public", "kube-system")
_INFO_PATHS = ["/healthz", "/livez", "/readyz", "/version", "/version/"]
_DISCOVERY_PATHS = ["/api", "/api/*", "/apis", "/apis/*", "/openapi", "/openapi/*", *_INFO_PATHS]
_SELF_REVIEWS: Json = {
    "verbs": ["create"],
    "apiGroups": ["authorization.k8s.io", "authentication.k8s.io"],
    "resources": ["selfsubjectaccessreviews", "selfsubjectreviews"],
}
_DELEGATOR = [
    {"verbs": ["create"], "apiGroups": ["authentication.k8s.io"], "resources": ["tokenreviews"]},
    {"verbs": ["create"], "apiGroups": ["authorization.k8s.io"], "resources": ["subjectaccessreviews"]},
]
_ANY_RESOURCE: Json = {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}
_READABLE: Json = {
    "verbs": ["get", "list", "watch"],
    "apiGroups": ["", "apps", "batch", "networking.k8s.io", "discovery.k8s.io"],
    "resources": [
        *("configmaps", "endpoints", "events", "namespaces", "pods", "pods/status", "serviceaccounts", "services"),
        *("daemonsets", "deployments", "replicasets", "statefulsets", "cronjobs", "jobs", "networkpolicies"),
        *("endpointslices", "deployments/scale", "replicasets/scale", "statefulsets/scale"),
    ],
}
ROLES: dict[str, list[Json]] = {
    "cluster-admin": [_ANY_RESOURCE, {"verbs": ["*"], "nonResourceURLs": ["*"]}],
    "system:auth-delegator": _DELEGATOR,
    "system:basic-user": [_SELF_REVIEWS],
    "system:discovery": [{"verbs": ["get"], "nonResourceURLs": _DISCOVERY_PATHS}],
    "system:public-info-viewer": [{"verbs": ["get"], "nonResourceURLs": _INFO_PATHS}],
    "view": [_READABLE],
}
"""Cluster roles and their rules, as the real server makes them on its first start."""
BINDINGS: dict[str, tuple[str, ...]] = {
    "cluster-admin": ("system:masters",),
    "system:basic-user": ("system:authenticated",),
    "system:discovery": ("system:authenticated",),
    "system:public-info-viewer": ("system:authenticated", "system:unauthenticated"),
}
_LABELS = {"kubernetes.io/bootstrapping": "rbac-defaults"}
_RBAC = "rbac.authorization.k8s.io"


def bootstrap(storage: Storage) -> None:
    """Create what is missing; calling it again changes nothing."""
    for name in NAMESPACES:
        _ensure(storage, "namespaces", {"metadata": {"name": name}})
    for name, rules in ROLES.items():
        _ensure(storage, "clusterroles", {"metadata": {"name": name, "labels": _LABELS}, "rules": rules})
    for name, groups in BINDINGS.items():
        subjects = [{"kind": "Group", "apiGroup": _RBAC, "name": group} for group in groups]
        role = {"apiGroup": _RBAC, "kind": "ClusterRole", "name": name}
        binding = {"metadata": {"name": name, "labels": _LABELS}, "subjects": subjects, "roleRef": role}
        _ensure(storage, "clusterrolebindings", binding)


def _ensure(storage: Storage, resource: str, obj: Json) -> None:
    try:
        storage.create(resource, obj)
    except StatusError as error:
        if error.reason != "AlreadyExists":
            raise
