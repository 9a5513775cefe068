"""A pod's volumes: directories on the machine that are bound into its containers."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.demo.node.podspec import MissingObjectError, pick_items

if TYPE_CHECKING:
    from collections.abc import Callable

    from flows.demo.node.podspec import PodContext

Json = dict[str, Any]
Mount = tuple[str, str, bool]  # path on the machine, path in the container, read-only
# What the ServiceAccount admission plugin adds to every pod.
ACCOUNT_VOLUME, ACCOUNT_PATH = "kube-api-access", "/var/run/secrets/kubernetes.io/serviceaccount"


def volume_files(volume: Json, ctx: PodContext, token: Callable[[], dict[str, str]]) -> dict[str, str] | None:
    """Content of a volume as path -> text; None when it brings no files of its own.

    `token` gives the files of the pod's service account (token, ca.crt, namespace).
    """
    if source := volume.get("configMap"):
        data = ctx.data("configmaps", source["name"], optional=bool(source.get("optional")))
        return pick_items(data, source.get("items"), f'configmap "{source["name"]}"')
    if source := volume.get("secret"):
        data = ctx.data("secrets", source["secretName"], optional=bool(source.get("optional")))
        return pick_items(data, source.get("items"), f'secret "{source["secretName"]}"')
    if source := volume.get("downwardAPI"):
        return {item["path"]: ctx.field(item["fieldRef"]["fieldPath"]) for item in source.get("items") or []}
    if source := volume.get("projected"):
        files: dict[str, str] = {}
        for part in source.get("sources") or []:
            files |= _projected(part, ctx, token)
        return files
    return None


def _projected(part: Json, ctx: PodContext, token: Callable[[], dict[str, str]]) -> dict[str, str]:
    if source := part.get("serviceAccountToken"):
        return {source["path"]: token()["token"]}
    if source := part.get("secret"):
        part = {"secret": {**source, "secretName": source["name"]}}
    return volume_files(part, ctx, token) or {}


def prepare(base: Path, ctx: PodContext, token: Callable[[], dict[str, str]]) -> dict[str, Path]:
    """Make the pod's volumes below `base`; name -> directory (or, for hostPath, the path itself).

    Raises MissingObjectError when the API does not have what a volume names.
    """
    made: dict[str, Path] = {}
    if ctx.pod["spec"].get("automountServiceAccountToken") is not False:
        made[ACCOUNT_VOLUME] = base / ACCOUNT_VOLUME
        _write_files(made[ACCOUNT_VOLUME], token())
    for volume in ctx.pod["spec"].get("volumes") or []:
        if host := volume.get("hostPath"):
            made[volume["name"]] = _host_path(host)
            continue
        directory = base / volume["name"]
        directory.mkdir(parents=True, exist_ok=True)
        directory.chmod(0o777 if "emptyDir" in volume else 0o755)
        _write_files(directory, volume_files(volume, ctx, token) or {})
        made[volume["name"]] = directory
    return made


def _host_path(source: Json) -> Path:
    path = Path(source["path"])
    if source.get("type") == "DirectoryOrCreate":
        path.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        raise MissingObjectError(f"hostPath {path} does not exist on this machine")
    return path


def _write_files(directory: Path, files: dict[str, str]) -> None:
    """Write the files of a volume; a name that would leave the volume is refused."""
    for name, text in files.items():
        target = Path(os.path.normpath(directory / name))
        if not target.is_relative_to(directory):
            raise MissingObjectError(f"path {name!r} leads out of its volume")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, errors="surrogateescape")
        target.chmod(0o644)


def mounts(container: Json, volumes: dict[str, Path]) -> list[Mount]:
    """The volumes a container mounts, parents before what lies below them."""
    found: list[Mount] = []
    for mount in container.get("volumeMounts") or []:
        if mount["name"] not in volumes:
            raise MissingObjectError(f'volume "{mount["name"]}" is not in the pod')
        source = volumes[mount["name"]]
        if mount.get("subPath"):
            source = source / mount["subPath"].lstrip("/")
            if not source.exists():
                source.mkdir(parents=True)
        found.append((os.fspath(source), os.path.normpath(mount["mountPath"]), bool(mount.get("readOnly"))))
    if ACCOUNT_VOLUME in volumes and all(mount[1] != ACCOUNT_PATH for mount in found):
        found.append((os.fspath(volumes[ACCOUNT_VOLUME]), ACCOUNT_PATH, True))
    return sorted(found, key=lambda mount: mount[1])
