"""What happens, as typed values: one a thing. Sinks (logs, metrics) are adapters of these, so they can't disagree."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from gateway.core.job import Job
from gateway.core.record import record

Outcome = Literal["ok", "refused", "unsent", "ambiguous", "invalid"]
WebhookOutcome = Literal["delivered", "gone", "rejected", "timeout", "unreachable", "refused", "error"]


@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamCall:
    """One call to the vendor.

    Attributes:
        operation: ``submit``, ``status``, ``result``, ``sync``, ``upload``, ``history`` or ``credits``.
        outcome: ``ok``: a usable answer; ``refused``: a definite refusal; ``unsent``: nothing left;
            ``ambiguous``: it may have been accepted; ``invalid``: a read's answer could not be used.
        cost: Nanocredits that the vendor reported; `held` those held for the job.
        attempt: 1 for the first try.
    """

    name: ClassVar[str] = "upstream.call"
    operation: str
    outcome: Outcome
    latency_ms: float
    tenant: str = ""
    key_id: str = ""
    model: str = ""
    job_id: str = ""
    upstream_id: str = ""
    request_id: str = ""
    trace_id: str = ""
    upstream_status: int | None = None
    attempt: int = 1
    cost: int | None = None
    held: int | None = None
    error: str = ""


@record(kw_only=True)
class HttpRequest:
    """One request of a tenant and our answer to it.

    Attributes:
        route: Path template (``/v2/{model}``), never the path itself.
        code: Error code of the answer, empty for a success.
    """

    name: ClassVar[str] = "http.request"
    method: str
    route: str
    status: int
    latency_ms: float
    request_id: str
    tenant: str = ""
    key_id: str = ""
    model: str = ""
    job_id: str = ""
    upstream_id: str = ""
    trace_id: str = ""
    code: str = ""
    limited_by: str = ""
    idempotent: bool = False
    held: int | None = None
    cost: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class JobEnded:
    """A job reached a terminal state and its hold ended."""

    name: ClassVar[str] = "job.ended"
    tenant: str
    key_id: str
    model: str
    job_id: str
    upstream_id: str = ""
    state: str
    held: int
    cost: int
    estimated: bool
    overrun: int
    duration_ms: int
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookDelivery:
    """One attempt to tell a receiver that a job has ended.

    Attributes:
        type: ``job.completed`` or ``job.failed``.
        receiver: Host of its URL, with the port where the URL has one.
        outcome: As of `core.webhook.Answer`.
        status: Of the receiver's answer, where there was one.
        attempt: 1 for the first.
    """

    name: ClassVar[str] = "webhook.delivery"
    tenant: str
    job_id: str
    type: str
    receiver: str
    attempt: int
    outcome: WebhookOutcome
    latency_ms: float
    status: int | None = None
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """Something that a person should look at.

    Attributes:
        event: Dotted name of the log line (``job.unknown``, ``upstream.auth_failed``, ``store.not_ready``).
        detail: What happened and what to do, one sentence.
    """

    name: ClassVar[str] = "alert"
    event: str
    detail: str
    tenant: str = ""
    model: str = ""
    job_id: str = ""
    upstream_id: str = ""

    @classmethod
    def of(cls, job: Job, event: str, detail: str) -> Alert:
        """Make an alert about a job."""
        return cls(
            event=event,
            detail=detail,
            tenant=job.tenant,
            model=job.model,
            job_id=job.id,
            upstream_id=job.upstream_id or "",
        )


Event = UpstreamCall | HttpRequest | JobEnded | WebhookDelivery | Alert
