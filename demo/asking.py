"""`flows demo stop`, `start` and `api`: requests to the control plane's own socket."""

from __future__ import annotations

import http.client
import json
import socket
from typing import Any

from flows.demo import layout
from flows.demo.errors import DemoError, UsageError
from flows.demo.status import read_status

Json = dict[str, Any]
TIMEOUT_SECONDS = 15.0  # an agent has 5 s to detach


class _Connection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(layout.CONTROL_SOCKET))


def ask(act: str, **words: object) -> Json:
    """Do something to the running demo; UsageError if it makes no sense, DemoError when the demo does not answer."""
    read_status()
    connection = _Connection("localhost", timeout=TIMEOUT_SECONDS)
    try:
        connection.request("POST", f"/{act}", json.dumps(words), {"Content-Type": "application/json"})
        response = connection.getresponse()
        answer: Json = json.loads(response.read())
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise DemoError(f"demo {act}: {layout.CONTROL_SOCKET}: {error}; see {layout.DAEMON_LOG}") from None
    finally:
        connection.close()
    if response.status >= 400:
        raise UsageError(f"demo {act}: {answer['error']}")
    return answer
