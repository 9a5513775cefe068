"""Which lists of which types are merged item by item, and by what key.

These are the `patchMergeKey`, `patchStrategy` and `listMapKey` marks of the Kubernetes types served here; lists not in
the table are replaced as a whole.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ListMerge:
    """How one list merges: `patch_key` for strategic patches, `keys` for server-side apply (none: a set of scalars)."""

    patch_key: str = ""
    keys: tuple[str, ...] = ()
    retain_keys: bool = False


def _by(*keys: str, retain_keys: bool = False) -> ListMerge:
    return ListMerge(keys[0], keys, retain_keys)


_SET = ListMerge()
_CONTAINER = {
    "ports": _by("containerPort", "protocol"),
    "env": _by("name"),
    "volumeMounts": _by("mountPath"),
    "volumeDevices": _by("devicePath"),
}
_CONDITIONS = {"conditions": _by("type")}

LISTS: dict[str, dict[str, ListMerge]] = {
    "ObjectMeta": {"ownerReferences": _by("uid"), "finalizers": _SET},
    "PodSpec": {
        "containers": _by("name"),
        "initContainers": _by("name"),
        "ephemeralContainers": _by("name"),
        "volumes": _by("name", retain_keys=True),
        "imagePullSecrets": _by("name"),
        "hostAliases": _by("ip"),
        "topologySpreadConstraints": _by("topologyKey", "whenUnsatisfiable"),
        "schedulingGates": _by("name"),
        "resourceClaims": _by("name", retain_keys=True),
    },
    "Container": _CONTAINER,
    "EphemeralContainer": _CONTAINER,
    "PodStatus": _CONDITIONS | {"podIPs": _by("ip")},
    "ServiceSpec": {"ports": _by("port", "protocol")},
    "ServiceStatus": _CONDITIONS,
    "NodeSpec": {"podCIDRs": _SET},
    "NodeStatus": _CONDITIONS | {"addresses": _by("type")},
    "ServiceAccount": {"secrets": _by("name")},
    "DeploymentStatus": _CONDITIONS,
    "ReplicaSetStatus": _CONDITIONS,
    "StatefulSetStatus": _CONDITIONS,
    "DaemonSetStatus": _CONDITIONS,
    "JobStatus": _CONDITIONS,
    "NamespaceStatus": _CONDITIONS,
}

RETAIN_KEYS: frozenset[tuple[str, str]] = frozenset({("DeploymentSpec", "strategy")})
"""Maps of which a strategic patch may say (`$retainKeys`) that all other keys go."""


def list_merge(type_name: str, field: str) -> ListMerge | None:
    """How the list `field` of a type merges; None when it is replaced as a whole."""
    return LISTS.get(type_name, {}).get(field)
