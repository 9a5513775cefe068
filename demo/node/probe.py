"""Readiness and liveness probes, made from the node's network as a kubelet makes them."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flows.demo.node import netns, process

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

Json = dict[str, Any]
FIRST_PROBE_SECONDS = 0.1  # a server that starts at once is found ready at once
UNREADY_PERIOD_SECONDS = 1.0  # at most this long between probes until the first success


@dataclass(frozen=True, slots=True)
class Target:
    """What a probe is aimed at: the node's namespace it leaves from, the pod's address, the container."""

    netns: str
    address: str
    container: Json
    exec_spec: Callable[[list[str]], Json]


def port_number(port: int | str, container: Json) -> int:
    """A probe's port, by number or by the name of a container port; LookupError for an unknown name."""
    if isinstance(port, int) or port.isdigit():
        return int(port)
    for row in container.get("ports") or []:
        if row.get("name") == port:
            return int(row["containerPort"])
    raise LookupError(f'container "{container["name"]}" has no port named "{port}"')


async def check(probe: Json, target: Target) -> str:
    """Probe once: empty text for success, else why it failed."""
    timeout = float(probe.get("timeoutSeconds") or 1)
    try:
        async with asyncio.timeout(timeout):
            for kind, act in ACTIONS.items():
                if kind in probe:
                    return await act(probe[kind], target)
    except TimeoutError:
        return f"no answer after {timeout:g} s"
    except (OSError, LookupError, ValueError) as error:
        return str(error)
    return f"a probe of this kind is not known; expected one of {', '.join(ACTIONS)}"


async def _tcp(action: Json, target: Target) -> str:
    (await netns.connect(target.netns, target.address, port_number(action["port"], target.container))).close()
    return ""


async def _http(action: Json, target: Target) -> str:
    port = port_number(action["port"], target.container)
    reader, writer = await asyncio.open_connection(sock=await netns.connect(target.netns, target.address, port))
    try:
        headers = {"Host": f"{target.address}:{port}", "User-Agent": "kube-probe/1.36", "Connection": "close"}
        headers |= {h["name"]: h["value"] for h in action.get("httpHeaders") or []}
        head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        writer.write(f"GET {action.get('path') or '/'} HTTP/1.1\r\n{head}\r\n".encode())
        status = (await reader.readline()).split(b" ", 2)
    finally:
        writer.close()
    code = int(status[1]) if len(status) > 1 else 0
    return "" if 200 <= code < 400 else f"HTTP probe failed with statuscode: {code}"


async def _exec(action: Json, target: Target) -> str:
    spec = target.exec_spec(action["command"])
    code, output = await process.run(spec)
    return "" if code == 0 else f"command exited with {code}: {output.strip()[-200:]}"


ACTIONS: dict[str, Callable[[Json, Target], Awaitable[str]]] = {
    "httpGet": _http,
    "tcpSocket": _tcp,
    "exec": _exec,
}


async def watch(probe: Json, target: Target, report: Callable[[bool, str], None]) -> None:
    """Probe until cancelled; `report(healthy, why not)` is called when the thresholds say that it changed."""
    failures_needed = int(probe.get("failureThreshold") or 3)
    successes_needed = int(probe.get("successThreshold") or 1)
    period = float(probe.get("periodSeconds") or 10)
    await asyncio.sleep(float(probe.get("initialDelaySeconds") or 0) + FIRST_PROBE_SECONDS)
    healthy, successes, failures = False, 0, 0
    while True:
        problem = await check(probe, target)
        successes, failures = (0, failures + 1) if problem else (successes + 1, 0)
        if not healthy and successes >= successes_needed:
            healthy = True
            report(True, "")
        elif failures == failures_needed:
            healthy = False
            report(False, problem)
        await asyncio.sleep(period if healthy else min(period, UNREADY_PERIOD_SECONDS))
