"""From a container of a pod to what enter.py is told: program, environment, root, mounts, user."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.demo.node import image, podspec, volumes

if TYPE_CHECKING:
    from flows.demo.node.podspec import PodContext

Json = dict[str, Any]
# Empty places of their own for what programs write to; mount points inside the container.
TMPFS = ["/run", "/tmp", "/var/log", "/var/lib/nginx"]  # noqa: S108


class UnknownImageError(Exception):
    """No program of this machine stands for an image, and the container gives no command."""


def installation(reference: str) -> list[tuple[str, str, bool]]:
    """Mounts that show a container of our own image this installation, where a tmpfs would hide it: a checkout below /tmp."""
    known = image.lookup(reference)
    if known is None or not known.program:
        return []
    folders = {Path(sys.prefix), Path(__file__).resolve().parents[2]}
    hidden = {folder for folder in folders if any(folder.is_relative_to(place) for place in TMPFS)}
    outermost = sorted(folder for folder in hidden if hidden.isdisjoint(folder.parents))
    return [(os.fspath(folder), os.fspath(folder), True) for folder in outermost]


def resolve(spec: Json, ctx: PodContext, made: dict[str, Path], base: Path) -> Json:
    """The part of an enter.py spec that follows from a container's spec.

    `made` are the pod's volumes, `base` an empty directory. Raises UnknownImageError, or MissingObjectError for
    what the API does not have (yet).
    """
    env = podspec.environment(spec, ctx)
    command, args = ([podspec.expand(word, env) for word in spec.get(key) or []] for key in ("command", "args"))
    argv = image.command_line(spec["image"], command, args)
    if argv is None:
        known = ", ".join(image.TABLE)
        raise UnknownImageError(f'image "{spec["image"]}" is unknown: give a command, or use one of {known}')
    security = {**(ctx.pod["spec"].get("securityContext") or {}), **(spec.get("securityContext") or {})}
    return {
        "root": {
            "base": os.fspath(base),
            "files": {**image.files(spec["image"]), **podspec.etc_files(ctx)},
            "mounts": [*volumes.mounts(spec, made), *installation(spec["image"])],
            "tmpfs": TMPFS,
        },
        "hostname": ctx.hostname,
        "workdir": spec.get("workingDir"),
        "uid": security.get("runAsUser"),
        "gid": security.get("runAsGroup", security.get("runAsUser")),
        "argv": argv,
        "env": env,
    }
