"""The tracker: leases the jobs that are due, has each polled, and puts it back for its next time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from gateway.core.events import Alert
from gateway.core.ports import Due, Gauges, Sink
from gateway.core.queue import Claim, DueEntry
from gateway.core.schedule import FAILURE_MIN_S
from gateway.errors import StoreUnavailable
from gateway.service.clock import StoreClock
from gateway.service.poll import Poller
from gateway.service.rules import Rules
from gateway.service.throttle import Throttle
from gateway.service.watchlist import Watchlist

LEASE_S = 15.0
"""A dead tracker's jobs are taken over within this time. A poll that takes longer has its lease renewed."""
RENEW_S = 5.0
ROUND_S = 0.05
"""Between two claims while there is work: a twentieth of a second's jobs share the trips to the store."""
GATHER_S = 0.2
"""Between two claims while there is some work: ten polls together take half the CPU of ten polls apart, each of which
finds the processor's caches cold (310 us each against 535, measured at 80 a second)."""
GATHERED = 16
"""As many polls at once are enough to gain that; more would be in the way of submits."""
BUSY_S = 0.02
"""Between two claims while jobs wait, or there is no room for more."""
IDLE_S = 0.5
STORE_RETRY_S = 1.0
LOOK_S = 1.0
"""While nobody may poll, whether that is still so is looked at after so long."""


@dataclass(frozen=True, slots=True)
class _Poll:
    """A poll under way; ``since_s`` by the monotonic clock."""

    entry: DueEntry
    since_s: float
    task: asyncio.Task[None]


class Tracker:
    """Claims due jobs by lease and polls them. Any number of trackers share the work; a dead one's leases run out.

    Args:
        throttle: Says how many polls may be under way.
        wait_s: Says for how many seconds no poll may be made, whoever learnt that; 0 where one may.
        clock: Is told Redis's time by each claim.
    """

    def __init__(
        self,
        *,
        poller: Poller,
        due: Due,
        watchlist: Watchlist,
        rules: Rules,
        throttle: Throttle,
        wait_s: Callable[[], float],
        clock: StoreClock,
        gauges: Gauges,
        sink: Sink,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._poller = poller
        self._due = due
        self._watchlist = watchlist
        self._rules = rules
        self._throttle = throttle
        self._wait_s = wait_s
        self._clock = clock
        self._gauges = gauges
        self._sink = sink
        self._sleep = sleep
        self._monotonic = monotonic
        self._polls: dict[str, _Poll] = {}

    async def run(self) -> None:
        """Track until cancelled; polls that are under way then finish by `close`."""
        await asyncio.gather(self._track(), self._renew())

    async def close(self, within_s: float) -> None:
        """Let the polls under way finish, and cut off those that don't in time: their jobs are claimed again."""
        tasks = [poll.task for poll in self._polls.values()]
        if not tasks:
            return
        _, late = await asyncio.wait(tasks, timeout=within_s)
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)

    async def round(self) -> float:
        """Claim once what there is room for; return the seconds until the next round. Raises `StoreUnavailable`."""
        pause_s = max(self._throttle.pause_s(), self._wait_s())
        if pause_s > 0:
            return min(pause_s, LOOK_S)
        room, rate = self._throttle.window - len(self._polls), self._rules.policy.upstream_poll_rps
        if room <= 0:
            return BUSY_S
        claim = await self._due.claim(limit=room if rate is None else min(room, max(1, int(rate))), lease_s=LEASE_S)
        self._clock.hear(claim.now_ms)
        self._gauges.set_due_jobs(claim.waiting)
        for entry in claim.entries:
            self._start(entry)
        if rate is not None and claim.entries:
            return await self._due.pace(len(claim.entries), per_second=rate)
        return _rest_s(claim)

    def renew(self) -> None:
        """Prolong the leases of the jobs whose polls take long."""
        since_s = self._monotonic() - RENEW_S
        for poll in self._polls.values():
            if poll.since_s <= since_s:
                self._watchlist.add(DueEntry(poll.entry.tenant, poll.entry.job_id, LEASE_S))

    async def _track(self) -> None:
        while True:
            try:
                rest_s = await self.round()
            except StoreUnavailable:
                rest_s = STORE_RETRY_S
            except Exception as exc:  # noqa: BLE001 whatever it is, the next round may go well, and must be tried
                self._sink(Alert.failure("tracker.failed", exc))
                rest_s = STORE_RETRY_S
            await self._sleep(rest_s)

    async def _renew(self) -> None:
        while True:
            await self._sleep(RENEW_S)
            self.renew()

    def _start(self, entry: DueEntry) -> None:
        if entry.job_id in self._polls:
            return
        task = asyncio.get_running_loop().create_task(self._poll(entry))
        self._polls[entry.job_id] = _Poll(entry, self._monotonic(), task)
        task.add_done_callback(lambda _: self._polls.pop(entry.job_id))

    async def _poll(self, entry: DueEntry) -> None:
        try:
            due_in_s = await self._poller.poll(entry)
        except StoreUnavailable:
            return  # the lease runs out and the job is claimed again
        except Exception as exc:  # noqa: BLE001 one job's surprise must not end the tracking of all
            self._sink(Alert.failure("tracker.failed", exc, tenant=entry.tenant, job_id=entry.job_id))
            due_in_s = FAILURE_MIN_S
        if due_in_s is None:
            self._watchlist.drop(entry)
        else:
            self._watchlist.add(DueEntry(entry.tenant, entry.job_id, due_in_s))


def _rest_s(claim: Claim) -> float:
    """Wait for the next job, but not so long that one which another process queues meanwhile would be late."""
    if claim.waiting:
        return BUSY_S
    next_in_s = IDLE_S if claim.next_in_s is None else claim.next_in_s
    round_s = GATHER_S if 1 < len(claim.entries) < GATHERED else ROUND_S
    return min(max(next_in_s, round_s), IDLE_S)
