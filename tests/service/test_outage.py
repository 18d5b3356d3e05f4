"""The vendor's poll host is away for five minutes, with 2,000 jobs running that were all submitted at once."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from dataclasses import dataclass, field
from typing import Final, Literal
from uuid import UUID

import pytest
from support.ledger import admission
from support.memory_store import MemoryStore, memory_store
from support.memory_vendor import MemoryVendor
from support.tracking import TENANT, Figures

from gateway.catalogue.loader import load_catalogue
from gateway.core.job import JobState
from gateway.core.policy import Policy
from gateway.core.queue import DueEntry
from gateway.core.schedule import FAILURE_MAX_S, FIRST_POLL_S, spread_s
from gateway.core.vendor import CallContext, VendorState
from gateway.errors import UpstreamAmbiguous, UpstreamHeldBack
from gateway.service.breaker import NamedBreaker
from gateway.service.clock import StoreClock
from gateway.service.finish import Finisher
from gateway.service.learn import Learner
from gateway.service.missing import Missing
from gateway.service.pace import Pace
from gateway.service.poll import Poller
from gateway.service.rules import Rules
from gateway.service.throttle import Throttle
from gateway.service.track import Tracker
from gateway.service.watchlist import Watchlist
from gateway.upstream.hosts import POLICY, shows_up

MODEL: Final = "kling-2.6-standard-motion-control"
JOBS: Final = 2000
SEED: Final = 3
CALLS: Final = 256
WINDOW: Final = 4 * CALLS
STEP_S: Final = 1.0
ENDS_S: Final = 200.0
"""By when every job has COMPLETED: amid the outage."""
OUTAGE_S: Final = 300.0
PROBES: Final = 10
FAILED_POLLS: Final = 12
Trouble = Literal["silent", "breaking"]


@dataclass(slots=True)
class Away(MemoryVendor):
    """A vendor that knows every job, and may be away: a host behind the breaker that the real client has.

    Attributes:
        trouble: What polls meet; None: an answer.
        attempts: Polls so far, of which ``most`` at once.
    """

    began_s: float = 0.0
    trouble: Trouble | None = None
    attempts: int = 0
    under_way: int = 0
    most: int = 0
    breaker: NamedBreaker = field(init=False)

    def __post_init__(self) -> None:
        self.began_s = self.clock()
        self.breaker = NamedBreaker("inference", POLICY, lambda _: None, self.clock)

    async def status(self, upstream_id: str, context: CallContext) -> VendorState:
        """See `Upstream.status`."""
        del upstream_id, context
        ticket = self.breaker.enter()
        if ticket is None:
            raise UpstreamHeldBack("upstream_unavailable", "open", retry_after_s=self.breaker.wait_s())
        self.attempts += 1
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        await asyncio.sleep(0)
        self.under_way -= 1
        failure = UpstreamAmbiguous("away", timed_out=self.trouble == "silent") if self.trouble else None
        self.breaker.report(ticket, up=shows_up("status", failure))
        if failure is not None:
            raise failure
        return VendorState("COMPLETED" if self.clock() >= self.began_s + ENDS_S else "PROCESSING")

    async def result(self, upstream_id: str, context: CallContext) -> VendorState:
        """See `Upstream.result`."""
        del upstream_id, context
        return VendorState("COMPLETED", cost=1, body=b"{}")


@dataclass(slots=True)
class Scene:
    """One process that tracks, on a store in memory, at a time that the test moves."""

    store: MemoryStore
    vendor: Away
    tracker: Tracker
    watchlist: Watchlist

    async def go_on(self, seconds: float) -> list[int]:
        """Track for a while; return how often the vendor was asked in each step."""
        asked = []
        for _ in range(round(seconds / STEP_S)):
            before = self.vendor.attempts
            if await self.tracker.round() < STEP_S:
                await self.tracker.close(30)
                await self.watchlist.flush()
            asked.append(self.vendor.attempts - before)
            await self.store.pass_time(STEP_S)
        return asked

    async def begin(self) -> list[str]:
        """Have all jobs accepted at once; the last digits of their ids spread their polls."""
        credential, ids = await self.store.caller(TENANT, concurrent_jobs=JOBS), []
        draw = random.Random(SEED)  # noqa: S311 not for secrets
        for number in range(JOBS):
            request = admission(credential, model=MODEL, job_id=str(UUID(int=draw.getrandbits(128), version=4)))
            await self.store.ledger.admit(request)
            await self.store.ledger.accept(TENANT, request.job_id, f"v{number}")
            ids.append(request.job_id)
        await self.store.due.schedule([DueEntry(TENANT, one, spread_s(FIRST_POLL_S, one)) for one in ids])
        return ids

    async def states(self, ids: list[str]) -> Counter[JobState]:
        """Count the jobs by state."""
        found = [await self.store.jobs.find(TENANT, one) for one in ids]
        return Counter(job.state for job in found if job is not None)


def scene() -> Scene:
    """Put a process together, as large as the default settings make it."""
    store = memory_store()

    def clock() -> float:
        return store.memory.now_us / 1_000_000

    vendor, rules = Away(clock), Rules(Policy(), load_catalogue())
    watchlist, store_clock, throttle = (
        Watchlist(store.due, monotonic=clock),
        StoreClock(clock, clock),
        Throttle(WINDOW, clock),
    )
    pace, figures = Pace(store.pacing, rules, clock), Figures()
    finisher = Finisher(store.ledger, store.jobs, Learner(store.experience, rules), watchlist, lambda _: None)
    poller = Poller(
        ledger=store.ledger, jobs=store.jobs, upstream=vendor, finisher=finisher, rules=rules, throttle=throttle,
        pace=pace, missing=Missing(vendor, clock), calls=CALLS, gauges=figures, sink=lambda _: None, clock=store_clock,
    )  # fmt: skip
    tracker = Tracker(
        poller=poller, due=store.due, watchlist=watchlist, rules=rules, throttle=throttle,
        wait_s=vendor.breaker.wait_s, clock=store_clock, gauges=figures, sink=lambda _: None, monotonic=clock,
    )  # fmt: skip
    return Scene(store, vendor, tracker, watchlist)


@pytest.mark.parametrize(
    ("trouble", "bound"), [("silent", CALLS + PROBES), ("breaking", FAILED_POLLS * JOBS)], ids=["silent", "breaking"]
)
async def test_an_outage_of_the_poll_host(trouble: Trouble, bound: int) -> None:
    """Polls in vain are bounded (``docs/upstream.md``); then all jobs settle within a minute or so, none EXPIRED.

    At no time are more calls under way than the settings allow, and those that failed together come back apart.
    """
    played = scene()
    ids = await played.begin()
    await played.go_on(10)
    before, played.vendor.trouble = played.vendor.attempts, trouble
    asked = await played.go_on(OUTAGE_S)
    assert 0 < played.vendor.attempts - before <= bound
    if trouble == "breaking":
        assert max(asked[-round(FAILURE_MAX_S / STEP_S) :]) <= JOBS / 8
    assert await played.states(ids) == {JobState.ACCEPTED: JOBS}
    played.vendor.trouble = None
    await played.go_on(1.1 * FAILURE_MAX_S + 10)
    assert await played.states(ids) == {JobState.COMPLETED: JOBS}
    assert played.vendor.most <= CALLS
