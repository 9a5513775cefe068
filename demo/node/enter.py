"""Start a program inside a container, or join one: the last steps before exec, as runc does them.

Run as `python -I -S enter.py SPEC`, never imported: it must start fast and have one thread (joining a mount
namespace needs that). SPEC is a JSON file; all keys may be null or absent but `argv` and `env`:

    cgroup      directory of the cgroup to join         netns       file of the network namespace to enter
    attach      pid whose mount, UTS and IPC namespaces to enter
    root        {base, files, mounts, tmpfs}: build a root of its own over the machine's files
    hostname    name in the new UTS namespace           workdir     directory to start in
    uid, gid    numbers to run as                       error_fd    where to say why exec failed (else stderr)
    close       descriptors to hold until exec

It does not return; exit code 127 when the program is not found, 126 when it cannot be started.
"""

# No pathlib here: it alone would double the start-up time.
# ruff: noqa: PTH102, PTH103, PTH106, PTH108, PTH110, PTH112, PTH118, PTH120, PTH123

from __future__ import annotations

import ctypes
import json
import os
import socket
import sys
from typing import Any

CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWIPC, CLONE_NEWNET = 0x20000, 0x4000000, 0x8000000, 0x40000000
MS_RDONLY, MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 0x1, 0x20, 0x1000, 0x4000, 0x40000
MNT_DETACH = 2
OLD_ROOT = "/.machine"

libc = ctypes.CDLL(None, use_errno=True)


def check(what: str, result: int) -> None:
    """Raise OSError that names the act if a C library call failed."""
    if result != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")


def mount(source: str | None, target: str, kind: str | None = None, flags: int = 0, options: str | None = None) -> None:
    """mount(2) on text arguments."""
    encoded = [os.fsencode(text) if text is not None else None for text in (source, target, kind, options)]
    check(f"mount {target}", libc.mount(encoded[0], encoded[1], encoded[2], ctypes.c_ulong(flags), encoded[3]))


def join(path: str, kind: int) -> None:
    """setns(2) by file."""
    fd = os.open(path, os.O_RDONLY)
    check(f"setns {path}", libc.setns(fd, kind))
    os.close(fd)


def attach(pid: int) -> None:
    """Enter a running container; the mount namespace last, as the paths above are then gone."""
    opened = [
        (os.open(f"/proc/{pid}/ns/{name}", os.O_RDONLY), kind)
        for name, kind in (("uts", CLONE_NEWUTS), ("ipc", CLONE_NEWIPC), ("mnt", CLONE_NEWNS))
    ]
    for fd, kind in opened:
        check(f"setns of process {pid}", libc.setns(fd, kind))
        os.close(fd)


def build_root(base: str, files: dict[str, str], mounts: list[tuple[str, str, bool]], tmpfs: list[str]) -> None:
    """Make an overlay of the machine's files plus our own the root of a new mount namespace.

    The changes live in a tmpfs on `base`: an overlay refuses layers that contain each other, and so they
    vanish with the container. Files and mounts are placed once the new root is the root, as a symlink such as
    /var/run -> /run would lead out of it before; until then the machine's root stays at OLD_ROOT.
    """
    check("unshare", libc.unshare(CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC))
    mount(None, "/", flags=MS_REC | MS_PRIVATE)
    sources = [os.path.realpath(source) for source, _, _ in mounts]
    pivot(overlay(base))
    for path in tmpfs:
        mount("tmpfs", place(path, is_dir=True), "tmpfs", options="mode=1777")
    for path, text in files.items():
        write(path, text)
    for source, (_, target, read_only) in zip(sources, mounts, strict=True):
        bind(OLD_ROOT + source, target, read_only=read_only)
    check("umount of the machine's root", libc.umount2(OLD_ROOT.encode(), MNT_DETACH))
    os.rmdir(OLD_ROOT)


def overlay(base: str) -> str:
    """Mount the container's root below `base`, with the machine's /proc and /dev, and return its path."""
    mount("tmpfs", base, "tmpfs", options="mode=0755")
    upper, work, root = (os.path.join(base, name) for name in ("upper", "work", "root"))
    for path in (upper, work, root):
        os.mkdir(path, 0o755)
    mount("overlay", root, "overlay", options=f"lowerdir=/,upperdir={upper},workdir={work}")
    for path in ("/proc", "/dev"):
        mount(path, root + path, flags=MS_BIND | MS_REC)
    mount("sysfs", root + "/sys", "sysfs", flags=MS_RDONLY)
    return root


def pivot(root: str) -> None:
    """Make `root` the root; the machine's own moves to OLD_ROOT."""
    os.mkdir(root + OLD_ROOT, 0o700)
    check("pivot_root", libc.pivot_root(root.encode(), (root + OLD_ROOT).encode()))
    os.chdir("/")


def place(path: str, *, is_dir: bool) -> str:
    """Make sure that something to mount on exists; the path is inside the overlay, so the machine keeps its own."""
    if is_dir:
        os.makedirs(path, exist_ok=True)
    elif not os.path.exists(path):
        os.makedirs(os.path.dirname(path), exist_ok=True)
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o644))
    return path


def write(path: str, text: str) -> None:
    """Write a file of the container; what is there may be a symlink into the machine's own /run, so it goes first."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    if os.path.lexists(path):
        os.unlink(path)
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)


def bind(source: str, target: str, *, read_only: bool) -> None:
    """Bind mount; read-only takes a second call (mount(2))."""
    place(target, is_dir=os.path.isdir(source))
    mount(source, target, flags=MS_BIND | MS_REC)
    if read_only:
        mount(None, target, flags=MS_REMOUNT | MS_BIND | MS_RDONLY)


def enter(spec: dict[str, Any]) -> None:
    """Everything up to exec, in the order in which each step still sees the paths that it needs."""
    if spec.get("cgroup"):
        with open(os.path.join(spec["cgroup"], "cgroup.procs"), "w", encoding="ascii") as procs:
            procs.write("0")
    if spec.get("netns"):
        join(spec["netns"], CLONE_NEWNET)
    if spec.get("attach"):
        attach(spec["attach"])
    if spec.get("root"):
        build_root(**spec["root"])
    if spec.get("hostname"):
        socket.sethostname(spec["hostname"])
    if spec.get("gid") is not None:
        os.setgroups([])
        os.setgid(spec["gid"])
    if spec.get("uid") is not None:
        os.setuid(spec["uid"])


def found(program: str, path: str) -> bool:
    """Whether execvp would find a program; asked before, because its own error names no program."""
    candidates = [program] if "/" in program else [f"{folder}/{program}" for folder in path.split(":")]
    return any(os.access(candidate, os.X_OK) for candidate in candidates)


def start(spec: dict[str, Any]) -> None:
    """Replace this process by the program; raises OSError with the runtimes' own words when that cannot be."""
    workdir, program = spec.get("workdir") or "/", spec["argv"][0]
    try:
        os.chdir(workdir)
    except FileNotFoundError:
        os.makedirs(workdir)  # runtimes make a missing working directory
        os.chdir(workdir)
    if not found(program, spec["env"].get("PATH", os.defpath)):
        raise FileNotFoundError(f'exec: "{program}": executable file not found in $PATH')
    os.execvpe(program, spec["argv"], spec["env"])  # noqa: S606  (that is its job)


def main() -> None:
    with open(sys.argv[1], encoding="utf-8") as file:
        spec = json.load(file)
    error_fd = spec.get("error_fd")
    for fd in [error_fd, *spec.get("close", [])]:
        if fd is not None:
            os.set_inheritable(fd, False)  # a successful exec closes it: that is how the one who waits learns of it
    try:
        enter(spec)
        start(spec)
    except OSError as error:
        message = str(error)
        code = 127 if isinstance(error, FileNotFoundError) else 126
    if error_fd is not None:
        os.write(error_fd, message.encode())
    else:
        sys.stderr.write(f"flows: {message}\n")
    os._exit(code)


if __name__ == "__main__":
    main()
