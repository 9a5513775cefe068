"""What servers and clients of the demo say themselves about requests: the truth that flows are compared with."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.demo import layout

if TYPE_CHECKING:
    from demo_command import Demo

Json = dict[str, Any]
# demo/manifests/60-media.yaml: log_format exact
_REQUEST = re.compile(r"[\d.]+ ([\d.]+) \S+ \d+ (\d+) (\d+) (\S+) (\d+) (\d+) \S+ (.*)")
# dnsmasq's log-queries=extra: `dnsmasq[7045]: 457 10.244.3.4/39448 query[AAAA] big.example.test from 10.244.3.4`
_QUERY = re.compile(r"dnsmasq\[\d+\]: (\d+) \S+ query\[(\w+)\] (\S+) from (\S+)")
_ANSWER = re.compile(r"dnsmasq\[\d+\]: (\d+) \S+ (?:config|cached|reply|/\S+) (\S+) is (\S+)")


def one(demo: Demo, prefix: str) -> Json:
    """A pod by the beginning of NAMESPACE/NAME; the first, if there are several."""
    pods = [pod for pod in demo.pods(prefix) if pod["ready"]]
    assert pods, prefix
    return pods[0]


class Log:
    """What a container writes from now on."""

    def __init__(self, pod: Json, container: str) -> None:
        self.path = layout.LOGS / f"{pod['namespace']}_{pod['name']}_{pod['uid']}" / f"{container}.log"
        self.path.write_bytes(b"")  # as the kubelet does: what follows is appended, and has room

    def lines(self) -> list[str]:
        return self.path.read_text(errors="replace").splitlines()


@dataclass(frozen=True, slots=True)
class Served:
    """A request by the web server's access log."""

    method: str
    uri: str
    status: int
    bytes: int
    seconds: float
    connection: int
    number: int  # of the connection's requests

    @property
    def path(self) -> str:
        """Without the query string, which no flow shows."""
        return self.uri.partition("?")[0]


def served(log: Log) -> list[Served]:
    """The requests in an access log, in order of their ends."""
    return [_served(*found.groups()) for line in log.lines() if (found := _REQUEST.fullmatch(line))]


def _served(seconds: str, connection: str, number: str, method: str, status: str, size: str, uri: str) -> Served:
    return Served(method, uri, int(status), int(size), float(seconds), int(connection), int(number))


def resolved(logs: list[Log], wanted: str) -> dict[tuple[str, str], str]:
    """What name servers answered: (name, type) -> NOERROR, NXDOMAIN, ...; of names that contain `wanted`, each asked once."""
    answers: dict[tuple[str, str], str] = {}
    for log in logs:
        asked: dict[str, tuple[str, str]] = {}  # by the server's number of the query
        for line in log.lines():
            if wanted not in line:
                continue
            if query := _QUERY.match(line):
                asked[query[1]] = (query[3], query[2])
            elif answer := _ANSWER.match(line):
                answers[asked[answer[1]]] = answer[3] if answer[3].isupper() and answer[3].isalpha() else "NOERROR"
    return answers


def script(name: str) -> str:
    """Text of a file beside this one, to be given to a program in a pod."""
    return (Path(__file__).parent / name).read_text()
