"""What goes into the ledger and what comes out: requests, decisions and records, as values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from gateway.core.job import Job, JobKind, JobState, JobView
from gateway.core.quota import Quota, RateState, Window
from gateway.core.record import record
from gateway.core.tenant import Credential, TenantPolicy

ChargedState = Literal[JobState.COMPLETED, JobState.EXPIRED]
FreeState = Literal[JobState.FAILED, JobState.REJECTED]


@record(kw_only=True)
class Admission:
    """A request to start a job: everything that the decision and the record need.

    Attributes:
        estimate: What to hold, nanocredits, unless the tenant has a price of its own; None: unpriced and refused.
        idempotency_key: The caller's, unquoted; None without.
        owner: Id of the process that will send it; its heartbeat vouches for a SENDING job.
    """

    credential: Credential
    job_id: str
    model: str
    kind: JobKind
    estimate: int | None
    fingerprint: str
    owner: str
    upstream_key: str
    idempotency_key: str | None = None
    request_id: str = ""
    traceparent: str | None = None
    webhook_url: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)


@record()
class Admitted:
    """The job is on record as SENDING and its hold stands; or, with ``replayed``, it already was."""

    job: Job
    quota: Quota
    replayed: bool = False


@dataclass(frozen=True, slots=True)
class Denied:
    """Nothing was written. ``code`` is one of the API's; ``window`` says which budget, with its end.

    Attributes:
        quota: Where the limits stand; None for an unknown caller, who is told nothing, and for a job's read,
            which carries only its own limit in ``rate``.
        required: The hold that did not fit, nanocredits.
        resets_at_ms: End of the window that refused, Unix ms; None for ``total``.
        job_id: The job in progress, for ``idempotency_in_progress``.
    """

    code: str
    quota: Quota | None = None
    retry_after_s: float = 0.0
    window: Window | None = None
    required: int = 0
    resets_at_ms: int | None = None
    job_id: str = ""
    rate: RateState | None = None


@record()
class Finished:
    """What an idempotent write found or did.

    Attributes:
        changed: This call did it; False where it had been done before, or the state no longer allowed it.
        job: The record after the call; None where there is no such job.
    """

    changed: bool
    job: Job | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredResult:
    """A result body as it will be served; its balance already replaced.

    Attributes:
        headers: Of a sync call's answer, what a replay gives again besides the type.
    """

    body: bytes
    content_type: str
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settlement:
    """A charge. ``cost`` None: the vendor reported none that makes sense; the hold is charged, flagged estimated.

    Attributes:
        only_from: The one state that it may end; None: any that may end so. What was decided about an UNKNOWN job must
            not end one that was adopted meanwhile, and the id of one that was being sent may be another's by then.
    """

    tenant: str
    job_id: str
    state: ChargedState
    cost: int | None
    result: StoredResult | None = None
    upstream_id: str | None = None
    reason: str = ""
    actor: str = "tracker"
    only_from: JobState | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """An end without a charge.

    Attributes:
        code: Error code that a replay gives again.
        forget: Idempotency key whose record is dropped, so that a retry may be sent: only where the vendor
            can't have accepted anything. Also where the job is REJECTED already; never where it became anything else.
    """

    tenant: str
    job_id: str
    state: FreeState
    reason: str
    code: str = ""
    forget: str | None = None
    result: StoredResult | None = None
    actor: str = "tracker"


@record()
class Reading:
    """A job as read by its owner, and where the read limit stands."""

    job: JobView | None
    quota: RateState
    now_ms: int
    result: StoredResult | None = None


@dataclass(frozen=True, slots=True)
class AccountView:
    """A tenant as its own caller sees it."""

    policy: TenantPolicy
    quota: Quota
    windows: tuple[Window, ...]
    now_ms: int
