"""A tracker without a process: real store, real upstream client and the sandbox, at a time that the test moves."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from support.ledger import Store, admission, open_store
from support.upstream_client import bench
from support.vendor import KEY, KLING, HandClock

from gateway.catalogue.loader import load_catalogue
from gateway.core.events import Alert, Event, JobEnded
from gateway.core.job import Job
from gateway.core.policy import Policy
from gateway.core.ports import HistoryReader
from gateway.core.queue import DueEntry
from gateway.core.quota import Window
from gateway.core.tenant import Credential, Secret
from gateway.core.vendor import CallContext
from gateway.sandbox import SandboxSettings
from gateway.sandbox.server import Running, running
from gateway.service.clock import StoreClock
from gateway.service.finish import Finisher
from gateway.service.learn import Learner
from gateway.service.missing import Missing
from gateway.service.pace import Pace
from gateway.service.poll import Poller
from gateway.service.rules import Rules
from gateway.service.throttle import Throttle
from gateway.service.track import BUSY_S, Tracker
from gateway.service.watchlist import Watchlist
from gateway.store import keys
from gateway.store.due import RedisDue
from gateway.store.pacing import RedisPacing
from gateway.store.readiness import ensure_epoch
from gateway.store.scripts import load_scripts
from gateway.upstream.auth import KeyRing
from gateway.upstream.client import SegmindUpstream

TENANT: Final = "team"
BODY: Final = b'{"prompt": "cat and dog are dancing."}'
WINDOW: Final = 32


@dataclass(slots=True)
class Figures:
    """Gauges that remember what they were told."""

    jobs: Mapping[str, int] = field(default_factory=dict)
    due: int = 0
    credits_nano: int = 0
    lags_s: list[float] = field(default_factory=list)
    budgets: Mapping[str, Sequence[Window]] = field(default_factory=dict)

    def set_jobs(self, counts: Mapping[str, int]) -> None:
        """See `Gauges.set_jobs`."""
        self.jobs = dict(counts)

    def observe_redis(self, operation: str, duration_s: float) -> None:
        """See `CallWatch.observe_redis`."""

    def count_redis_failure(self) -> None:
        """See `CallWatch.count_redis_failure`."""

    def set_due_jobs(self, count: int) -> None:
        """See `Gauges.set_due_jobs`."""
        self.due = count

    def set_upstream_credits(self, nano: int) -> None:
        """See `Gauges.set_upstream_credits`."""
        self.credits_nano = nano

    def observe_tracker_lag(self, lag_s: float) -> None:
        """See `Gauges.observe_tracker_lag`."""
        self.lags_s.append(lag_s)

    def set_budgets(self, budgets: Mapping[str, Sequence[Window]]) -> None:
        """See `Gauges.set_budgets`."""
        self.budgets = dict(budgets)


@dataclass(slots=True)
class Replica:
    """What one process tracks with."""

    poller: Poller
    tracker: Tracker
    watchlist: Watchlist
    throttle: Throttle
    pace: Pace
    figures: Figures = field(default_factory=Figures)

    async def turn(self) -> float:
        """Let the tracker make rounds until no job waits, and finish them; return the seconds until the next."""
        rest_s = BUSY_S
        while rest_s == BUSY_S:
            rest_s = await self.tracker.round()
            await self.tracker.close(30)
            await self.watchlist.flush()
        return rest_s


@dataclass(slots=True)
class Rig:
    """A store, a vendor, and replicas that track.

    Attributes:
        events: What was told of, by all replicas.
    """

    store: Store
    vendor: Running
    vendor_clock: HandClock
    upstream: SegmindUpstream
    credential: Credential
    rules: Rules
    learner: Learner
    events: list[Event]

    def replica(
        self,
        monotonic: Callable[[], float] = time.monotonic,
        history: HistoryReader | None = None,
        upstream: Any = None,  # noqa: ANN401 what stands before the vendor's client
    ) -> Replica:
        """Make another process's tracker, which reads the vendor's history or another."""
        store, clock, throttle = self.store, StoreClock(), Throttle(WINDOW)
        watchlist, figures = Watchlist(store.due), Figures()
        pace = Pace(RedisPacing(store.scripts, load_scripts()), self.rules)
        poller = Poller(
            ledger=store.ledger,
            jobs=store.jobs,
            upstream=upstream or self.upstream,
            finisher=Finisher(store.ledger, store.jobs, self.learner, self._owing(), self.events.append),
            rules=self.rules,
            throttle=throttle,
            pace=pace,
            missing=Missing(history or self.upstream, monotonic),
            calls=WINDOW,
            gauges=figures,
            sink=self.events.append,
            clock=clock,
        )
        tracker = Tracker(
            poller=poller,
            due=store.due,
            watchlist=watchlist,
            rules=self.rules,
            throttle=throttle,
            wait_s=lambda: max(self.upstream.wait_s("inference"), pace.wait_s("polls")),
            clock=clock,
            gauges=figures,
            sink=self.events.append,
            monotonic=monotonic,
        )
        return Replica(poller, tracker, watchlist, throttle, pace, figures)

    def _owing(self) -> Watchlist:
        return Watchlist(RedisDue(self.store.scripts, load_scripts(), keys.hooks, keys.HOOK_SHARDS))

    async def start(self, model: str = KLING, *, hold: int | None = None, due_in_s: float = 0.0) -> Job:
        """Have a job admitted, accepted by the vendor, and put into the due queue."""
        estimate = self.rules.estimate(model) if hold is None else hold
        request = admission(self.credential, model=model, estimate=estimate, upstream_key="default")
        await self.store.ledger.admit(request)
        upstream_id = await self.upstream.submit(model, BODY, {}, CallContext(tenant=TENANT))
        accepted = await self.store.ledger.accept(TENANT, request.job_id, upstream_id)
        await self.store.due.schedule([DueEntry(TENANT, request.job_id, due_in_s)])
        assert accepted.job is not None
        return accepted.job

    async def find(self, job: Job) -> Job:
        """Read a job's record."""
        found = await self.store.jobs.find(TENANT, job.id)
        assert found is not None
        return found

    async def pass_time(self, seconds: float) -> None:
        """Let time pass: the vendor's clock moves, and every time in the store moves back."""
        self.vendor_clock.now += seconds
        await self.store.pass_time(seconds)

    async def money(self) -> tuple[int, int]:
        """Read what is spent and held, nanocredits."""
        total = (await self.store.jobs.windows(TENANT))[-1]
        return total.spent, total.held

    def polls(self, job: Job) -> tuple[int, int]:
        """Count the vendor's reads of a job: status and result."""
        [seen] = [seen for seen in self.vendor.sandbox.jobs if seen.request_id == job.upstream_id]
        return seen.status_polls, seen.result_polls

    def alerts(self) -> list[str]:
        """Name the alerts so far."""
        return [event.event for event in self.events if isinstance(event, Alert)]

    def ended(self) -> list[JobEnded]:
        """List the ends of jobs that were reported."""
        return [event for event in self.events if isinstance(event, JobEnded)]


@asynccontextmanager
async def rig_on(redis_url: str, *, policy: Policy | None = None, **sandbox: Any) -> AsyncIterator[Rig]:  # noqa: ANN401
    """Put a rig together on an empty store.

    Args:
        redis_url: The store.
        policy: In force.
        sandbox: Fields of `SandboxSettings`.
    """
    clock = HandClock()
    events: list[Event] = []
    policy = policy or Policy()
    async with (
        running(SandboxSettings(api_keys=(KEY,), **sandbox), clock=clock) as vendor,
        open_store(redis_url, policy=policy) as store,
    ):
        await ensure_epoch(store.client)
        rules = Rules(policy, load_catalogue())
        upstream = bench(vendor.url, keys=KeyRing({"default": Secret(KEY)})).client
        learner = Learner(store.experience, rules)
        try:
            yield Rig(store, vendor, clock, upstream, await store.caller(TENANT), rules, learner, events)
        finally:
            await upstream.aclose()
