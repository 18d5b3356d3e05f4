"""Work that runs as long as the process, and the end of the process."""

from __future__ import annotations

import asyncio
from typing import Final

import pytest

from gateway.core.events import Alert, Event
from gateway.core.movements import Finished
from gateway.errors import Refused
from gateway.service import lifetime
from gateway.service.inflight import InFlight
from gateway.service.lifetime import LEAST_S, Drain, finish, running
from gateway.service.outbox import Outbox

WITHIN_S: Final = 0.05


async def test_work_that_fails_is_begun_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A piece of endless work that fails is reported and begun again, and ends with the block."""
    monkeypatch.setattr(lifetime, "RESTART_S", 0.0)
    events: list[Event] = []
    again = asyncio.Event()

    async def work() -> None:
        if not events:
            raise RuntimeError("a surprise")
        again.set()
        await asyncio.Event().wait()

    async with running([work], events.append):
        await again.wait()
    assert [(type(event), getattr(event, "event", "")) for event in events] == [(Alert, "background.failed")]


async def test_a_call_that_does_not_end_holds_up_no_kept_write() -> None:
    """At the end of the process kept writes are made, though a call in hand takes longer than there is time."""
    events: list[Event] = []
    outbox = Outbox(events.append)
    in_flight = InFlight(10, outbox.__len__)
    written = asyncio.Event()

    async def write() -> Finished:
        written.set()
        return Finished(changed=True, job=None)

    endless = in_flight.own(asyncio.Event().wait())
    outbox.keep("one", "job", write)
    await finish(in_flight, outbox, [], WITHIN_S, events.append)
    assert written.is_set()
    assert len(outbox) == 0
    with pytest.raises(Refused, match="shutting down"):
        await in_flight.run(lambda: asyncio.sleep(0))
    endless.cancel()


def test_the_parts_of_the_end_share_its_time() -> None:
    """What one part took is not left to the next, but for a second; it counts from the first who asks."""
    moments_s = [100.0]
    drain = Drain(30, clock=lambda: moments_s[-1])
    left = []
    for moment_s in (200.0, 220.0, 500.0):
        moments_s.append(moment_s)
        drain.begin()
        left.append(drain.left_s())
    assert left == [30, 10, LEAST_S]
