"""One poll: what the vendor says of a job, brought into its record."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from http import HTTPStatus

from gateway.core.alerts import AlertName
from gateway.core.events import Alert
from gateway.core.faultpoints import NO_FAULTS, FaultPoint, FaultPoints
from gateway.core.job import Job, JobState
from gateway.core.ports import (
    Gauges,
    Jobs,
    Ledger,
    Sink,
    Upstream,
)
from gateway.core.queue import DueEntry
from gateway.core.schedule import (
    FAILURE_MIN_S,
    LAST_CALL_AFTER_S,
    VENDOR_TTL_S,
    next_poll_s,
    overdue_level,
    retry_poll_s,
    spread_s,
)
from gateway.core.vendor import CallContext, VendorState
from gateway.errors import UpstreamError, UpstreamHeldBack, UpstreamInvalidResponse, UpstreamRefused
from gateway.service.fetching import Fetching
from gateway.service.finish import BILLED, Finisher
from gateway.service.missing import CONFIRM_S, COUNTED_FROM_S, Missing
from gateway.service.pace import Pace
from gateway.service.rules import Rules
from gateway.service.throttle import Throttle

SENDING_RETRY_S = 15.0
UNKNOWN_RETRY_S = 60.0
HELD_BACK_RETRY_S = 1.0
"""After a poll that was not made: the tracker claims nothing while none may be."""
RESULTS_AT_ONCE = 16
"""Results are up to 8 MiB each; polls are not held up by them."""
CALLS_A_WAITER = 4
"""One job for so many calls at once waits for such a place in the window, the others in the due queue."""


@dataclass(frozen=True, slots=True)
class _NoResult:
    """Why a COMPLETED job's result could not be fetched; when to try again, unless ``for_good``."""

    why: str
    retry_s: float
    for_good: bool = False


Traced = Callable[[Job], AbstractContextManager[object]]


def _untraced(_: Job) -> AbstractContextManager[object]:
    return nullcontext()


class Poller:
    """Brings one job's record up to the vendor's word.

    Args:
        throttle: Told of every answer of the vendor.
        pace: Told of its refusals, for the whole fleet.
        missing: Told of the jobs that it knows and denies; looks up the latter in its history.
        calls: Calls to the vendor at once; a poll waits for the store before and after its own.
        gauges: Told how late each poll was.
        clock: Unix seconds, Redis's.
        traced: Makes a block a part of a job's trace.
    """

    def __init__(
        self,
        *,
        ledger: Ledger,
        jobs: Jobs,
        upstream: Upstream,
        finisher: Finisher,
        rules: Rules,
        throttle: Throttle,
        pace: Pace,
        missing: Missing,
        calls: int,
        gauges: Gauges,
        sink: Sink,
        clock: Callable[[], float],
        faults: FaultPoints = NO_FAULTS,
        traced: Traced = _untraced,
    ) -> None:
        self._ledger = ledger
        self._jobs = jobs
        self._upstream = upstream
        self._finisher = finisher
        self._rules = rules
        self._throttle = throttle
        self._pace = pace
        self._missing = missing
        self._calls = asyncio.Semaphore(calls)
        self._gauges = gauges
        self._sink = sink
        self._clock = clock
        self._faults = faults
        self._traced = traced
        self._fetching = Fetching(RESULTS_AT_ONCE, calls // CALLS_A_WAITER)

    async def poll(self, entry: DueEntry) -> float | None:
        """Poll a job once; return the seconds until it is due again, None where it has ended.

        Raises:
            StoreUnavailable: The record could not be read or written; the lease brings the job back.
        """
        begun_s = self._clock()
        self._faults.reach(FaultPoint.CLAIMED)
        job = await self._jobs.find(entry.tenant, entry.job_id)
        if job is None:
            detail = "Redis lost this job's record; what the vendor bills for it is nobody's: run `gateway reconcile`"
            self._sink(Alert(event="job.record_lost", detail=detail, tenant=entry.tenant, job_id=entry.job_id))
            return None
        if job.state.terminal:
            return None
        if job.state is not JobState.ACCEPTED or job.upstream_id is None:
            return SENDING_RETRY_S if job.state is JobState.SENDING else UNKNOWN_RETRY_S
        with self._traced(job):
            return await self._ask(job, job.upstream_id, entry, begun_s)

    async def _ask(self, job: Job, upstream_id: str, entry: DueEntry, begun_s: float) -> float | None:
        context = _context(job)
        try:
            async with self._calls:
                self._gauges.observe_tracker_lag(self._clock() - begun_s - entry.due_in_s)
                said = await self._upstream.status(upstream_id, context)
        except UpstreamError as exc:
            return await self._failed(job, exc)
        self._missing.note(job, denied=said.status is None)
        self._throttle.accepted()
        self._faults.reach(FaultPoint.POLLED)
        if said.status == "COMPLETED":
            return await self._complete(job, upstream_id, said, context)
        return await self._follow(job, said, late_s=-entry.due_in_s)

    async def _follow(self, job: Job, said: VendorState, *, late_s: float) -> float | None:
        if said.status == "FAILED":
            await self._finisher.fail(job, said)
            return None
        if said.status is None:
            return await self._denied(job)
        await self._ledger.progress(job.tenant, job.id, said.status)
        return await self._running(job, late_s=late_s)

    async def _running(self, job: Job, *, late_s: float) -> float:
        age_s, expected_s = self._since_s(job.created_ms), self._rules.expected_latency_s(job.model)
        level = overdue_level(age_s, expected_s)
        if level > job.overdue and await self._ledger.note_overdue(job.tenant, job.id, level):
            self._alert(
                job, "job.overdue", f"running for {age_s:.0f} s; its hold stands until the vendor ends or forgets it"
            )
        return spread_s(next_poll_s(age_s, expected_s, late_s), job.id)

    async def _complete(self, job: Job, upstream_id: str, said: VendorState, context: CallContext) -> float | None:
        """Fetch the result and settle; where it can't be had, by the status alone, but not before it must be."""
        async with self._fetching.place(job.created_ms) as given:
            found = await self._fetch(job, upstream_id, context) if given else self._no_place(job)
            if isinstance(found, VendorState):
                self._faults.reach(FaultPoint.FETCHED)
                cost = said.cost if found.cost is None else found.cost
                await self._finisher.complete(job, replace(found, cost=cost))
                return None
        if not found.for_good and self._since_s(job.created_ms) < LAST_CALL_AFTER_S:
            return found.retry_s
        done = await self._finisher.complete(job, said)
        if done.changed:
            detail = f"the result could not be kept: {found.why}; its output files live 7 days at the vendor"
            self._alert(job, "job.result_lost", detail)
        return None

    async def _fetch(self, job: Job, upstream_id: str, context: CallContext) -> VendorState | _NoResult:
        try:
            async with self._calls:
                result = await self._upstream.result(upstream_id, context)
        except UpstreamError as exc:
            unfit = isinstance(exc, UpstreamInvalidResponse) and exc.unfit
            return _NoResult(str(exc), await self._failed(job, exc), for_good=unfit)
        if result.status == "COMPLETED":
            return result
        return _NoResult(f"the vendor's result reads {result.status or 'not found'}", self._retry_s(job))

    def _no_place(self, job: Job) -> _NoResult:
        """Have a job wait in the due queue, not for long: after an outage many end at once, and are fetched soon."""
        return _NoResult("the results of older jobs were still being fetched", spread_s(FAILURE_MIN_S, job.id))

    async def _denied(self, job: Job) -> float | None:
        """Take a 404: believe it the second time, and not while the vendor denies many, unless its hour is over."""
        age_s = self._since_s(job.created_ms)
        if age_s < COUNTED_FROM_S:
            return FAILURE_MIN_S
        job = (await self._ledger.progress(job.tenant, job.id, None)).job or job
        if job.state.terminal:
            return None  # another process was faster
        if job.missing_ms is None or self._since_s(job.missing_ms) < CONFIRM_S:
            return CONFIRM_S
        if (age_s < VENDOR_TTL_S and self._missing.many()) or self._missing.must_wait(job):
            return CONFIRM_S
        row = await self._missing.row(job, round(self._clock() * 1000))
        if row is not None and row.status == "FAILED":
            await self._finisher.fail(job, VendorState("FAILED"))
        elif row is not None and row.status == "COMPLETED":
            await self._finisher.expire(job, BILLED, cost=row.cost)
        elif row is not None and age_s < VENDOR_TTL_S:
            return UNKNOWN_RETRY_S
        else:
            await self._finisher.expire(job)
        return None

    async def _failed(self, job: Job, exc: UpstreamError) -> float:
        """Return when to ask again after no usable answer."""
        if isinstance(exc, UpstreamRefused) and exc.status == HTTPStatus.TOO_MANY_REQUESTS:
            pause_s = self._throttle.refused(exc.retry_after_s or 0)
            await self._pace.limited("polls", pause_s)
            return pause_s
        if isinstance(exc, UpstreamHeldBack):
            return HELD_BACK_RETRY_S
        return self._retry_s(job)

    def _retry_s(self, job: Job) -> float:
        silent_s = self._since_s(job.confirmed_ms or job.created_ms)
        return spread_s(retry_poll_s(self._since_s(job.created_ms), silent_s), job.id)

    def _alert(self, job: Job, event: AlertName, detail: str) -> None:
        self._sink(Alert.of(job, event, detail))

    def _since_s(self, moment_ms: int) -> float:
        return max(0.0, self._clock() - moment_ms / 1000)


def _context(job: Job) -> CallContext:
    return CallContext(
        tenant=job.tenant,
        key_id=job.key_id,
        model=job.model,
        job_id=job.id,
        upstream_id=job.upstream_id or "",
        traceparent=job.traceparent,
        held=job.hold,
        upstream_key=job.upstream_key or "",
    )
