"""`up`, `down` and `run`: the demo from nothing to ready and back to nothing."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.demo import layout, running, sweep
from flows.demo.client import Client, in_order, parse_manifests
from flows.demo.errors import DemoError, printable
from flows.demo.status import load_status

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

Json = dict[str, Any]

READY_SECONDS = 60.0  # it takes about 10 s; a loaded machine gets time, a broken one an answer
UNIT_SECONDS = 30.0  # an agent takes about 2 s
POLL_SECONDS = 0.1
# Program -> Debian package, for the one line that says what is missing.
PROGRAMS = {
    "ip": "iproute2",
    "nft": "nftables",
    "nsenter": "util-linux",
    "umount": "mount",
    "nginx": "nginx-light",
    "dnsmasq": "dnsmasq-base",
    "curl": "curl",
}
NGINX_LUA = Path("/usr/lib/nginx/modules/ngx_http_lua_module.so")


def up(*, agents: bool, timeout: float) -> None:
    """Bring the demo up and wait until all of it is ready. What is up stays; what crashed is removed first."""
    deadline = time.monotonic() + timeout
    check_programs()
    with running.locked() as lock:
        if running.control_plane() is None:
            _clear()
            _say("starting the control plane")
            running.start(agents=agents, lock=lock)
        elif agents != bool((load_status() or {}).get("agents")):
            raise DemoError(f"the demo is up {'without' if agents else 'with'} agents: flows demo down, then up again")
        _wait(deadline, lambda status: None if status and status["api"]["ready"] else "the API server")
        ours, version = apply_manifests(agents=agents)
        _wait(deadline, lambda status: _not_ready(status, ours, version))


def wait_for_unit(name: str) -> None:
    """Wait until an agent or the API server serves; DemoError with its last words if it does not."""
    _wait(time.monotonic() + UNIT_SECONDS, lambda status: _unit_missing(status, name))


def _unit_missing(status: Json | None, name: str) -> str | None:
    units = [*status["agents"], status["api"]] if status else []
    return None if any(unit["unit"] == name and unit["ready"] for unit in units) else name


def down() -> None:
    """Remove the demo and all that an earlier one left."""
    with running.locked():
        found = sweep.leftovers()
        running.stop()
        sweep.sweep()
        _remove_run_directory()
    _say("nothing to remove" if not found else "removed")


def run(*, timeout: float) -> int:
    """Bring the demo up, show live flows until Ctrl-C or SIGTERM, and take it down whatever happened."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    try:
        up(agents=True, timeout=timeout)
        _say("live flows of the demo cluster; Ctrl-C ends and removes it")
        return subprocess.call([layout.flows_program(), "observe", "--follow"])
    except KeyboardInterrupt:
        return 0
    finally:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)  # an impatient second Ctrl-C must not leave half of it
        down()


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def check_programs() -> None:
    """Raise DemoError that names every program the demo needs and the machine lacks."""
    missing = [package for program, package in PROGRAMS.items() if shutil.which(program) is None]
    if not NGINX_LUA.exists():
        missing.append("libnginx-mod-http-lua")
    if missing:
        raise DemoError(f"demo up: programs are missing: apt-get install {' '.join(missing)}")


def apply_manifests(*, agents: bool) -> tuple[set[str], int]:
    """Apply the demo's own manifests; what they are (as `kind namespace/name`), the last resourceVersion they got.

    Without agents there is nothing for a relay to do.
    """
    client, version, names = Client(layout.KUBECONFIG), 0, set()
    for path in sorted(layout.MANIFESTS.glob("*.yaml")):
        if path == layout.RELAY_MANIFEST and not agents:
            continue
        for manifest in in_order(parse_manifests(path.read_text(), path.name)):
            _, obj = client.apply(manifest)
            version = max(version, int(obj["metadata"]["resourceVersion"]))
            names.add(f"{manifest.kind.singular} {obj['metadata'].get('namespace')}/{obj['metadata']['name']}")
    return names, version


def _clear() -> None:
    if sweep.leftovers():
        _say("removing what an earlier demo left")
        sweep.sweep()


def _remove_run_directory() -> None:
    try:
        layout.RUN.rmdir()
    except OSError:
        return  # somebody else's sockets are in it


def _not_ready(status: Json | None, ours: set[str], version: int) -> str | None:
    """What is still missing; None when all that is the demo's own is ready."""
    if status is None or status["version"] < version:
        return "the controllers"
    waiting = [what for what in status["waiting"] if what.partition(":")[0] in ours]
    if waiting:
        return str(waiting[0])
    return next((_absent(agent) for agent in status["agents"] if not agent["ready"] and not agent["stopped"]), None)


def _absent(agent: Json) -> str:
    """Names an agent that does not answer, with its last words if it died."""
    words = f" (it ended: {_last_line(layout.agent_log(agent['node']))})" if agent["restarts"] else ""
    return f"the agent of {agent['node']}{words}"


def _wait(deadline: float, missing: Callable[[Json | None], str | None]) -> None:
    """Wait until nothing is missing; DemoError when time is over or the control plane ends."""
    said = ""
    while what := missing(load_status()):
        if what != said:
            _say(f"waiting for {what}")
            said = what
        if time.monotonic() > deadline:
            raise DemoError(f"demo up: not ready in time, still waiting for {what}{_first_problem(load_status())}")
        if running.control_plane() is None:
            raise DemoError(f"demo up: the control plane ended: {_last_line(layout.DAEMON_LOG)} (log: {layout.DAEMON_LOG})")
        time.sleep(POLL_SECONDS)


def _first_problem(status: Json | None) -> str:
    """`; POD: why`, for the first pod that says why it does not run."""
    pods = status["pods"] if status else []
    return next((f"; {p['namespace']}/{p['name']}: {p['problem']}" for p in pods if p["problem"]), "")


def _last_line(log: Path) -> str:
    """The last line of a log: a traceback ends with what went wrong."""
    text = log.read_text(errors="replace") if log.exists() else ""
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "it wrote no log"


def _say(text: str) -> None:
    sys.stderr.write(f"flows demo: {printable(text)}\n")
    sys.stderr.flush()
