"""The table of kinds the demo cluster serves: one row per resource."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Kind:
    """One resource: names, group and version, and what it supports."""

    plural: str
    kind: str
    group: str = ""
    version: str = "v1"
    namespaced: bool = True
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    subresources: tuple[str, ...] = ()
    generation: bool = False
    """Whether `metadata.generation` counts changes of the desired state."""
    label_name: bool = False
    """Whether names are DNS labels (RFC 1123) instead of DNS subdomains."""

    @property
    def api_version(self) -> str:
        """`v1` or `apps/v1`: what objects say in `apiVersion`."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def qualified(self) -> str:
        """`pods` or `deployments.apps`: what error messages call the resource."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    @property
    def singular(self) -> str:
        """Lower-case kind, as in discovery."""
        return self.kind.lower()

    @property
    def has_status(self) -> bool:
        """Whether `status` is written through its own subresource only."""
        return "status" in self.subresources


_ALL = ("all",)
_STATUS = ("status",)
_SCALED = ("status", "scale")
_RBAC = "rbac.authorization.k8s.io"

KINDS: tuple[Kind, ...] = (
    Kind("configmaps", "ConfigMap", short_names=("cm",)),
    Kind("endpoints", "Endpoints", short_names=("ep",)),
    Kind("events", "Event", short_names=("ev",)),
    Kind("namespaces", "Namespace", namespaced=False, short_names=("ns",), subresources=_STATUS, label_name=True),
    Kind("nodes", "Node", namespaced=False, short_names=("no",), subresources=_STATUS),
    Kind("pods", "Pod", short_names=("po",), categories=_ALL, subresources=("status", "portforward"), generation=True),
    Kind("secrets", "Secret"),
    Kind("serviceaccounts", "ServiceAccount", short_names=("sa",), subresources=("token",)),
    Kind("services", "Service", short_names=("svc",), categories=_ALL, subresources=_STATUS, label_name=True),
    Kind("daemonsets", "DaemonSet", "apps", "v1", True, ("ds",), _ALL, _STATUS, True),
    Kind("deployments", "Deployment", "apps", "v1", True, ("deploy",), _ALL, _SCALED, True),
    Kind("replicasets", "ReplicaSet", "apps", "v1", True, ("rs",), _ALL, _SCALED, True),
    Kind("statefulsets", "StatefulSet", "apps", "v1", True, ("sts",), _ALL, _SCALED, True),
    Kind("cronjobs", "CronJob", "batch", "v1", True, ("cj",), _ALL, _STATUS, True),
    Kind("jobs", "Job", "batch", "v1", True, (), _ALL, _STATUS, True),
    Kind("networkpolicies", "NetworkPolicy", "networking.k8s.io", "v1", True, ("netpol",), generation=True),
    Kind("clusterrolebindings", "ClusterRoleBinding", _RBAC, "v1", False),
    Kind("clusterroles", "ClusterRole", _RBAC, "v1", False),
    Kind("rolebindings", "RoleBinding", _RBAC, "v1"),
    Kind("roles", "Role", _RBAC, "v1"),
    Kind("leases", "Lease", "coordination.k8s.io", "v1"),
    Kind("endpointslices", "EndpointSlice", "discovery.k8s.io", "v1", generation=True),
)

REVIEWS: tuple[Kind, ...] = (
    Kind("selfsubjectreviews", "SelfSubjectReview", "authentication.k8s.io", "v1", False),
    Kind("tokenreviews", "TokenReview", "authentication.k8s.io", "v1", False),
    Kind("localsubjectaccessreviews", "LocalSubjectAccessReview", "authorization.k8s.io", "v1"),
    Kind("selfsubjectaccessreviews", "SelfSubjectAccessReview", "authorization.k8s.io", "v1", False),
    Kind("subjectaccessreviews", "SubjectAccessReview", "authorization.k8s.io", "v1", False),
)
"""Questions to the API: created, answered and never stored."""

TOKEN_REQUEST = Kind("tokenrequests", "TokenRequest", "authentication.k8s.io", "v1")
"""What is created at a ServiceAccount's subresource; it has no URL of its own."""

BY_PLURAL: dict[str, Kind] = {kind.plural: kind for kind in KINDS}
BY_TYPE: dict[tuple[str, str], Kind] = {(kind.api_version, kind.kind): kind for kind in KINDS}


def kind_of(plural: str) -> Kind:
    """The row of a stored resource. KeyError names the resource when the demo does not serve it."""
    return BY_PLURAL[plural]


def find(group: str, version: str, plural: str) -> Kind | None:
    """The row, stored or review, behind a URL; None when there is none."""
    for kind in (*KINDS, *REVIEWS):
        if (kind.group, kind.version, kind.plural) == (group, version, plural):
            return kind
    return None


def groups() -> dict[str, str]:
    """Named API groups and their one version, in the table's order."""
    return {kind.group: kind.version for kind in (*KINDS, *REVIEWS) if kind.group}
