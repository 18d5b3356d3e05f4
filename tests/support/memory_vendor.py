"""A vendor in memory: it keeps count of what it took and bills, and misbehaves as it is told.

Behind the ports `core.ports.Upstream` and `core.ports.HistoryReader`, held to the same contracts as the real client on
the sandbox. What it took is the oracle of tests: for which job of ours each POST came, and what it costs.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final, Literal

import orjson

from gateway.core.adoption import History, HistoryRow
from gateway.core.breaker import BreakerName
from gateway.core.inputs import fingerprint, parse_object
from gateway.core.job import JobKind, VendorStatus
from gateway.core.vendor import CallContext, VendorAnswer, VendorState
from gateway.errors import (
    UpstreamAmbiguous,
    UpstreamError,
    UpstreamInvalidResponse,
    UpstreamRefused,
    UpstreamUnsent,
)

RECORD_TTL_S: Final = 3600.0
SUBMIT_TIMEOUT_S: Final = 60.0
SYNC_TIMEOUT_S: Final = 600.0
Trouble = Literal["lost", "limited", "missing", "stale", "garbage"]
SHOWN_S: Final = 30 * 86_400.0
"""So far back the history is asked whether it shows a model at all."""
IN_BETWEEN: Final = frozenset({502, 503, 504})
"""Statuses that don't tell whether a job was taken."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What becomes of the next POST.

    Attributes:
        answer: ``ok``; ``lost``: the connection breaks; ``nonsense``: it can't be read; ``unsent``: no connection
            comes about; or the status of a refusal, or of those `IN_BETWEEN`.
        takes: The job runs, whatever is answered; never one that is refused or unsent.
        parked: No answer comes until `MemoryVendor.release`, or the caller's time-out.
        late_s: A job whose caller hears nothing of it is taken so much later than its POST came.
        runs_s: How long it runs.
        fails: It ends as FAILED, and is not billed.
        cost: Nanocredits, as billed; `reported` as told in the result, None: not told.
        listed_s: So much later it appears in the request history.
        breaks: A sync answer breaks off.
    """

    answer: Literal["ok", "lost", "nonsense", "unsent"] | int = "ok"
    takes: bool = True
    parked: bool = False
    late_s: float = 0.0
    runs_s: float = 30.0
    fails: bool = False
    cost: int = 10
    reported: int | None = 10
    listed_s: float = 0.0
    breaks: bool = False

    @property
    def taken(self) -> bool:
        """Tell whether the job runs."""
        return self.answer == "ok" or (self.unclear and self.takes)

    @property
    def unclear(self) -> bool:
        """Tell whether the caller can't know if the job runs."""
        return self.answer in {"lost", "nonsense", *IN_BETWEEN}


@dataclass(slots=True)
class VendorJob:
    """A job that the vendor runs or has run; `job_id` is ours, `denied` how often it said that it knows no such job."""

    id: str
    job_id: str
    kind: JobKind
    model: str
    fingerprint: str
    created_s: float
    plan: Plan
    forgotten: bool = False
    denied: int = 0

    def word(self, now_s: float) -> VendorStatus:
        """Return how it stands."""
        age_s = now_s - self.created_s
        if age_s < self.plan.runs_s:
            return "QUEUED" if age_s < self.plan.runs_s / 4 else "PROCESSING"
        return "FAILED" if self.plan.fails else "COMPLETED"

    def bill(self, now_s: float) -> int:
        """Return what it is billed so far, nanocredits."""
        return self.plan.cost if self.word(now_s) == "COMPLETED" else 0


@dataclass(slots=True)
class Parked:
    """A call that waits for its answer until the caller's time is up, and the job that it will be, if any."""

    answer: asyncio.Future[None]
    until_s: float


@dataclass(slots=True)
class MemoryStream:
    """See `SyncStream`."""

    status: int
    headers: Mapping[str, str]
    cost: int | None
    upstream_id: str | None
    breaks: bool

    async def chunks(self) -> AsyncIterator[bytes]:
        """See `SyncStream.chunks`."""
        yield b"half"
        if self.breaks:
            raise UpstreamAmbiguous("the answer broke off")
        yield b"whole"

    async def aclose(self) -> None:
        """See `SyncStream.aclose`."""


@dataclass(slots=True)
class MemoryVendor:
    """See `Upstream` and `HistoryReader`.

    Attributes:
        clock: Unix seconds.
        plans: What becomes of the next POSTs; a further one is taken and answered.
        posts: How often a POST for each job of ours may have arrived; `posted_s`: when any did.
        troubles: What becomes of the next polls; a further one is answered as it should be.
        readable: The history can be read.
        known: The history shows every model, if only a request of long ago.
        in_vain_s: When the history could last not be read, or did not show the model at all.
    """

    clock: Callable[[], float]
    plans: deque[Plan] = field(default_factory=deque)
    jobs: list[VendorJob] = field(default_factory=list)
    posts: Counter[str] = field(default_factory=Counter)
    posted_s: list[float] = field(default_factory=list)
    parked: list[Parked] = field(default_factory=list)
    troubles: deque[Trouble] = field(default_factory=deque)
    readable: bool = True
    known: bool = False
    in_vain_s: float = 0.0
    _late: list[VendorJob] = field(default_factory=list)

    def current_key(self) -> str:
        """See `Upstream.current_key`."""
        return "default"

    def wait_s(self, host: BreakerName) -> float:
        """See `Upstream.wait_s`: it has no breaker."""
        del host
        return 0.0

    async def submit(self, model: str, body: bytes, headers: Mapping[str, str], context: CallContext) -> str:
        """See `Upstream.submit`."""
        del headers
        return (await self._post("async", model, body, context)).id

    async def sync(self, model: str, body: bytes, headers: Mapping[str, str], context: CallContext) -> MemoryStream:
        """See `Upstream.sync`."""
        del headers
        job = await self._post("sync", model, body, context)
        job.plan = replace(job.plan, runs_s=0.0)  # it has run by now
        if job.plan.fails:
            raise UpstreamRefused(500, "the model failed")
        return MemoryStream(200, {"content-type": "application/json"}, job.plan.reported, job.id, job.plan.breaks)

    async def upload(self, body: bytes, headers: Mapping[str, str], context: CallContext) -> VendorAnswer:
        """See `Upstream.upload`."""
        del headers, context
        urls = [f"https://files.example/{number}" for number, _ in enumerate(orjson.loads(body)["data_urls"])]
        return VendorAnswer(200, {"content-type": "application/json"}, orjson.dumps({"file_urls": urls}))

    async def status(self, upstream_id: str, context: CallContext) -> VendorState:
        """See `Upstream.status`."""
        return self._state(upstream_id, context, full=False)

    async def result(self, upstream_id: str, context: CallContext) -> VendorState:
        """See `Upstream.result`."""
        return self._state(upstream_id, context, full=True)

    async def history(self, model: str, *, since_ms: int, now_ms: int, upstream_key: str) -> History:
        """See `HistoryReader.history`."""
        del now_ms, upstream_key
        shown = [job for job in self.jobs if job.model == model and job.plan.listed_s <= self._age_s(job) < SHOWN_S]
        if not (self.readable and (shown or self.known)):
            self.in_vain_s = self.clock()
            raise UpstreamInvalidResponse("maintenance, or no request of this model")
        return History([self._row(job) for job in shown if job.created_s * 1000 >= since_ms], complete=True)

    def release(self, number: int) -> None:
        """Let a parked call have its answer."""
        if self.parked:
            self.parked.pop(number % len(self.parked)).answer.set_result(None)

    def advance(self) -> None:
        """Do what is due by now: take late jobs, and end the patience of callers."""
        now_s = self.clock()
        self.jobs += [job for job in self._late if job.created_s <= now_s]
        self._late = [job for job in self._late if job.created_s > now_s]
        for call in [call for call in self.parked if call.until_s <= now_s]:
            self.parked.remove(call)
            call.answer.set_exception(UpstreamAmbiguous("no answer in time", timed_out=True))

    async def _post(self, kind: JobKind, model: str, body: bytes, context: CallContext) -> VendorJob:
        plan = self.plans.popleft() if self.plans else Plan()
        if plan.answer == "unsent":
            raise UpstreamUnsent("no connection")
        if context.leaving is not None:
            context.leaving()
        self.posts[context.job_id] += 1
        self.posted_s.append(self.clock())
        number = len(self.jobs) + len(self._late)
        late_s = plan.late_s if plan.unclear else 0.0
        print_ = fingerprint(model, parse_object(body))
        job = VendorJob(f"v-{number}", context.job_id, kind, model, print_, self.clock() + late_s, plan)
        if plan.taken:
            (self._late if late_s else self.jobs).append(job)
        if plan.parked:
            await self._park(SUBMIT_TIMEOUT_S if kind == "async" else SYNC_TIMEOUT_S)
        if plan.answer == "ok":
            return job
        raise _failure(plan.answer)

    async def _park(self, timeout_s: float) -> None:
        call = Parked(asyncio.get_running_loop().create_future(), self.clock() + timeout_s)
        self.parked.append(call)
        try:
            await call.answer
        except asyncio.CancelledError:
            self.parked.remove(call)
            raise

    def _state(self, upstream_id: str, context: CallContext, *, full: bool) -> VendorState:
        found = next((job for job in self.jobs if job.id == upstream_id), None)
        assert found is None or found.kind == "async" or not context.job_id, "a sync call has no record to poll"
        job = None if found is None or found.forgotten or self._age_s(found) >= RECORD_TTL_S else found
        trouble = self.troubles.popleft() if self.troubles else ""
        match trouble:
            case "lost":
                raise UpstreamAmbiguous("reset")
            case "limited":
                raise UpstreamRefused(429, "too many requests", retry_after_s=7)
            case "garbage":
                raise UpstreamInvalidResponse("not JSON")
            case "missing":
                job = None
        if job is None:
            if found is not None:
                found.denied += 1
            return VendorState(None)
        word = "QUEUED" if trouble == "stale" else job.word(self.clock())
        error = "it failed" if word == "FAILED" else None
        return VendorState(
            word,
            cost=job.plan.reported if word == "COMPLETED" else None,
            error=error,
            body=orjson.dumps({"status": word, "error": error}) if full or error else b"",
        )

    def _row(self, job: VendorJob) -> HistoryRow:
        word = job.word(self.clock())
        return HistoryRow(
            request_id=job.id,
            model=job.model,
            status=word if word in {"COMPLETED", "FAILED"} else "PENDING",
            cost=job.bill(self.clock()),
            fingerprint=job.fingerprint,
            created_ms=round(job.created_s * 1000),
        )

    def _age_s(self, job: VendorJob) -> float:
        return self.clock() - job.created_s


def _failure(answer: str | int) -> UpstreamError:
    """Say what a client makes of an answer that is none, or not the one that was asked for."""
    if not isinstance(answer, int):
        return UpstreamAmbiguous(answer, status=200 if answer == "nonsense" else None)
    if answer in IN_BETWEEN:
        return UpstreamAmbiguous(f"status {answer}", status=answer, timed_out=answer == 504)
    return UpstreamRefused(answer, "no", retry_after_s=9 if answer == 429 else None)
