"""What operators see of all jobs, and how they end one that the gateway can't end by itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, Protocol

from gateway.core.adoption import Doubt
from gateway.core.job import Job, JobState
from gateway.core.movements import Finished, FreeState, Release, Settlement
from gateway.core.ports import Doubts, Ledger
from gateway.errors import Refused

ACTOR: Final = "operator"
_RELEASED_AS: Final[Mapping[JobState, FreeState]] = {
    JobState.UNKNOWN: JobState.REJECTED,
    JobState.ACCEPTED: JobState.FAILED,
}


class Survey(Protocol):
    """Reads the jobs of all tenants. Raises `StoreUnavailable`."""

    async def newest(self, *, limit: int, state: JobState | None = None, tenant: str | None = None) -> Sequence[Job]:
        """Read the newest jobs, newest first; with a state, those of each tenant's last 1,000 that are in it."""

    async def find(self, job_id: str) -> Job | None:
        """Find a job, whose id does not name its tenant."""


class JobAdmin:
    """What operators do about jobs. Raises `StoreUnavailable`; a write may then be run again."""

    def __init__(self, survey: Survey, doubts: Doubts, ledger: Ledger) -> None:
        self._survey = survey
        self._doubts = doubts
        self._ledger = ledger

    async def newest(self, *, limit: int, state: JobState | None = None, tenant: str | None = None) -> Sequence[Job]:
        """List the newest jobs, of all tenants or of one."""
        return await self._survey.newest(limit=limit, state=state, tenant=tenant)

    async def find(self, job_id: str) -> Job:
        """Find a job of any tenant. Raises `Refused` where there is none."""
        job = await self._survey.find(job_id)
        if job is None:
            raise Refused("not_found", f"there is no job {job_id!r}")
        return job

    async def unknown(self) -> Sequence[Doubt]:
        """List every UNKNOWN job, oldest first."""
        doubts, _ = await self._doubts.unknown()
        return sorted(doubts, key=lambda doubt: doubt.job.created_ms)

    async def charge(self, job_id: str, cost: int, reason: str, *, running: bool = False) -> Job:
        """End a job by charging what an operator found out that it cost, nanocredits; there is no result.

        With ``running`` also one that is followed at the vendor, which runs and bills it.

        Raises:
            Refused: There is no such job, or it is not UNKNOWN (or running), or no longer.
        """
        job = await self._open(job_id, running=running)
        said = f"charged by an operator: {reason}"
        settlement = Settlement(
            tenant=job.tenant,
            job_id=job.id,
            state=JobState.EXPIRED,
            cost=cost,
            reason=said,
            actor=ACTOR,
            only_from=job.state,
        )
        return _changed(await self._ledger.settle(settlement))

    async def release(self, job_id: str, reason: str, *, running: bool = False) -> Job:
        """End a job without a charge. Takes and raises as `charge`."""
        job = await self._open(job_id, running=running)
        release = Release(
            tenant=job.tenant,
            job_id=job.id,
            state=_RELEASED_AS[job.state],
            code="upstream_error",
            reason=f"released by an operator: {reason}",
            actor=ACTOR,
        )
        return _changed(await self._ledger.release(release))

    async def _open(self, job_id: str, *, running: bool) -> Job:
        job = await self.find(job_id)
        if job.state.terminal:
            raise Refused("invalid_request", f"job {job_id} has ended: {job.state}")
        if job.state is JobState.SENDING:
            raise Refused("invalid_request", f"job {job_id} is being sent; should its process die, it becomes UNKNOWN")
        if job.state is JobState.ACCEPTED and not running:
            raise Refused(
                "invalid_request",
                f"job {job_id} runs at the vendor as {job.upstream_id}: --running ends it all the same",
            )
        return job


def _changed(done: Finished) -> Job:
    if not done.changed or done.job is None:
        raise Refused("invalid_request", "the job has changed meanwhile: look again")
    return done.job
