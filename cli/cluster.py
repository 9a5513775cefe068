"""Cluster: what `-P` asks of the Kubernetes API. The CLI's one module with the Kubernetes client.

Port-forward: https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/pod-v1/, subprotocol `v4.channel.k8s.io`.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import kubernetes.client.rest
import kubernetes.stream.ws_client
import websocket

from flows.cli.backend import PortForwardError

if TYPE_CHECKING:
    import socket

# For connecting, and for each answer.
TIMEOUT_S = 10.0
# For the other side's farewell.
CLOSE_S = 1.0
PROTOCOL = "v4.channel.k8s.io"
# Answers are a Service and the slices of its endpoints: 100 of 1,000 endpoints each would be 30 MB.
ANSWER_BYTES = 32 << 20

_client: Any = kubernetes.stream.ws_client  # untyped
_rest: Any = kubernetes.client.rest


class Cluster:
    """Requests with the credentials of a kubernetes.client.Configuration. Blocking. Raises PortForwardError."""

    def __init__(self, configuration: Any) -> None:
        self._configuration = configuration
        self._requests = _rest.RESTClientObject(configuration)

    def read(self, path: str, query: dict[str, str]) -> bytes:
        """GET a JSON object."""
        url = f"{self._configuration.host}{path}?{urlencode(query)}"
        headers = {"Accept": "application/json", "User-Agent": "flows-cli", **self._authorization()}
        try:
            answer = self._requests.request("GET", url, headers=headers, _request_timeout=(TIMEOUT_S, TIMEOUT_S)).response
            body: bytes = answer.read(ANSWER_BYTES)
            answer.release_conn()
        except Exception as error:  # the client and its transport raise all sorts; each means: no answer
            raise PortForwardError(f"--port-forward: GET {path} of {self._configuration.host}: {error}") from error
        if answer.status != 200:
            cure = "; grant get on services and list on endpointslices" if answer.status == 403 else ""
            raise PortForwardError(f"--port-forward: GET {path}: {_message(body, answer.status)}{cure}", answer.status)
        return body

    def connect(self, namespace: str, pod: str, port: int) -> Tunnel:
        """A connection to a port of a pod."""
        where = f"pod {namespace}/{pod}, port {port}"
        path = f"/api/v1/namespaces/{namespace}/pods/{pod}/portforward"
        url = _client.get_websocket_url(f"{self._configuration.host}{path}?{urlencode({'ports': port})}")
        websocket.setdefaulttimeout(TIMEOUT_S)
        try:
            made = _client.create_websocket(
                self._configuration, url, {"sec-websocket-protocol": PROTOCOL, **self._authorization()}
            )
        except websocket.WebSocketBadStatusException as error:
            cure = "; grant create on pods/portforward" if error.status_code == 403 else ""
            message = f"{_message(error.resp_body or b'', error.status_code)}{cure}"
            raise PortForwardError(f"--port-forward to {where}: {message}", error.status_code) from error
        except Exception as error:  # the same as above
            raise PortForwardError(f"--port-forward to {where}: {error}") from error
        made.settimeout(None)
        return Tunnel(where, made, port)

    def close(self) -> None:
        """Ends what was kept open for more requests; tunnels stay."""
        self._requests.pool_manager.clear()

    def _authorization(self) -> dict[str, str]:
        settings = self._configuration.auth_settings().get("BearerToken")
        return {"authorization": settings["value"]} if settings else {}


class Tunnel:
    """A connected socket whose other end is the pod's port."""

    def __init__(self, where: str, made: Any, port: int) -> None:
        self._where, self._port = where, port
        self._forward = _Forward(made, [port])
        self.socket: socket.socket = self._forward.socket(port)._socket  # asyncio takes no wrapper

    @property
    def failure(self) -> str:
        """What went wrong on the way since; "" if nothing did."""
        error = self._forward.error(self._port) or self._forward.broke
        return f"--port-forward to {self._where}: {error.strip()}" if error else ""

    def close(self) -> None:
        """Ends the connection; waits for its thread, but not long for a cluster that does not answer. Blocks."""
        self.socket.close()
        self._forward.ended.wait(CLOSE_S)


class _Forward(_client.PortForward):  # type: ignore[misc]
    """The client's, whose thread would leave connections open, and print a trace, when the WebSocket breaks or is closed."""

    broke = ""

    def __init__(self, made: Any, ports: list[int]) -> None:
        self.ended = threading.Event()
        super().__init__(made, ports)

    def _proxy(self) -> None:
        try:
            super()._proxy()
        except Exception as error:  # noqa: BLE001 - any way in which a connection or its peer can fail
            self.broke = f"the connection broke: {error}"
        finally:
            for port in self.local_ports.values():
                port.python.close()
            self.websocket.shutdown()  # its close() does nothing after the server's
            self.ended.set()


def _message(body: bytes, status: int) -> str:
    """The API's own words, where it answered and refused."""
    from flows.kube.wire import decode_status  # noqa: PLC0415 - for refusals only

    return decode_status(body).message or f"HTTP status {status}"
