"""What is refused before the application sees it, over a real socket."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass
from itertools import count

import pytest
import uvicorn
from web.connection import Connection
from web.fakes import JOB_ID, KEY, Services, build
from web.raw import connected, read_answer

from gateway.core.events import Event
from gateway.service.shedding import MOST, Shedder
from gateway.web.gate import MAX_SKIPPED_BYTES, Gate
from gateway.web.middleware import Edge
from gateway.web.protocol import StrictProtocol

BODY = '{"prompt":"x"}'
READ = f"GET /v2/requests/{JOB_ID}/status HTTP/1.1\r\nHost: gw\r\nx-api-key: {KEY}\r\n\r\n".encode()


def submit(body: str = BODY, *headers: str) -> bytes:
    """Write a submit."""
    lines = ["POST /v2/m HTTP/1.1", "Host: gw", f"x-api-key: {KEY}", "content-type: application/json"]
    return "\r\n".join([*lines, f"content-length: {len(body)}", *headers, "", body]).encode()


@dataclass(frozen=True)
class Served:
    """A server behind a gate."""

    port: int
    shedder: Shedder
    services: Services
    app: Edge
    gate: Gate

    def overload(self, pressure: float) -> None:
        """Refuse as under so much pressure."""
        self.shedder.pressure, self.shedder.calm = pressure, False


@pytest.fixture
async def served(services: Services) -> AsyncIterator[Served]:
    """Serve the app behind a gate that lets in four connections."""

    async def probe() -> None:
        raise AssertionError

    def sink(event: Event) -> None:
        raise AssertionError(event)

    app, shedder = build(services, linger_s=5), Shedder(probe, lambda: 1.0, sink)
    gate = Gate(shedder, app.refuse, (f"{number:032x}" for number in count()), max_connections=4)
    config = uvicorn.Config(
        app,
        http=StrictProtocol.behind(gate),
        ws="none",
        log_config=None,
        proxy_headers=False,
        timeout_graceful_shutdown=1,
    )
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        yield Served(listener.getsockname()[1], shedder, services, app, gate)
        server.should_exit = True
        await serving


def is_refusal(answer: tuple[int, dict[str, str], bytes]) -> bool:
    """Tell whether an answer is the problem `overloaded`, complete."""
    status, headers, body = answer
    problem = json.loads(body)
    assert (status == 503) == (problem.get("code") == "overloaded")
    if status == 503:
        assert headers["content-type"] == "application/problem+json"
        assert (headers["retry-after"], problem["retry_after"], problem["limited_by"]) == ("1", 1, "gateway")
        assert len(headers["x-request-id"]) == 32
    return status == 503


async def test_r31_each_class_in_its_turn(served: Served) -> None:
    """Calm: all pass. Then submits are refused, unread, and reads pass; at the worst both."""
    async with connected(served.port) as (reader, writer):
        for pressure, refused in ((0.0, (False, False)), (1.0, (True, False)), (MOST, (True, True))):
            served.overload(pressure)
            served.shedder.refuses(write=False)  # of reads nineteen in twenty
            found = []
            for request in (submit(), READ):
                writer.write(request)
                found.append(is_refusal(await read_answer(reader)))
            assert tuple(found) == refused
    assert len(served.services.seen) == 3


async def test_a_refused_connection_goes_on(served: Served) -> None:
    """After a refusal the next request on the same connection is read right, whatever the refused body was."""
    served.overload(1.0)
    async with connected(served.port) as (reader, writer):
        for body in ("", BODY, "GET / HTTP/1.1\r\n\r\n", "x" * MAX_SKIPPED_BYTES):
            writer.write(submit(body) + READ)
            assert is_refusal(await read_answer(reader))
            assert not is_refusal(await read_answer(reader))


@pytest.mark.parametrize(
    "request_bytes",
    [
        submit("x" * (MAX_SKIPPED_BYTES + 1)),
        submit(BODY, "expect: 100-continue"),
        submit().replace(b"content-length: 14", b"transfer-encoding: chunked").replace(BODY.encode(), b"1\r\n{\r\n"),
    ],
    ids=["long", "expected", "chunked"],
)
async def test_a_body_that_can_not_be_read_over_ends_the_connection(served: Served, request_bytes: bytes) -> None:
    """Such a request is refused as well, and the connection ends; no byte of the body is taken for a request."""
    served.overload(1.0)
    async with connected(served.port) as (reader, writer):
        writer.write(request_bytes)
        answer = await read_answer(reader)
        assert is_refusal(answer)
        assert answer[1]["connection"] == "close"
        writer.write_eof()
        assert await reader.read() == b""
    assert served.services.seen == []


async def test_answers_keep_their_order(served: Served) -> None:
    """A pipelined submit that is refused is answered after the request before it."""
    served.overload(1.0)
    async with connected(served.port) as (reader, writer):
        writer.write(READ + submit())
        assert [is_refusal(await read_answer(reader)) for _ in range(2)] == [False, True]


@pytest.mark.parametrize(("version", "head"), [("1.0", ""), ("1.1", "Connection: close\r\n")])
async def test_the_last_answer_says_so(served: Served, version: str, head: str) -> None:
    """A caller who wants no other answer gets none; a drain ends each connection with its next answer."""
    served.overload(1.0)
    request = f"POST /v2/m HTTP/{version}\r\nHost: gw\r\n{head}content-length: 0\r\n\r\n"
    async with connected(served.port) as (reader, writer):
        writer.write(request.encode())
        answer = await read_answer(reader)
        assert (is_refusal(answer), answer[1]["connection"], await reader.read()) == (True, "close", b"")


@pytest.mark.parametrize("pressure", [0.0, 1.0])
async def test_r10_a_drain_ends_connections_with_an_answer(served: Served, pressure: float) -> None:
    """While the process drains every answer, a refusal too, says that its connection ends, and it ends."""
    async with connected(served.port) as (reader, writer):
        writer.write(READ)
        assert "connection" not in (await read_answer(reader))[1]
        served.shedder.pressure = pressure
        served.shedder.drain()
        writer.write(submit())
        answer = await read_answer(reader)
        assert (is_refusal(answer), answer[1]["connection"]) == (pressure == 1.0, "close")
        assert await reader.read() == b""


async def test_refusals_that_nobody_reads_are_not_piled_up(served: Served) -> None:
    """A caller who takes no answers gets no more of them, refusals either: else they would fill the memory."""
    served.overload(1.0)
    connection = Connection(served.app)
    connection.protocol.gate = served.gate
    connection.protocol.pause_writing()
    await connection.receive(3 * submit())
    assert not connection.written
    connection.protocol.resume_writing()
    await connection.settle()
    assert connection.written.count(b"503 Service Unavailable") == 1  # it ends the connection, a body unread


async def test_r31_connections_are_bounded(served: Served) -> None:
    """One connection too many is told so and closed; the others go on."""
    async with connected(served.port) as (reader, writer), connected(served.port), connected(served.port):
        async with connected(served.port), connected(served.port) as (fifth, _):
            answer = await read_answer(fifth)
            assert (is_refusal(answer), answer[1]["connection"], await fifth.read()) == (True, "close", b"")
        writer.write(READ)
        assert not is_refusal(await read_answer(reader))


async def test_other_methods_are_never_refused(served: Served) -> None:
    """HEAD, and what no route takes, are answered as ever."""
    served.overload(MOST)
    async with connected(served.port) as (reader, writer):
        writer.write(f"DELETE /v2/requests/{JOB_ID} HTTP/1.1\r\nHost: gw\r\n\r\n".encode())
        assert (await read_answer(reader))[0] == 405
