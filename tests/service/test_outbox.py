"""Writes that must happen, while the store confirms all, some or none of them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from gateway.core.events import Alert, Event
from gateway.core.movements import Finished
from gateway.errors import StoreUnavailable
from gateway.service.outbox import AT_ONCE, Outbox


def write(log: list[int], number: int, *, fails: Callable[[], bool]) -> Callable[[], Awaitable[Finished]]:
    """Make a write that notes its number, unless it fails."""

    async def run() -> Finished:
        if fails():
            raise StoreUnavailable("away")
        log.append(number)
        return Finished(changed=True, job=None)

    return run


async def turn(_: float) -> None:
    """Sleep for a turn of the loop."""
    await asyncio.sleep(0)


async def test_writes_for_a_node_that_is_away_hold_up_no_others() -> None:
    """In a cluster with one node away, writes for the others are confirmed; once it is back, its own are too."""
    log: list[int] = []
    away = asyncio.Event()
    away.set()
    outbox = Outbox(lambda _: None, sleep=turn)
    freed: list[int] = []
    for number in range(3 * AT_ONCE):
        outbox.keep("one", str(number), write(log, number, fails=away.is_set), lambda: freed.append(1))
    outbox.keep("one", "-1", write(log, -1, fails=lambda: False), lambda: freed.append(-1))
    running = asyncio.create_task(outbox.run())
    async with asyncio.timeout(10):
        while freed != [-1]:  # noqa: ASYNC110 there is nothing to wait for but its turn
            await asyncio.sleep(0)
    assert (len(outbox), log) == (3 * AT_ONCE, [-1])
    away.clear()
    await asyncio.wait_for(outbox.drained(), 10)
    assert sorted(log) == [-1, *range(3 * AT_ONCE)]
    assert len(freed) == len(log)
    running.cancel()


async def test_a_cut_off_round_loses_no_write() -> None:
    """What is being tried when the outbox is stopped is still kept, and tried when it runs again."""
    log: list[int] = []
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def slow() -> Finished:
        begun.set()
        await go_on.wait()
        log.append(1)
        return Finished(changed=True, job=None)

    outbox = Outbox(lambda _: None, sleep=turn)
    outbox.keep("one", "slow", slow)
    first = asyncio.create_task(outbox.run())
    await asyncio.wait_for(begun.wait(), 10)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    assert (len(outbox), log) == (1, [])
    go_on.set()
    second = asyncio.create_task(outbox.run())
    await asyncio.wait_for(outbox.drained(), 10)
    assert log == [1]
    second.cancel()


async def test_a_write_that_can_not_be_is_told_and_dropped() -> None:
    """A mistake of ours is an alert that names the job; it frees what it held, and the others go on."""
    events: list[Event] = []
    log: list[int] = []
    outbox = Outbox(events.append, sleep=turn)

    async def wrong() -> Finished:
        raise ValueError("a bug")

    outbox.keep("one", "wrong", wrong, lambda: log.append(0))
    outbox.keep("one", "right", write(log, 1, fails=lambda: False))
    running = asyncio.create_task(outbox.run())
    await asyncio.wait_for(outbox.drained(), 10)
    [alert] = [event for event in events if isinstance(event, Alert)]
    assert (alert.event, alert.tenant, alert.job_id) == ("outbox.dropped", "one", "wrong")
    assert sorted(log) == [0, 1]
    running.cancel()
