"""The ops port: ``/metrics``, ``/healthz`` and ``/readyz``, on threads of their own.

Rendering the metrics takes long enough to hold up an event loop, and a probe must be answered while one is busy. Of
one that hangs ``/healthz`` says so: who asks is to end the process.
"""

from __future__ import annotations

import contextlib
import socket
import sys
from collections.abc import Callable, Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from socketserver import TCPServer, ThreadingMixIn
from threading import Lock, Thread
from time import monotonic
from types import MappingProxyType
from typing import Any, Final, Protocol

import orjson
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from gateway.telemetry.pulse import Pulse

_JSON: Final = "application/json"
_TICK_S: Final = 0.1


class Shows(Protocol):
    """Shows metrics."""

    def render(self) -> bytes:
        """Return all series in Prometheus's text format 0.0.4."""


class Tells(Protocol):
    """Tells whether requests may come."""

    @property
    def reasons(self) -> Mapping[str, str]:
        """What stands in the way, by check."""


class _Server(ThreadingMixIn, TCPServer):
    """Accept at most ``max_connections`` at a time, each for at most ``deadline_s`` seconds."""

    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 128

    def __init__(
        self,
        address: tuple[str, int],
        metrics: Shows,
        readiness: Tells,
        pulse: Pulse,
        *,
        deadline_s: float,
        max_connections: int,
    ) -> None:
        self.metrics = metrics
        self.readiness = readiness
        self.pulse = pulse
        self._deadline_s = deadline_s
        self._max_connections = max_connections
        self._lock = Lock()
        self._open: dict[socket.socket, float] = {}
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        super().__init__(address, _Handler)

    def verify_request(self, request: Any, _client_address: Any) -> bool:  # noqa: ANN401 as in the library
        with self._lock:
            if len(self._open) >= self._max_connections:
                return False
            self._open[request] = monotonic() + self._deadline_s
            return True

    def close_request(self, request: Any) -> None:  # noqa: ANN401 as in the library
        with self._lock:
            self._open.pop(request, None)
        super().close_request(request)

    def service_actions(self) -> None:
        """Cut those who take too long: the handler's thread then finds its connection at an end."""
        self.cut(before=monotonic())
        self.pulse.look()

    def cut(self, *, before: float) -> None:
        """Cut connections whose deadline (`time.monotonic`) is before a time."""
        with self._lock:
            for connection, deadline in self._open.items():
                if deadline < before:
                    with contextlib.suppress(OSError):
                        connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 as in the library
        if not isinstance(sys.exception(), OSError):  # a client that went away is nobody's error
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    """Answer one request on a connection, then close it."""

    server: _Server
    server_version = "gateway"
    default_request_version = "HTTP/1.0"  # what the answer to an unreadable request line is written in
    sys_version = ""

    def do_GET(self) -> None:
        route = _ROUTES.get(self.path.partition("?")[0])
        if route is None:
            self.send_error(HTTPStatus.NOT_FOUND)
        else:
            self._answer(*route(self.server))

    do_HEAD = do_GET  # noqa: N815 as in the library

    def send_error(self, code: int, _message: str | None = None, _explain: str | None = None) -> None:
        """Answer an error as JSON; the library says 501 of a method without a handler, and quotes the request."""
        status = HTTPStatus.METHOD_NOT_ALLOWED if code == HTTPStatus.NOT_IMPLEMENTED else HTTPStatus(code)
        self._answer(status, _JSON, orjson.dumps({"error": status.phrase}))

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 as in the library
        """Write nothing: probes and scrapes are not what the log is for."""

    def _answer(self, status: HTTPStatus, content_type: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("Connection", "close")
        if status is HTTPStatus.METHOD_NOT_ALLOWED:
            self.send_header("Allow", "GET, HEAD")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


_Answer = tuple[HTTPStatus, str, bytes]


def _metrics(server: _Server) -> _Answer:
    return HTTPStatus.OK, CONTENT_TYPE_PLAIN_0_0_4, server.metrics.render()


def _healthz(server: _Server) -> _Answer:
    if server.pulse.is_silent:
        return HTTPStatus.SERVICE_UNAVAILABLE, _JSON, b'{"status":"hung"}'
    return HTTPStatus.OK, _JSON, b'{"status":"ok"}'


def _readyz(server: _Server) -> _Answer:
    reasons = server.readiness.reasons
    status = HTTPStatus.SERVICE_UNAVAILABLE if reasons else HTTPStatus.OK
    return status, _JSON, orjson.dumps({"ready": not reasons, "reasons": dict(reasons)})


_ROUTES: Final[Mapping[str, Callable[[_Server], _Answer]]] = MappingProxyType(
    {"/metrics": _metrics, "/healthz": _healthz, "/readyz": _readyz}
)


class OpsServer:
    """A running ops port. Use `start` to get one."""

    def __init__(self, server: _Server) -> None:
        self._server = server
        self._thread = Thread(target=server.serve_forever, args=(_TICK_S,), name="ops", daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return int(self._server.server_address[1])

    def close(self) -> None:
        """Stop listening and cut what is still open. May be called twice."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        self._server.cut(before=float("inf"))


def start(
    host: str,
    port: int,
    *,
    metrics: Shows,
    readiness: Tells,
    pulse: Pulse,
    deadline_s: float = 15.0,
    max_connections: int = 64,
) -> OpsServer:
    """Serve the ops port from now on, on a thread.

    Args:
        host: Address to bind, IPv4 or IPv6.
        port: 0 for a free one.
        metrics: What ``/metrics`` shows.
        readiness: What ``/readyz`` shows.
        pulse: What ``/healthz`` shows: of the process's event loop; looked at from here.
        deadline_s: Longest life of a connection.
        max_connections: More than these at a time are closed unanswered.

    Raises:
        OSError: The address can't be bound.
    """
    server = _Server((host, port), metrics, readiness, pulse, deadline_s=deadline_s, max_connections=max_connections)
    return OpsServer(server)
