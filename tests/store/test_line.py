"""The shared connection to the store, on a real one."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import pytest
from redis.asyncio import Redis

from gateway.errors import StoreUnavailable
from gateway.store.line import TURN, Line

MANY = 10 * TURN


@pytest.fixture
async def line(valkey_url: str) -> AsyncIterator[Line]:
    """Make a line, with its connection."""
    async with Redis.from_url(valkey_url) as client:
        line = Line(client, deadline_s=30)
        await line.call("PING")
        yield line


async def test_r31_replies_are_handed_out_some_at_a_time(line: Line) -> None:
    """However many replies come at once, what they set going leaves room in the loop for others."""
    loop, turn, handed = asyncio.get_running_loop(), 0, Counter[int]()
    done = asyncio.Event()

    def count_turns() -> None:
        nonlocal turn
        turn += 1
        if not done.is_set():
            loop.call_soon(count_turns)

    async def ask() -> None:
        await line.call("PING")
        handed[turn] += 1

    count_turns()
    await asyncio.gather(*(ask() for _ in range(MANY)))
    done.set()
    assert handed.total() == MANY
    assert max(handed.values()) <= 2 * TURN  # some that waited, and some that have just come


async def test_what_came_before_the_line_broke_counts(line: Line) -> None:
    """A reply that is here is given to its caller, also when the line breaks before its turn; the others fail."""
    calls: list[asyncio.Future[Any]] = [asyncio.ensure_future(line.call("PING")) for _ in range(MANY)]
    await calls[0]
    assert line._wire is not None
    line._wire.cut("test")
    answers = await asyncio.gather(*calls, return_exceptions=True)
    came = answers.count(b"PONG")
    assert came > TURN + 1
    assert all(isinstance(answer, StoreUnavailable) for answer in answers[came:])
    assert await line.call("PING") == b"PONG"


@pytest.mark.parametrize("before", [0, 1, TURN, 3 * TURN])
async def test_what_is_no_reply_breaks_the_line(line: Line, before: int) -> None:
    """Bytes that are no Redis protocol fail each call that has no reply yet; nobody waits for ever."""
    calls: list[asyncio.Future[Any]] = [asyncio.ensure_future(line.call("PING")) for _ in range(MANY)]
    assert line._wire is not None
    line._wire.data_received(b"+PONG\r\n" * before + b"!\r\n")
    async with asyncio.timeout(10):
        answers = await asyncio.gather(*calls, return_exceptions=True)
    assert answers[:before] == [b"PONG"] * before
    assert all(isinstance(answer, StoreUnavailable) for answer in answers[before:])
    assert await line.call("PING") == b"PONG"


async def test_a_reply_to_nothing_breaks_the_line(line: Line) -> None:
    """A reply that nobody asked for is given to nobody: the next call has its own."""
    assert line._wire is not None
    line._wire.data_received(b"+OK\r\n")
    assert await line.call("PING") == b"PONG"
