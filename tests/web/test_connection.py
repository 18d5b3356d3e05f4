from __future__ import annotations

import asyncio

import pytest
from starlette.types import Receive, Scope, Send
from web.connection import KEEP_ALIVE_S, Connection

from gateway.web.protocol import HEAD_DEADLINE_S
from gateway.web.stall import STALLED_S

REQUEST = b"GET / HTTP/1.1\r\nHost: gw\r\n\r\n"


class Slow:
    """An app that answers when it is told to."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.go.set()
        self.leaving = self.left = False

    async def __call__(self, _scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or wait for the caller to leave."""
        await self.go.wait()
        while self.leaving and not self.left:
            self.left = (await receive())["type"] == "http.disconnect"
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})


@pytest.fixture
def app() -> Slow:
    """Make an app that answers at once."""
    return Slow()


@pytest.fixture
def connection(app: Slow) -> Connection:
    """Connect to it."""
    return Connection(app)


async def test_an_idle_connection_is_closed(connection: Connection) -> None:
    """A connection is kept for the whole time after its last answer, however many it had, and not for longer."""
    for _ in range(3):
        await connection.receive(REQUEST)
        connection.loop.advance(KEEP_ALIVE_S - 1)
        assert not connection.transport.closed
    connection.loop.advance(1)
    assert connection.transport.closed
    assert connection.written.count(b"200 OK") == 3


async def test_a_connection_at_work_is_not_idle(connection: Connection, app: Slow) -> None:
    """A connection is not closed while its caller waits for an answer, and has its full time after that."""
    await connection.receive(REQUEST)
    app.go.clear()
    await connection.receive(REQUEST)
    connection.loop.advance(10 * KEEP_ALIVE_S)
    assert not connection.transport.closed
    app.go.set()
    await connection.settle()
    connection.loop.advance(KEEP_ALIVE_S - 1)
    assert not connection.transport.closed
    assert connection.written.count(b"200 OK") == 2


@pytest.mark.parametrize("answers", [0, 1, 2])
async def test_each_head_has_its_own_deadline(connection: Connection, answers: int) -> None:
    """A head that has begun must be whole soon, also on a connection that has had answers; a body may take longer."""
    for _ in range(answers):
        await connection.receive(REQUEST)
        connection.loop.advance(KEEP_ALIVE_S - 1)
    await connection.receive(REQUEST[:20])
    connection.loop.advance(HEAD_DEADLINE_S - 1)
    assert not connection.transport.closed
    await connection.receive(REQUEST[20:] + REQUEST[:5])
    connection.loop.advance(HEAD_DEADLINE_S - 1)
    assert not connection.transport.closed
    connection.loop.advance(1)
    assert connection.written.count(b"200 OK") == answers + 1
    assert connection.transport.closed


async def test_a_connection_that_ends_leaves_no_timer(connection: Connection) -> None:
    """Whoever leaves is forgotten at once, not when some timer goes off."""
    await connection.receive(REQUEST + REQUEST[:5])
    connection.protocol.connection_lost(None)
    assert all(timer.cancelled for timer in connection.loop.timers)


async def test_pipelined_requests_are_answered_in_order(connection: Connection, app: Slow) -> None:
    """Requests that arrive before the answers to earlier ones wait for their turn."""
    app.go.clear()
    await connection.receive(REQUEST * 3)
    assert not connection.written
    app.go.set()
    await connection.settle()
    assert connection.written.count(b"200 OK") == 3
    connection.loop.advance(KEEP_ALIVE_S)
    assert connection.transport.closed


async def test_a_caller_who_takes_no_answer_is_cut_off(connection: Connection) -> None:
    """Unread answers hold no connection for ever, whatever the caller still asks; slow reading is no offence."""
    protocol, transport = connection.protocol, connection.transport
    await connection.receive(REQUEST)
    transport.unsent = 1000
    protocol.pause_writing()
    for transport.unsent in (999, 500, 1):
        connection.loop.advance(STALLED_S)
        assert not transport.aborted
    connection.loop.advance(STALLED_S)
    assert transport.aborted


async def test_an_answer_that_was_taken_late_is_forgiven(connection: Connection) -> None:
    """A connection is not cut off for a stall that is over."""
    connection.transport.unsent = 1000
    connection.protocol.pause_writing()
    connection.protocol.resume_writing()
    connection.loop.advance(2 * STALLED_S)
    assert not connection.transport.aborted


async def test_whoever_leaves_is_missed_with_requests_behind(connection: Connection, app: Slow) -> None:
    """The request in hand learns that its caller left, also where others have come behind it."""
    app.leaving = True
    await connection.receive(REQUEST * 3)
    connection.protocol.connection_lost(None)
    await connection.settle()
    assert app.left
