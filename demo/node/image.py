"""Container images: which program of this machine stands for which image, as there is no container engine."""

from __future__ import annotations

import shutil
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from flows.demo import layout

IMAGES = Path(__file__).parent.parent / "images"


@dataclass(frozen=True, slots=True)
class Image:
    """What an image means here: its default command line, and the files it brings (a folder of demo/images)."""

    command: tuple[str, ...]
    wraps: str = ""  # gets arguments that name no program themselves, as in curlimages/curl
    folder: str = ""
    program: bool = False  # arguments are those of its own command


NGINX = Image(("nginx", "-g", "daemon off;"), folder="nginx")
SHELL = Image(("sh",))

# Last component of the repository -> what stands for it.
TABLE: dict[str, Image] = {
    "nginx": NGINX,
    "nginx-unprivileged": NGINX,
    "openresty": NGINX,
    "dnsmasq": Image(("dnsmasq", "--keep-in-foreground", "--conf-file=/etc/dnsmasq.conf"), folder="dnsmasq"),
    "curl": Image(("curl", "--version"), wraps="curl"),
    "iperf3": Image(("iperf3", "--server"), wraps="iperf3"),
    "wrk": Image(("wrk",), wraps="wrk"),
    "python": Image(("python3",)),
    "python-grpc": Image((sys.executable,), folder="python-grpc", program=True),  # grpcio is this installation's
    "upstream-dns": Image(("python3", "/opt/upstream-dns/server.py"), folder="upstream-dns"),
    "flows": Image((layout.flows_program(),), program=True),
    "pause": Image(("sleep", "infinity")),
    **dict.fromkeys(("busybox", "alpine", "debian", "ubuntu", "bash", "fedora", "netshoot"), SHELL),
}


def base_name(reference: str) -> str:
    """`nginx` of `docker.io/library/nginx:1.27@sha256:...`: the repository's last component."""
    name = reference.split("@", 1)[0].rsplit("/", 1)[-1]
    return name.split(":", 1)[0]


def lookup(reference: str) -> Image | None:
    """The stand-in for an image, None when the table has none."""
    return TABLE.get(base_name(reference))


def command_line(reference: str, command: list[str], args: list[str]) -> list[str] | None:
    """What a container runs: `command` and `args` over the image's own; None when image and command are unknown."""
    image = lookup(reference)
    if command:
        return [*command, *args]
    if image is None:
        return None
    if image.program:
        return [*image.command, *args]
    if not args:
        return list(image.command)
    return [image.wraps, *args] if image.wraps and _is_argument(args[0]) else list(args)


def _is_argument(word: str) -> bool:
    return word.startswith("-") or "://" in word or shutil.which(word) is None


@cache
def files(reference: str) -> dict[str, str]:
    """The files an image brings: absolute path in the container -> text."""
    image = lookup(reference)
    if image is None or not image.folder:
        return {}
    folder = IMAGES / image.folder
    return {f"/{p.relative_to(folder)}": p.read_text() for p in sorted(folder.rglob("*")) if p.is_file()}
