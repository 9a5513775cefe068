"""`flows demo status`: what the control plane last wrote about itself, read and shown."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

from flows.demo import layout, running
from flows.demo.errors import DemoError, printable

if TYPE_CHECKING:
    from collections.abc import Sequence

Json = dict[str, Any]

NEXT = """
Next:
  flows observe -f                                live flows of every node
  flows observe --from svc-a --to svc-b --last 20
  flows demo exec svc-a -- curl -s svc-b          make one
  KUBECONFIG={kubeconfig} kubectl get pods -A -o wide
  flows demo stop agent/node-2                    what is seen without it; start agent/node-2 brings it back
  flows demo down                                 remove everything
"""


def load_status() -> Json | None:
    """The last status written, None before the first."""
    try:
        status: Json = json.loads(layout.STATUS.read_text())
    except (FileNotFoundError, ValueError):
        return None
    return status


def read_status() -> Json:
    """The status of the running demo; DemoError when it is not running."""
    status = load_status()
    if status is None:
        raise DemoError("the demo is not up: start it with: flows demo up")
    if running.control_plane() is None:
        raise DemoError(f"the demo's control plane died (log: {layout.DAEMON_LOG}): flows demo up makes it anew")
    return status


def print_status(status: Json, *, next_commands: bool = False) -> None:
    """Show a status as tables."""
    pods = [
        (p["namespace"], p["name"], p["node"], _state(p), " ".join(p["ips"]))
        for p in sorted(status["pods"], key=lambda p: (p["namespace"], p["name"]))
    ]
    units = [*status["agents"], status["api"]]
    rows = [(u["unit"], u["address"], u.get("socket", ""), str(u["pid"] or _absence(u))) for u in units]
    text = _table(("NAMESPACE", "POD", "NODE", "STATE", "ADDRESSES"), pods)
    text += "\n" + _table(("UNIT", "ADDRESS", "SOCKET", "PID"), rows)
    text += f"\nkubeconfig {status['kubeconfig']}\n"
    text += "".join(f"waiting for {printable(what)}\n" for what in status["waiting"])
    sys.stdout.write(text + (NEXT.format(kubeconfig=status["kubeconfig"]) if next_commands else ""))


def _absence(unit: Json) -> str:
    return "stopped" if unit["stopped"] else "down"


def _state(pod: Json) -> str:
    if pod["waiting"]:
        return printable(str(pod["waiting"]))
    return "Ready" if pod["ready"] else str(pod["phase"])


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    return "".join("  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() + "\n" for row in [head, *rows])
