"""Notifications for tests: in memory, with a clock that the test moves; and the real ones, already listening."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from gateway.core.ports import Sink
from gateway.store.connect import RedisClient
from gateway.store.keys import JOB_CHANGES
from gateway.store.waiters import RedisNotifications

HOUR_S: Final = 3600.0
DEADLINE_S: Final = 30.0


class FakeWatch:
    """See `Watch`."""

    def __init__(self, owner: FakeNotifications) -> None:
        self.owner = owner
        self.woken = False
        self.stir = asyncio.Event()

    async def changed(self, within_s: float) -> bool:
        """See `Watch`."""
        until = self.owner.now + within_s
        while not self.woken and self.owner.now < until:
            await self.stir.wait()
            self.stir.clear()
        woken, self.woken = self.woken, False
        return woken


class FakeNotifications:
    """See `Notifications`.

    Attributes:
        now: Seconds, as `clock` tells them.
    """

    def __init__(self) -> None:
        self.now = 0.0
        self._watches: list[tuple[str, str, FakeWatch]] = []

    def __len__(self) -> int:
        return len(self._watches)

    def clock(self) -> float:
        """Tell the time."""
        return self.now

    @asynccontextmanager
    async def watch(self, tenant: str, job_id: str) -> AsyncIterator[FakeWatch]:
        """See `Notifications`."""
        entry = (tenant, job_id, FakeWatch(self))
        self._watches.append(entry)
        try:
            yield entry[2]
        finally:
            self._watches.remove(entry)

    def wake_all(self) -> None:
        """See `Notifications`."""
        for _, _, watch in self._watches:
            watch.woken = True
            watch.stir.set()

    def announce(self, tenant: str, job_id: str) -> None:
        """Say that a job changed."""
        for *job, watch in self._watches:
            if job == [tenant, job_id]:
                watch.woken = True
                watch.stir.set()

    def pass_time(self, seconds: float) -> None:
        """Let time go by."""
        self.now += seconds
        for _, _, watch in self._watches:
            watch.stir.set()


@asynccontextmanager
async def listening(
    client: RedisClient, *, sink: Sink | None = None, reread_s: float = HOUR_S, silence_s: float = HOUR_S
) -> AsyncIterator[RedisNotifications]:
    """Run a subscription that is in force when the block begins; unless asked for, nothing but word wakes a watch."""
    notifications = RedisNotifications(client, sink or (lambda _: None), reread_s=reread_s, silence_s=silence_s)
    running = asyncio.create_task(notifications.run())
    try:
        async with notifications.watch("probe", "probe") as probe:
            assert await probe.changed(DEADLINE_S)  # the subscription is new, and catches up
            await client.publish(JOB_CHANGES, "probe/probe")
            assert await probe.changed(DEADLINE_S)  # word comes only after all have caught up
        yield notifications
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
