"""A sync answer on its way from the task that reads it to the caller who streams it."""

from __future__ import annotations

import asyncio

import pytest

from gateway.service.room import Lease, Room
from gateway.service.sync import Relay


async def test_a_caller_that_comes_back_too_late_sees_that_its_answer_is_not_whole() -> None:
    """Who takes nothing for too long holds up nobody, and afterwards is cut off instead of waiting for ever."""
    relay = Relay(Lease(Room(1000)), patience_s=0.01)
    for number in range(8):
        await relay.put(b"%d" % number)
    await relay.end()
    assert relay.kept() == b"01234567"
    async with asyncio.timeout(10):
        with pytest.raises(TimeoutError, match="did not take"):
            async for _ in relay:
                pass


async def test_a_caller_that_left_waits_for_nothing_and_is_waited_for_by_nobody() -> None:
    """What comes after it left is kept, not handed on; it may leave twice."""
    relay = Relay(Lease(Room(1000)), patience_s=3600)
    await relay.put(b"0")
    await relay.aclose()
    await relay.aclose()
    async with asyncio.timeout(10):
        for number in range(1, 8):
            await relay.put(b"%d" % number)
    assert relay.kept() == b"01234567"
