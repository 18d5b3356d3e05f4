"""A job of the vendor: what is fixed when it is accepted, and what the clock makes of it."""

from __future__ import annotations

import math
import random
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum

from gateway.sandbox.faults import Fault
from gateway.sandbox.models import Model, find_malformed
from gateway.sandbox.settings import SandboxSettings

_TEN_PLACES = Decimal("1e-10")
_BLOCKED = "The request was blocked by the content policy"
_MAX_SLEEP_S = 3600.0
_MAX_OUTPUTS = 4


class Status(StrEnum):
    """Name the vendor's four states."""

    QUEUED = "QUEUED"
    PROCESSING = "PROCESSING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"


@dataclass(slots=True, kw_only=True)
class Job:
    """Hold one accepted job; only the poll counters change after acceptance.

    Attributes:
        request_id: The vendor's id.
        model: What runs.
        body: The parameters as sent.
        key: API key it was submitted with.
        submitted_at: Time of acceptance, epoch seconds.
        queue_s: Seconds spent QUEUED.
        total_s: Seconds until the end; infinite for a job that never ends.
        expires_at: When the vendor forgets the record, epoch seconds.
        cost: What is billed on COMPLETED, credits.
        reported_cost: What the answers claim instead, as raw JSON; empty: no cost in them. None: the truth.
        error: Why it FAILs; None: it completes.
        seed: Seed shown in the result.
        outputs: Number of output files.
        status_polls: Times its status was asked for.
        result_polls: Times its result was asked for.
    """

    request_id: str
    model: Model
    body: bytes
    key: str
    submitted_at: float
    queue_s: float
    total_s: float
    expires_at: float
    cost: Decimal
    reported_cost: str | None
    error: str | None
    seed: int
    outputs: int
    status_polls: int = 0
    result_polls: int = 0

    @property
    def ends_at(self) -> float:
        """Return when it becomes terminal, epoch seconds."""
        return self.submitted_at + self.total_s

    @property
    def billed(self) -> Decimal:
        """Return what it costs the account once it has ended: only a COMPLETED job is billed."""
        return self.cost if self.error is None and math.isfinite(self.total_s) else Decimal(0)


def state_at(job: Job, now: float) -> Status:
    """Compute the state of a job at `now` (epoch seconds)."""
    if now >= job.ends_at:
        return Status.COMPLETED if job.error is None else Status.FAILED
    return Status.QUEUED if now < job.submitted_at + job.queue_s else Status.PROCESSING


def earlier(status: Status) -> Status:
    """Return the state before `status`, for polls that arrive out of order."""
    return Status.QUEUED if status in {Status.QUEUED, Status.PROCESSING} else Status.PROCESSING


def plan(
    settings: SandboxSettings,
    model: Model,
    params: Mapping[str, object],
    *,
    number: int,
    now: float,
    body: bytes,
    key: str,
    failure_rate: float,
    faults: Sequence[Fault] = (),
) -> Job:
    """Decide cost, duration and outcome of the `number`-th job, the same for the same seed."""
    dice = random.Random(f"{settings.seed}:{number}")
    cost = model.cost * Decimal(str(round(dice.uniform(0.8, 1.25), 6)))
    listed_s = dice.uniform(*model.latency_s)
    error = _BLOCKED if dice.random() < failure_rate else None
    if model.slug == "mock-inference":
        listed_s = _sleep_s(params)
    malformed = find_malformed(model, params)
    if malformed:
        listed_s, error = dice.uniform(0.1, 0.3), malformed
    total_s = listed_s / (max(1.0, settings.time_scale) if malformed else settings.time_scale)
    job = Job(
        request_id=str(uuid.uuid4()),
        model=model,
        body=body,
        key=key,
        submitted_at=now,
        queue_s=total_s * dice.uniform(0.02, 0.08),
        total_s=total_s,
        expires_at=now + settings.record_ttl_s / settings.time_scale,
        cost=cost.quantize(_TEN_PLACES),
        reported_cost=None,
        error=error,
        seed=dice.randrange(2**31),
        outputs=_outputs(model, params),
    )
    for fault in faults:
        _bend(job, fault)
    return job


def _bend(job: Job, fault: Fault) -> None:
    if fault.action == "cost":
        if fault.cost.endswith("x"):
            job.cost = (job.cost * Decimal(fault.cost[:-1])).quantize(_TEN_PLACES)
        else:
            job.reported_cost = "" if fault.cost == "missing" else fault.cost
    elif fault.action == "outcome":
        if fault.outcome == "PROCESSING":
            job.total_s = math.inf
        elif fault.outcome == "FAILED":
            job.error = fault.message
        else:
            job.error = None


def _sleep_s(params: Mapping[str, object]) -> float:
    asked = params.get("sleep", 1.0)
    return min(max(float(asked), 0.0), _MAX_SLEEP_S) if isinstance(asked, int | float) else 1.0


def _outputs(model: Model, params: Mapping[str, object]) -> int:
    asked = params.get("num_images", 1)
    if model.kind != "image" or not isinstance(asked, int):
        return 1
    return min(max(asked, 1), _MAX_OUTPUTS)
