"""Who waits for which job, woken by one subscription a process.

The scripts announce each change of a job (``reply_job`` in ``lua/_prelude.lua``). Pub/sub may lose it, so every watch
is woken now and then as well, and all of them when a broken subscription is back.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Final

from redis.asyncio import RedisCluster
from redis.asyncio.client import PubSub
from redis.exceptions import ConnectionError as RedisConnectionError

from gateway.core.events import Alert
from gateway.core.ports import Sink
from gateway.store.connect import RedisClient
from gateway.store.keys import JOB_CHANGES

REREAD_S: Final = 5.0
"""How often a watch is woken without a word."""
SLOTS: Final = 50
"""Groups that watches are spread over by chance; one at a time is woken, so that they don't read all at once."""
CATCH_UP_S: Final = 0.5
"""Within this time after a new subscription every watch has been woken."""
SILENCE_S: Final = 10.0
"""After so long without a message the server is asked whether it is still there; after twice as long it is not."""
RETRY_MIN_S: Final = 0.1
RETRY_MAX_S: Final = 5.0


class JobWatch:
    """`core.ports.Watch`."""

    __slots__ = ("_woken",)

    def __init__(self) -> None:
        self._woken = asyncio.Event()

    def wake(self) -> None:
        """Let `changed` return, now or when it is next called."""
        self._woken.set()

    async def changed(self, within_s: float) -> bool:
        """See `Watch.changed`."""
        try:
            async with asyncio.timeout(within_s):
                await self._woken.wait()
        except TimeoutError:
            return False
        self._woken.clear()
        return True


class RedisNotifications:
    """`core.ports.Notifications`, for as long as `run` runs.

    Args:
        client: The subscription takes one connection of it for itself.
        sink: Told once when the subscription breaks.
        reread_s: Each watch is woken at least so often.
        silence_s: See `SILENCE_S`.
    """

    def __init__(
        self,
        client: RedisClient,
        sink: Sink,
        *,
        reread_s: float = REREAD_S,
        silence_s: float = SILENCE_S,
    ) -> None:
        self._client = client
        self._sink = sink
        self._reread_s = reread_s
        self._silence_s = silence_s
        self._by_job: dict[bytes, set[JobWatch]] = {}
        self._slots: tuple[set[JobWatch], ...] = tuple(set() for _ in range(SLOTS))
        self._failures = 0

    def __len__(self) -> int:
        return sum(map(len, self._slots))

    @asynccontextmanager
    async def watch(self, tenant: str, job_id: str) -> AsyncIterator[JobWatch]:
        """See `Notifications.watch`."""
        watch, job = JobWatch(), f"{tenant}/{job_id}".encode()
        group, slot = self._by_job.setdefault(job, set()), random.choice(self._slots)  # noqa: S311 it only spreads load
        group.add(watch)
        slot.add(watch)
        try:
            yield watch
        finally:
            slot.discard(watch)
            group.discard(watch)
            if not group:
                self._by_job.pop(job, None)

    def wake_all(self) -> None:
        """See `Notifications.wake_all`."""
        for slot in self._slots:
            _wake(slot)

    async def run(self) -> None:
        """Listen, and wake every watch now and then, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._wake_in_turn())
            group.create_task(self._listen())

    async def _wake_in_turn(self) -> None:
        while True:
            for slot in self._slots:
                await asyncio.sleep(self._reread_s / SLOTS)
                _wake(slot)

    async def _listen(self) -> None:
        """Keep a subscription; whatever ends one, the next may do, and meanwhile `_wake_in_turn` does."""
        while True:
            try:
                await self._follow()
            except Exception as exc:  # noqa: BLE001 this must not end before its process does
                self._report(exc)
            delay_s = min(RETRY_MAX_S, RETRY_MIN_S * 2 ** min(self._failures, 10))
            self._failures += 1
            await asyncio.sleep(delay_s * random.uniform(0.5, 1))  # noqa: S311 it only spreads load

    def _report(self, exc: Exception) -> None:
        if self._failures == 0:
            detail = f"{type(exc).__name__}: callers that wait for a job see its end up to {self._reread_s:g} s late"
            self._sink(Alert(event="store.subscription_lost", detail=detail))

    async def _follow(self) -> None:
        """Pass messages on until the connection breaks."""
        subscription = await self._subscription()
        try:
            await subscription.subscribe(JOB_CHANGES)
            asked = False
            while True:
                message = await subscription.get_message(timeout=self._silence_s)
                if message is None:
                    if asked:
                        raise RedisConnectionError("the server does not answer")
                    await subscription.ping()
                elif message["type"] == "subscribe":
                    await self._catch_up()
                    continue
                elif message["type"] == "message":
                    _wake(self._by_job.get(message["data"], ()))
                asked, self._failures = message is None, 0
        finally:
            await subscription.aclose()  # type: ignore[no-untyped-call]  # redis-py

    async def _subscription(self) -> PubSub:
        client = self._client
        if not isinstance(client, RedisCluster):
            return client.pubsub()
        # What a node is told reaches all of them; any one will do, another at each attempt.
        await client.initialize()
        return client.pubsub(node=client.get_random_node())

    async def _catch_up(self) -> None:
        """Wake everyone: what changed while nobody listened went unheard."""
        for slot in self._slots:
            if slot:
                _wake(slot)
                await asyncio.sleep(CATCH_UP_S / SLOTS)


def _wake(watches: Iterable[JobWatch]) -> None:
    for watch in watches:
        watch.wake()
