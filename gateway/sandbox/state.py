"""Everything one sandbox remembers; also the handle by which in-process tests reach into it."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, Field

from gateway.sandbox.account import Account
from gateway.sandbox.faults import Fault, FaultBoard
from gateway.sandbox.jobs import Job, plan, state_at
from gateway.sandbox.models import Model
from gateway.sandbox.oracle import Oracle, describe
from gateway.sandbox.settings import SandboxSettings

_ASSETS_MAX_BYTES = 32 * 2**20


class Knobs(BaseModel):
    """Hold what can be turned while the sandbox runs, besides faults and the balance.

    Attributes:
        rate_limit_rpm: Billable POSTs a minute; None: no limit.
        history_delay_s: Seconds until a request shows up in the request history.
        failure_rate: Share of jobs that end FAILED, 0-1.
        team_limit_reached: Refuse jobs with the 406 of a team's spend limit.
    """

    model_config = ConfigDict(extra="forbid", validate_assignment=True)

    rate_limit_rpm: int | None = Field(default=None, ge=1)
    history_delay_s: float = Field(default=0.0, ge=0)
    failure_rate: float = Field(default=0.0, ge=0, le=1)
    team_limit_reached: bool = False


@dataclass(frozen=True, slots=True)
class Call:
    """Remember one received call; `headers` as they arrived, duplicates included."""

    at: float
    method: str
    path: str
    query: str
    headers: Sequence[tuple[bytes, bytes]]


class Sandbox:
    """Hold the vendor's side: account, jobs, uploads, faults and what was called.

    Attributes:
        settings: What it was started with.
        clock: Source of time, epoch seconds.
        knobs: Run-time settings.
        faults: Armed faults.
        calls: The last calls received, oldest first, the sandbox's own routes left out.
        closing: Set when the server stops: ends hangs and delays.
    """

    def __init__(self, settings: SandboxSettings, clock: Callable[[], float]) -> None:
        self.settings = settings
        self.clock = clock
        self.closing = asyncio.Event()
        self.calls: deque[Call] = deque(maxlen=settings.kept_calls)
        self.faults = FaultBoard()
        self._oracle = Oracle(settings.record_path) if settings.record_path else None
        self.reset()

    def reset(self) -> None:
        """Return to the state of a fresh start; the oracle's file is kept."""
        self.knobs = Knobs(
            rate_limit_rpm=self.settings.rate_limit_rpm,
            history_delay_s=self.settings.history_delay_s,
            failure_rate=self.settings.failure_rate,
        )
        self.faults.replace(())
        self.calls.clear()
        self.account = Account(self.settings.balance)
        self._jobs: OrderedDict[str, Job] = OrderedDict()
        self._assets: OrderedDict[str, tuple[str, bytes]] = OrderedDict()
        self._assets_bytes = 0
        self._accepted = 0

    def close(self) -> None:
        """Release the oracle's file."""
        if self._oracle is not None:
            self._oracle.close()
            self._oracle = None

    async def pause(self, seconds: float) -> None:
        """Wait, in real seconds, but not beyond the end of the server."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self.closing.wait(), seconds)

    async def accept(
        self, model: Model, params: Mapping[str, object], *, body: bytes, key: str, faults: Sequence[Fault]
    ) -> Job:
        """Accept a job: plan it, remember it, and have it on disk before returning.

        Raises:
            OSError: The oracle could not write it down.
        """
        self._accepted += 1
        job = plan(
            self.settings,
            model,
            params,
            number=self._accepted,
            now=self.clock(),
            body=body,
            key=key,
            failure_rate=self.knobs.failure_rate,
            faults=faults,
        )
        if self._oracle is not None:
            await self._oracle.append(job)
        self._jobs[job.request_id] = job
        self.account.bill_at_end(job)
        while len(self._jobs) > self.settings.kept_jobs:
            self._jobs.popitem(last=False)
        return job

    def live_job(self, request_id: str) -> Job | None:
        """Return the job if the vendor still keeps its record."""
        job = self._jobs.get(request_id)
        return job if job is not None and self.clock() < job.expires_at else None

    def any_job(self, request_id: str) -> Job | None:
        """Return the job even after its record expired (request history, output files)."""
        return self._jobs.get(request_id)

    @property
    def jobs(self) -> Sequence[Job]:
        """Return the accepted jobs that are still in memory, oldest first, expired ones included."""
        return tuple(self._jobs.values())

    @property
    def accepted(self) -> list[dict[str, object]]:
        """Return what was accepted, oldest first, with the state now and the polls of each."""
        now = self.clock()
        return [
            describe(job)
            | {
                "status": state_at(job, now),
                "ends_at": job.ends_at if job.ends_at < float("inf") else None,
                "expires_at": job.expires_at,
                "status_polls": job.status_polls,
                "result_polls": job.result_polls,
            }
            for job in self._jobs.values()
        ]

    def keep_asset(self, name: str, media_type: str, content: bytes) -> None:
        """Keep an uploaded file, at the expense of the oldest ones."""
        self._assets[name] = (media_type, content)
        self._assets_bytes += len(content)
        while self._assets_bytes > _ASSETS_MAX_BYTES and len(self._assets) > 1:
            self._assets_bytes -= len(self._assets.popitem(last=False)[1][1])

    def asset(self, name: str) -> tuple[str, bytes] | None:
        """Return media type and content of an uploaded file."""
        return self._assets.get(name)
