"""What happens, as typed values: one a thing. Sinks (logs, metrics) are adapters of these, so they can't disagree."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import ClassVar, Final, Literal

from gateway.core.alerts import AlertName
from gateway.core.breaker import BreakerName, BreakerState
from gateway.core.failure import describe
from gateway.core.job import Job
from gateway.core.record import record
from gateway.core.tenant import WindowName

MAX_PARAMS_BYTES: Final = 8192
"""Of a body that is logged: images in it can be megabytes."""
Outcome = Literal["ok", "refused", "unsent", "ambiguous", "invalid"]
WebhookOutcome = Literal["delivered", "gone", "rejected", "timeout", "unreachable", "refused", "error"]


@record(kw_only=True)
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
        source: Address of a caller without a valid key: nothing else tells who that is.
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
    source: str = ""


@record(kw_only=True)
class ParamsRequest(HttpRequest):
    """A request to start a job, with what was asked for; takes the place of `HttpRequest` with GATEWAY_LOG_PARAMS.

    Attributes:
        params: The body as it came, its beginning.
    """

    params: str = ""

    @classmethod
    def of(cls, event: HttpRequest, body: bytes) -> ParamsRequest:
        """Add the parameters to a request's event; bytes that are no text are escaped."""
        params = body[:MAX_PARAMS_BYTES].decode(errors="backslashreplace")
        return cls(**{field.name: getattr(event, field.name) for field in fields(event)}, params=params)


@dataclass(frozen=True, slots=True, kw_only=True)
class JobEnded:
    """A job reached a terminal state and its hold ended.

    Attributes:
        code: Why it was refused (``REJECTED``). Why it failed, in the vendor's words, can quote a prompt: not here.
    """

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
    code: str = ""


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
class Reconciled:
    """The ledger of some days was held against the vendor's request history.

    Attributes:
        first: First day (UTC); `last` the last one.
        matched: Requests at the same cost on both sides; `differs` those at another.
        only_ours: Charged, and the vendor has no such request; `only_theirs` billed, and none of ours.
        running: Not settled yet.
        drift: Nanocredits by which the two sides are apart, row by row.
    """

    name: ClassVar[str] = "reconcile.done"
    first: str
    last: str
    matched: int
    differs: int
    only_ours: int
    only_theirs: int
    running: int
    drift: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetAlert:
    """A budget has reached one of its alert percentages, for the first time in its window.

    Attributes:
        window: ``day``, ``week``, ``month`` or ``total``.
        percent: Of the limit, that is spent or held.
        limit: Nanocredits, as are `spent` and `held`.
    """

    name: ClassVar[str] = "budget.alert"
    tenant: str
    window: WindowName
    percent: int
    limit: int
    spent: int
    held: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerChanged:
    """A circuit breaker changed its state.

    Attributes:
        reason: What made it so, in words of ours.
    """

    name: ClassVar[str] = "upstream.breaker"
    host: BreakerName
    state: BreakerState
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shed:
    """Requests that were refused unread in the last second or so, since there was too much to do.

    Attributes:
        submits: POSTs of any kind; ``reads`` GETs.
        late_ms: How late the event loop was at worst, of what it was all the while.
    """

    name: ClassVar[str] = "http.shed"
    submits: int
    reads: int
    late_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthFailing:
    """A source keeps on failing to show a valid key; its requests above the limit of that were answered 429.

    Attributes:
        source: IPv4 address, or IPv6 network, of the peer.
        failures: Requests above the limit since the last such event; none of them has an `HttpRequest`.
    """

    name: ClassVar[str] = "auth.failing"
    source: str
    failures: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """Something that a person should look at.

    Attributes:
        event: Dotted name of the log line.
        detail: What happened and what to do, one sentence.
    """

    name: ClassVar[str] = "alert"
    event: AlertName
    detail: str
    tenant: str = ""
    model: str = ""
    job_id: str = ""
    upstream_id: str = ""

    @classmethod
    def of(cls, job: Job, event: AlertName, detail: str) -> Alert:
        """Make an alert about a job."""
        return cls(
            event=event,
            detail=detail,
            tenant=job.tenant,
            model=job.model,
            job_id=job.id,
            upstream_id=job.upstream_id or "",
        )

    @classmethod
    def failure(cls, event: AlertName, exc: BaseException, *, tenant: str = "", job_id: str = "") -> Alert:
        """Make an alert about something that broke: a mistake of ours, most likely."""
        return cls(event=event, detail=describe(exc), tenant=tenant, job_id=job_id)


Event = (
    UpstreamCall
    | HttpRequest
    | ParamsRequest
    | Shed
    | JobEnded
    | WebhookDelivery
    | Reconciled
    | BudgetAlert
    | BreakerChanged
    | AuthFailing
    | Alert
)
