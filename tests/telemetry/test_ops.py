from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator
from contextlib import closing, suppress
from http.client import HTTPConnection, HTTPResponse

import pytest

from gateway.core.events import Alert
from gateway.telemetry import ops
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.pulse import LOOK_S, Pulse
from gateway.telemetry.readiness import Readiness

TIMEOUT_S = 30


@pytest.fixture
def metrics() -> Metrics:
    """Count nothing so far."""
    return Metrics(version="1")


@pytest.fixture
def readiness() -> Readiness:
    """Start as an app does: the store is not checked."""
    return Readiness(store="not checked yet")


@pytest.fixture
def server(metrics: Metrics, readiness: Readiness) -> Iterator[ops.OpsServer]:
    """Serve on a free port."""
    with closing(ops.start("127.0.0.1", 0, metrics=metrics, readiness=readiness, pulse=Pulse())) as server:
        yield server


def ask(server: ops.OpsServer, path: str, method: str = "GET") -> tuple[HTTPResponse, bytes]:
    """Make one request over a real socket."""
    with closing(HTTPConnection("127.0.0.1", server.port, timeout=TIMEOUT_S)) as connection:
        connection.request(method, path)
        response = connection.getresponse()
        return response, response.read()


def at_end(connection: socket.socket) -> bool:
    """Wait for the server and tell whether it closed the connection, in order or by a reset."""
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True


def test_metrics_are_served_as_prometheus_reads_them(server: ops.OpsServer, metrics: Metrics) -> None:
    """A scrape shows what was counted, in the text format."""
    metrics.count_alert(Alert(event="job.unknown", detail="x"))
    response, body = ask(server, "/metrics?ignored=1")
    assert response.status == 200
    assert response.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert b'gateway_alerts_total{event="job.unknown"} 1.0\n' in body


def test_readiness_follows_the_app(server: ops.OpsServer, readiness: Readiness) -> None:
    """Unready with every reason until each is cleared; unready again when draining. Health is 200 all along."""
    response, body = ask(server, "/readyz")
    assert (response.status, json.loads(body)) == (503, {"ready": False, "reasons": {"store": "not checked yet"}})
    readiness.clear("store")
    response, body = ask(server, "/readyz")
    assert (response.status, json.loads(body)) == (200, {"ready": True, "reasons": {}})
    readiness.block("draining", "SIGTERM")
    readiness.block("store", "Redis did not answer")
    response, body = ask(server, "/readyz")
    assert response.status == 503
    assert json.loads(body)["reasons"].keys() == {"draining", "store"}
    readiness.clear("store")
    assert json.loads(ask(server, "/readyz")[1])["reasons"] == {"draining": "SIGTERM"}
    assert ask(server, "/healthz")[0].status == 200


def test_health_ends_where_the_loop_hangs(metrics: Metrics, readiness: Readiness) -> None:
    """Looks without a beat make /healthz fail, though its thread answers; a beat, however late, makes it well again."""
    now = iter(range(10_000))
    pulse = Pulse(looks=3, clock=lambda: next(now) * LOOK_S)
    with closing(ops.start("127.0.0.1", 0, metrics=metrics, readiness=readiness, pulse=pulse)) as server:
        assert ask(server, "/healthz")[0].status == 200
        pulse.beat()
        while (answer := ask(server, "/healthz"))[0].status == 200:
            pass
        assert (answer[0].status, json.loads(answer[1])) == (503, {"status": "hung"})
        pulse.beat()
        assert not pulse.is_silent


@pytest.mark.parametrize("path", ["/metrics", "/healthz", "/readyz", "/absent"])
def test_head_is_get_without_a_body(server: ops.OpsServer, readiness: Readiness, path: str) -> None:
    """A HEAD gets the status and length that a GET would, and no body."""
    readiness.clear("store")
    got, _ = ask(server, path)
    with socket.create_connection(("127.0.0.1", server.port), timeout=TIMEOUT_S) as connection:
        connection.sendall(f"HEAD {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        head, _, body = connection.makefile("rb").read().partition(b"\r\n\r\n")
    assert head.startswith(f"HTTP/1.0 {got.status} ".encode())
    assert f"Content-Type: {got.headers['content-type']}\r\n".encode() in head
    assert re.search(rb"Content-Length: [1-9]", head)
    assert body == b""


@pytest.mark.parametrize("path", ["/", "/metrics/", "/../metrics", "/healthz/x"])
def test_other_paths_are_absent(server: ops.OpsServer, path: str) -> None:
    """Only the three paths exist."""
    response, body = ask(server, path)
    assert (response.status, json.loads(body)) == (404, {"error": "Not Found"})


@pytest.mark.parametrize("method", ["POST", "DELETE", "OPTIONS", "BREW"])
def test_other_methods_are_refused(server: ops.OpsServer, method: str) -> None:
    """Nothing can be changed through this port."""
    response, _ = ask(server, "/metrics", method)
    assert response.status == 405
    assert response.headers["allow"] == "GET, HEAD"


def test_rubbish_gets_an_answer_and_harms_nobody(server: ops.OpsServer) -> None:
    """A line that is no HTTP is answered 400, and the next request is served."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=TIMEOUT_S) as connection:
        connection.sendall(b"\x16\x03\x01 nonsense here now\r\n\r\n")
        answer = connection.makefile("rb").read()
    assert answer.startswith(b"HTTP/1.0 400 ")
    assert b"nonsense" not in answer
    assert ask(server, "/healthz")[0].status == 200


def test_a_silent_connection_is_cut(metrics: Metrics, readiness: Readiness) -> None:
    """A client that connects and says nothing is cut at the deadline."""
    silent = ops.start("127.0.0.1", 0, metrics=metrics, readiness=readiness, pulse=Pulse(), deadline_s=0.05)
    with (
        closing(silent),
        socket.create_connection(("127.0.0.1", silent.port), timeout=TIMEOUT_S) as connection,
    ):
        connection.sendall(b"GET /metr")
        assert at_end(connection)


def test_connections_are_bounded(metrics: Metrics, readiness: Readiness) -> None:
    """One connection too many is closed at once; when another ends there is room again."""
    narrow = ops.start("127.0.0.1", 0, metrics=metrics, readiness=readiness, pulse=Pulse(), max_connections=1)
    address = ("127.0.0.1", narrow.port)
    with closing(narrow):
        with (
            socket.create_connection(address, timeout=TIMEOUT_S) as first,
            socket.create_connection(address, timeout=TIMEOUT_S) as second,
        ):
            assert at_end(second)
            first.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
            assert first.makefile("rb").read().startswith(b"HTTP/1.0 200")
        while True:  # the place is given back just after the client saw the end
            with (
                socket.create_connection(address, timeout=TIMEOUT_S) as third,
                suppress(ConnectionError),
            ):
                third.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
                if third.makefile("rb").read().startswith(b"HTTP/1.0 200"):
                    break


def test_close_frees_the_port(metrics: Metrics, readiness: Readiness) -> None:
    """After close nobody listens, open connections are cut, and closing again does nothing."""
    server = ops.start("127.0.0.1", 0, metrics=metrics, readiness=readiness, pulse=Pulse())
    with socket.create_connection(("127.0.0.1", server.port), timeout=TIMEOUT_S) as connection:
        connection.sendall(b"GET /healthz HTTP/1.0\r\n")
        ask(server, "/healthz")  # connections are accepted in order: the first one is being served by now
        server.close()
        assert at_end(connection)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", server.port), timeout=TIMEOUT_S)
    server.close()


def test_a_port_in_use_is_an_error(server: ops.OpsServer, metrics: Metrics, readiness: Readiness) -> None:
    """Starting on a port that is taken raises at once."""
    with pytest.raises(OSError, match="in use"):
        ops.start("127.0.0.1", server.port, metrics=metrics, readiness=readiness, pulse=Pulse())
