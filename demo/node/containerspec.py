"""From a container of a pod to what enter.py is told: program, environment, root, mounts, user."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from flows.demo.node import image, podspec, volumes

if TYPE_CHECKING:
    from pathlib import Path

    from flows.demo.node.podspec import PodContext

Json = dict[str, Any]
# Empty places of their own for what programs write to; mount points inside the container.
TMPFS = ["/run", "/tmp", "/var/log", "/var/lib/nginx"]  # noqa: S108


class UnknownImageError(Exception):
    """No program of this machine stands for an image, and the container gives no command."""


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
            "mounts": volumes.mounts(spec, made),
            "tmpfs": TMPFS,
        },
        "hostname": ctx.hostname,
        "workdir": spec.get("workingDir"),
        "uid": security.get("runAsUser"),
        "gid": security.get("runAsGroup", security.get("runAsUser")),
        "argv": argv,
        "env": env,
    }
