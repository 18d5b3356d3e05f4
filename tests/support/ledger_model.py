"""The ledger in plain Python: what the scripts must do, written without looking at how they do it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from support.ledger import window_ids

from gateway.core.credits import MAX_NANO
from gateway.core.job import Job, JobState, VendorStatus
from gateway.core.movements import Admission, Release, Settlement
from gateway.core.tenant import WINDOWS, TenantPolicy, WindowName
from gateway.store.keys import UNKNOWN_OWNER

OPEN = {JobState.SENDING, JobState.UNKNOWN, JobState.ACCEPTED}
UNSENT = {JobState.SENDING, JobState.UNKNOWN}


@dataclass(frozen=True, slots=True)
class Verdict:
    """What admission decides; ``window`` is the budget that refuses, ``job_id`` the job that a key stands for."""

    code: str
    hold: int = 0
    window: WindowName | None = None
    job_id: str = ""


@dataclass(slots=True)
class ModelJob:
    """A job on record."""

    hold: int
    windows: list[str]
    owner: str
    state: JobState = JobState.SENDING
    status: VendorStatus = "QUEUED"
    upstream_id: str | None = None
    cost: int | None = None
    estimated: bool = False
    missing: bool = False

    def matches(self, job: Job | None) -> bool:
        """Tell whether a record says the same."""
        if job is None:
            return False
        missing = job.missing_ms is not None
        said = (job.state, job.hold, job.vendor_status, job.upstream_id, job.cost, job.estimated, missing)
        return said == (
            self.state, self.hold, self.status, self.upstream_id, self.cost, self.estimated, self.missing,
        )  # fmt: skip


@dataclass(slots=True)
class LedgerModel:
    """One tenant's ledger, with every limit but the rate limits."""

    policy: TenantPolicy
    jobs: dict[str, ModelJob] = field(default_factory=dict)
    voided: set[str] = field(default_factory=set)
    keys: dict[str, tuple[str, str]] = field(default_factory=dict)
    spent: Counter[str] = field(default_factory=Counter)
    held: Counter[str] = field(default_factory=Counter)

    def decide(self, a: Admission, at: datetime) -> Verdict:
        """Say what admission answers at a moment; changes nothing."""
        hold = self.policy.prices.get(a.model, a.estimate)
        if not self.policy.allows(a.model):
            return Verdict("model_not_allowed")
        if a.idempotency_key in self.keys:
            return self._seen(*self.keys[a.idempotency_key], a.fingerprint)
        if a.idempotency_key is None and self.policy.require_idempotency_key:
            return Verdict("idempotency_key_required")
        if len(self.active()) >= self.policy.concurrent_jobs:
            return Verdict("concurrency_limited")
        return Verdict("model_not_allowed") if hold is None else self._fit(hold, at)

    def _fit(self, hold: int, at: datetime) -> Verdict:
        short = (name for name, room in self.rooms(at).items() if room <= 0 or hold > room)
        window = next(short, None)
        return Verdict("admitted", hold) if window is None else Verdict("budget_exhausted", hold, window)

    def _seen(self, job_id: str, fingerprint: str, wanted: str) -> Verdict:
        if fingerprint != wanted:
            return Verdict("idempotency_mismatch", job_id=job_id)
        sending = self.jobs[job_id].state is JobState.SENDING
        return Verdict("idempotency_in_progress" if sending else "replayed", job_id=job_id)

    def rooms(self, at: datetime) -> dict[WindowName, int]:
        """Return what each budget has left; below zero after an overrun."""
        ids = dict(zip(WINDOWS, window_ids(at), strict=True))
        return {
            name: self.policy.budgets[name] - self.spent[ids[name]] - self.held[ids[name]]
            for name in WINDOWS
            if name in self.policy.budgets
        }

    def remaining(self, at: datetime) -> int:
        """Return the least that a budget has left."""
        return min((max(0, room) for room in self.rooms(at).values()), default=MAX_NANO)

    def admit(self, a: Admission, at: datetime) -> Verdict:
        """Decide and put an admitted job on record; ``voided`` for an id that is there or was undone."""
        verdict = self.decide(a, at)
        if verdict.code != "admitted":
            return verdict
        if a.job_id in self.jobs or a.job_id in self.voided:
            return Verdict("voided")
        self.jobs[a.job_id] = ModelJob(verdict.hold, window_ids(at), a.owner)
        if a.idempotency_key is not None:
            self.keys[a.idempotency_key] = (a.job_id, a.fingerprint)
        for window in window_ids(at):
            self.held[window] += verdict.hold
        return verdict

    def void(self, a: Admission) -> bool:
        """Undo an admission, or see to it that it never comes."""
        if a.job_id not in self.jobs:
            self.voided.add(a.job_id)
            return False
        return self._end(a.job_id, UNSENT, JobState.REJECTED, 0, forget=a.idempotency_key)

    def accept(self, job_id: str, upstream_id: str) -> bool:
        """Note the vendor's id of a job that is being sent."""
        return self._accept(job_id, upstream_id, JobState.SENDING)

    def adopt(self, job_id: str, upstream_id: str) -> bool:
        """Note the vendor's id of a job whose outcome was unknown."""
        return self._accept(job_id, upstream_id, JobState.UNKNOWN)

    def _accept(self, job_id: str, upstream_id: str, before: JobState) -> bool:
        job = self.jobs.get(job_id)
        if job is None or job.state is not before:
            return False
        job.state, job.upstream_id = JobState.ACCEPTED, upstream_id
        return True

    def doubt(self, job_id: str) -> bool:
        """Note that nobody knows the outcome."""
        job = self.jobs.get(job_id)
        if job is None or job.state is not JobState.SENDING:
            return False
        job.state = JobState.UNKNOWN
        return True

    def progress(self, job_id: str, status: VendorStatus | None) -> bool:
        """Note the vendor's word; a job never goes back to QUEUED, and only a settlement completes it."""
        job = self.jobs.get(job_id)
        if job is None or job.state is not JobState.ACCEPTED:
            return False
        was = (job.status, job.missing)
        job.missing = status is None
        if status == "PROCESSING":
            job.status = status
        return job.missing and not was[1] if status is None else job.status != was[0]

    def settle(self, s: Settlement) -> bool:
        """Charge the cost, or the hold where none was reported."""
        job = self.jobs.get(s.job_id)
        before = OPEN if s.state is JobState.COMPLETED else {JobState.ACCEPTED, JobState.UNKNOWN}
        if job is None or not self._end(s.job_id, before, s.state, job.hold if s.cost is None else s.cost):
            return False
        job.cost, job.estimated = job.hold if s.cost is None else s.cost, s.cost is None
        job.upstream_id = s.upstream_id or job.upstream_id
        return True

    def release(self, r: Release) -> bool:
        """End the hold without a charge."""
        before = OPEN if r.state is JobState.FAILED else UNSENT
        return self._end(r.job_id, before, r.state, 0, forget=r.forget)

    def _end(
        self, job_id: str, before: set[JobState], state: JobState, charge: int, *, forget: str | None = None
    ) -> bool:
        job = self.jobs.get(job_id)
        if job is None or job.state not in before:
            return False
        job.state = state
        for window in job.windows:
            self.held[window] -= job.hold
            self.spent[window] += charge
        if forget is not None and self.keys.get(forget, ("",))[0] == job_id:
            del self.keys[forget]
        return True

    def active(self) -> Mapping[str, ModelJob]:
        """Return the jobs whose hold stands."""
        return {job_id: job for job_id, job in self.jobs.items() if job.state in OPEN}

    def sending(self) -> dict[str, str]:
        """Return the jobs whose outcome is to come, each with the process that sends it; none where that is unknown."""
        return {
            job_id: job.owner if job.state is JobState.SENDING else UNKNOWN_OWNER
            for job_id, job in self.jobs.items()
            if job.state in UNSENT
        }

    def counters(self) -> dict[str, int]:
        """Return the counters as the store names them, those at zero left out."""
        spent = {f"{window}:spent": amount for window, amount in self.spent.items() if amount}
        return spent | {f"{window}:held": amount for window, amount in self.held.items() if amount}
