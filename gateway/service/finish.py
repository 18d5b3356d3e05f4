"""The end of a job: what the vendor said of it becomes one settlement or release, and one event."""

from __future__ import annotations

import asyncio

from gateway.core.alerts import AlertName
from gateway.core.balance import replace_balance
from gateway.core.credits import format_credits
from gateway.core.events import Alert, JobEnded
from gateway.core.faultpoints import NO_FAULTS, FaultPoint, FaultPoints
from gateway.core.job import Job, JobState
from gateway.core.movements import (
    Finished,
    Release,
    Settlement,
    StoredResult,
)
from gateway.core.ports import Jobs, Ledger, Sink
from gateway.core.queue import DueEntry
from gateway.core.quota import least_remaining
from gateway.core.vendor import VendorState
from gateway.service.learn import Learner
from gateway.service.outbox import Write
from gateway.service.watchlist import Watchlist

THREAD_FROM_BYTES = 256 * 1024
"""Larger results are searched in a thread: their scan takes up to a second, and the event loop must go on."""

GONE = "the vendor no longer knows this job; it was charged at its hold"
BILLED = "the vendor no longer has this job's result; it was charged what the vendor's history says that it cost"


class Finisher:
    """Ends jobs by the vendor's word. Every method may run twice: the second time changes and reports nothing.

    Raises `StoreUnavailable` when the store did not confirm.

    Args:
        owing: Told of tenants that owe a webhook from now on; that they do is on record already.
    """

    def __init__(
        self,
        ledger: Ledger,
        jobs: Jobs,
        learner: Learner,
        owing: Watchlist,
        sink: Sink,
        *,
        faults: FaultPoints = NO_FAULTS,
    ) -> None:
        self._ledger = ledger
        self._jobs = jobs
        self._learner = learner
        self._owing = owing
        self._sink = sink
        self._faults = faults

    async def complete(
        self, job: Job, said: VendorState, *, actor: str = "tracker", only_from: JobState | None = None
    ) -> Finished:
        """Charge what the vendor reported, or the hold where it reported nothing that makes sense; keep the result.

        For ``only_from`` see `Settlement`.
        """
        result = await self._result(job, said)
        settlement = Settlement(
            tenant=job.tenant,
            job_id=job.id,
            state=JobState.COMPLETED,
            cost=said.cost,
            result=result,
            upstream_id=job.upstream_id,
            actor=actor,
            only_from=only_from,
        )
        done = await self._recorded(lambda: self._ledger.settle(settlement))
        if done.changed and said.cost is None:
            detail = "the vendor reported no usable cost; the hold was charged, compare with the vendor's history"
            self._alert(job, "job.cost_estimated", detail)
        self._report(done)
        if done.changed and done.job is not None:
            await self._learner.note(job, done.job)
        return done

    async def fail(self, job: Job, said: VendorState) -> Finished:
        """Release the hold of a job that FAILED: the vendor bills only what COMPLETED."""
        release = Release(
            tenant=job.tenant, job_id=job.id, state=JobState.FAILED, reason=said.error or "the vendor gave no reason"
        )
        return self._report(await self._recorded(lambda: self._ledger.release(release)))

    async def reject(self, job: Job, reason: str) -> Finished:
        """Release the hold of a job that the vendor never had; its idempotency key stands, and is told the reason."""
        release = Release(
            tenant=job.tenant, job_id=job.id, state=JobState.REJECTED, code="upstream_error", reason=reason
        )
        done = await self._recorded(lambda: self._ledger.release(release))
        if done.changed:
            self._alert(job, "job.released", reason)
        return self._report(done)

    async def expire(self, job: Job, reason: str = GONE, *, cost: int | None = None) -> Finished:
        """Charge a job whose result nobody can have: what the history says that it cost, else its hold.

        It may have been billed. It is ended in the state in which it was read only: see `Settlement`.
        """
        settlement = Settlement(
            tenant=job.tenant, job_id=job.id, state=JobState.EXPIRED, cost=cost, reason=reason, only_from=job.state
        )
        done = await self._recorded(lambda: self._ledger.settle(settlement))
        if done.changed:
            what = "compare its charge with the vendor's history" if cost is None else "its result is lost"
            self._alert(job, "job.expired", f"{reason}; {what}")
        return self._report(done)

    async def _result(self, job: Job, said: VendorState) -> StoredResult | None:
        """Make the body fit for the tenant: the balance in it becomes the tenant's own, and so does the job's id."""
        if not said.body:
            return None
        received = said.body
        if job.upstream_id and job.kind == "async":
            received = received.replace(f'"{job.upstream_id}"'.encode(), f'"{job.id}"'.encode())
        remaining = least_remaining(await self._jobs.windows(job.tenant))
        own = format_credits(remaining)
        if len(received) < THREAD_FROM_BYTES:
            body = replace_balance(received, own)
        else:
            body = await asyncio.to_thread(replace_balance, received, own)
        return StoredResult(body=body, content_type=said.content_type, headers=said.headers)

    async def _recorded(self, write: Write) -> Finished:
        self._faults.reach(FaultPoint.BEFORE_END)
        done = await write()
        self._faults.reach(FaultPoint.ENDED)
        return done

    def _report(self, done: Finished) -> Finished:
        job = done.job
        if done.changed and job is not None:
            self._sink(ended(job))
            if job.webhook_url is not None:
                self._owing.add(DueEntry(job.tenant, ""))
        return done

    def _alert(self, job: Job, event: AlertName, detail: str) -> None:
        self._sink(Alert.of(job, event, detail))


def ended(job: Job) -> JobEnded:
    """Say what became of a job that has ended."""
    cost = job.cost or 0
    return JobEnded(
        tenant=job.tenant,
        key_id=job.key_id,
        model=job.model,
        job_id=job.id,
        upstream_id=job.upstream_id or "",
        state=job.state,
        held=job.hold,
        cost=cost,
        estimated=job.estimated,
        overrun=max(0, cost - job.hold),
        duration_ms=(job.finished_ms or job.created_ms) - job.created_ms,
        code=job.code or "",
    )
