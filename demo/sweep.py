"""Remove everything the demo ever made on this machine, found by its name and its cgroup, whatever crashed before."""

from __future__ import annotations

import json
import os
import shutil

from flows.demo import layout
from flows.demo.node import cgroups, netns


def leftovers() -> list[str]:
    """What of the demo exists now, as words for a person."""
    found = [f"network namespace {name}" for name in netns.names()]
    found += [f"link {name}" for name in _links()]
    found += [f"nftables table {family} {name}" for family, name in _tables()]
    root = cgroups.root()
    found += [f"process {pid}" for pid in cgroups.members(root)] if root.exists() else []
    found += [f"cgroup {root}"] if root.exists() else []
    found += [f"directory {layout.STATE}"] if layout.STATE.exists() else []
    return found


def sweep() -> None:
    """Remove it all: processes first, because what they use cannot go before them."""
    root = cgroups.root()
    if root.exists():
        cgroups.remove(root)
    for name in netns.names():
        netns.remove(name)
    for link in _links():
        netns.ip_batch(None, [f"link del {link}"])
    for family, name in _tables():
        netns.run(["nft", "delete", "table", family, name])
    if layout.BPF.is_mount():
        netns.run(["umount", os.fspath(layout.BPF)])
    shutil.rmtree(layout.STATE, ignore_errors=True)


def _links() -> list[str]:
    rows = json.loads(netns.run(["ip", "-j", "link", "show"]) or "[]")
    return [row["ifname"] for row in rows if _ours(row["ifname"])]


def _tables() -> list[tuple[str, str]]:
    rows = json.loads(netns.run(["nft", "-j", "list", "tables"]))["nftables"]
    tables = [row["table"] for row in rows if "table" in row]
    return [(table["family"], table["name"]) for table in tables if _ours(table["name"])]


def _ours(name: str) -> bool:
    return name == layout.NAME or name.startswith(layout.PREFIX)
