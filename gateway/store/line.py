"""One connection that many callers share: commands go out together, replies come back in order.

redis-py takes a connection from its pool, a task and a timer for each command (50 us of CPU a script call, measured);
here a call is a packed command and a future (4 us). redis-py still makes the connection, with all that TLS, passwords,
databases and sentinels ask for. Nothing is ever sent twice: when the line breaks, every call under way fails.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Coroutine
from typing import Any, cast

import hiredis
from redis.asyncio import Redis
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import NoScriptError, ResponseError

from gateway.errors import StoreUnavailable
from gateway.store.connect import store_errors
from gateway.store.refusals import STALE_CODES, refusal_code

MAX_PENDING = 10_000
TURN = 16
"""Replies handed out with one turn of the loop: what their callers do next must not keep new requests waiting."""
LOOK_S = 0.01
"""A reply that has come and waits for its turn is not missing: the line is looked at again so soon."""

Word = str | bytes | int


class _Wire(asyncio.Protocol):
    """The connection itself: what was sent and awaits its reply, oldest first."""

    def __init__(self, connection: AbstractConnection, deadline_s: float) -> None:
        self.connection = connection
        self.lost = False
        self._deadline_s = deadline_s
        self._loop = asyncio.get_running_loop()
        self._reader = hiredis.Reader()
        self._pending: deque[tuple[asyncio.Future[Any], float]] = deque()
        self._unsent: list[bytes] = []
        self._handing = False
        self._watch: asyncio.TimerHandle | None = None
        # redis-py has no public way to a connection's transport; the tests of this module fail should it move.
        self._transport = cast("asyncio.Transport", connection._writer.transport)  # type: ignore[union-attr]  # noqa: SLF001
        self._former = self._transport.get_protocol()
        self._transport.set_protocol(self)

    def call(self, words: tuple[Word, ...]) -> asyncio.Future[Any]:
        """Send a command with this turn of the loop; the future is its reply, or what went wrong."""
        if self.lost or len(self._pending) >= MAX_PENDING:
            raise StoreUnavailable("the line is lost or full")
        if not self._unsent:
            self._loop.call_soon(self._send)
        self._unsent.append(hiredis.pack_command(words))  # type: ignore[arg-type]  # its stub types a tuple of one
        reply = self._loop.create_future()
        due = self._loop.time() + self._deadline_s
        self._pending.append((reply, due))
        if self._watch is None:
            self._watch = self._loop.call_at(due, self._look)
        return reply

    def data_received(self, data: bytes) -> None:
        """Hand each reply to the call whose turn it is."""
        self._reader.feed(data)
        if not self._handing:
            self._hand_out()

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail what is under way."""
        self._fail(str(exc or "the connection was closed"))
        self._former.connection_lost(exc)

    def cut(self, reason: str) -> None:
        """Break the line: what is under way fails."""
        self._fail(reason)
        self._transport.abort()

    def _hand_out(self) -> None:
        try:
            self._handing = all(self._hand_next() for _ in range(TURN))
        except hiredis.ProtocolError as exc:
            self.cut(str(exc))
            return
        if self._handing:
            self._loop.call_soon(self._hand_out)

    def _hand_next(self) -> bool:
        """Hand out one reply; False where no whole one has come.

        Raises:
            hiredis.ProtocolError: What came is no reply, or one to nothing.
        """
        value = self._reader.gets()
        if value is False:  # RESP2 has no False
            return False
        if not self._pending:
            raise hiredis.ProtocolError("a reply that nobody asked for")
        reply, _ = self._pending.popleft()
        if not reply.done():
            if isinstance(value, hiredis.ReplyError):
                reply.set_exception(self._failure(str(value)))
            else:
                reply.set_result(value)
        return True

    def _send(self) -> None:
        if not self.lost:
            self._transport.write(b"".join(self._unsent))
        self._unsent.clear()

    def _look(self) -> None:
        """Break a line whose oldest call has waited too long: the server is stalled, and with it all others."""
        self._watch = None
        if not self._pending:
            return
        due, now = self._pending[0][1], self._loop.time()
        if due <= now and not self._handing:
            self.cut("no reply in time")
        else:
            self._watch = self._loop.call_at(max(due, now + LOOK_S), self._look)

    def _failure(self, text: str) -> Exception:
        text = text.removeprefix("ERR ")
        if text.startswith("NOSCRIPT"):
            return NoScriptError(text)
        code = refusal_code(text)
        if code in STALE_CODES:
            self._loop.call_soon(self.cut, text)
        return StoreUnavailable(text) if code else ResponseError(text)

    def _fail(self, reason: str) -> None:
        self.lost = True
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        with contextlib.suppress(hiredis.ProtocolError):
            while self._hand_next():  # what came before the end counts
                pass
        while self._pending:
            reply, _ = self._pending.popleft()
            if not reply.done():
                reply.set_exception(StoreUnavailable(reason))


class Line:
    """The shared connection to one server, made when it is first needed and again when it broke.

    Args:
        client: Its pool lends the connection; closing the client closes the line.
        deadline_s: Seconds to wait for a reply, or for the connection to be made.
    """

    def __init__(self, client: Redis, *, deadline_s: float) -> None:
        self._pool = client.connection_pool
        self._deadline_s = deadline_s
        self._wire: _Wire | None = None
        self._making: asyncio.Task[_Wire] | None = None

    def call(self, *words: Word) -> Awaitable[Any]:
        """Run a command once, at most.

        Raises:
            StoreUnavailable: No reply came in time; the command may have run, or will yet run.
            ResponseError: The command itself failed.
        """
        wire = self._wire
        return self._call_new(words) if wire is None or wire.lost else wire.call(words)

    async def _call_new(self, words: tuple[Word, ...]) -> Any:  # noqa: ANN401 a reply is whatever the command returns
        with store_errors():
            async with asyncio.timeout(self._deadline_s):  # for both: a server may accept connections and then stall
                wire = await self._connected()
                return await wire.call(words)

    async def _connected(self) -> _Wire:
        """Return a live wire; callers who come together share one attempt."""
        if self._making is None or self._making.done():
            self._making = _task(self._connect())
        return await asyncio.shield(self._making)

    async def _connect(self) -> _Wire:
        with store_errors():
            if self._wire is not None:
                await self._give_back(self._wire.connection)
            async with asyncio.timeout(self._deadline_s):
                connection = await self._pool.get_connection()  # type: ignore[no-untyped-call]  # redis-py
            self._wire = _Wire(connection, self._deadline_s)
            return self._wire

    async def _give_back(self, connection: AbstractConnection) -> None:
        self._wire = None
        with contextlib.suppress(Exception):  # it is broken already
            await connection.disconnect(nowait=True)
        await self._pool.release(connection)


def _task(work: Coroutine[Any, Any, _Wire]) -> asyncio.Task[_Wire]:
    task = asyncio.get_running_loop().create_task(work)
    task.add_done_callback(_read)
    return task


def _read(task: asyncio.Task[_Wire]) -> None:
    """Look at how an attempt ended, should every caller have left."""
    if not task.cancelled():
        task.exception()
