"""Webhooks as values: what an answer means, when to try again, what is on record. Knows neither HTTP nor Redis."""

from __future__ import annotations

import base64
import secrets
from dataclasses import dataclass
from typing import Final, Literal

from gateway.core.events import WebhookOutcome
from gateway.core.job import Job
from gateway.core.tenant import Secret, TenantPolicy

RETRIES_S: Final = (5.0, 30.0, 120.0, 600.0, 3600.0, 3 * 3600.0, 6 * 3600.0, 12 * 3600.0)
"""Pauses after each failed attempt: nine attempts over 22 hours, as Standard Webhooks suggests."""
SLOW_S: Final = 5.0
"""A receiver that takes longer to answer is given a rest, so that its backlog does not hide others'."""
JITTER: Final = 0.2
"""A pause is longer by up to this share, so that a receiver that comes back is not met by all at once."""
HOLD_S: Final = 5.0
MAX_HOLD_S: Final = 60.0
LOG_ATTEMPTS: Final = 10
SECRET_BYTES: Final = 32

_OK: Final = range(200, 300)
_GONE: Final = 410
_UNWELL: Final = frozenset({429, 502, 503, 504})

DeliveryState = Literal["pending", "delivered", "failed", "disabled"]


def new_secret() -> Secret:
    """Make a signing secret: ``whsec_`` and 256 bits in base64 (Standard Webhooks, "Signature scheme")."""
    return Secret("whsec_" + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode())


def event_type(job: Job) -> str:
    """Name what a webhook tells of a job that has ended."""
    return "job.completed" if job.status == "COMPLETED" else "job.failed"


@dataclass(frozen=True, slots=True)
class Answer:
    """How one attempt ended.

    Attributes:
        outcome: ``delivered``: 2xx; ``gone``: 410; ``rejected``: any other status, redirects among them; ``timeout``;
            ``unreachable``: no answer; ``refused``: by us, the target is not allowed; ``error``: a mistake of ours.
        detail: In words, where there is more to say than the outcome.
    """

    outcome: WebhookOutcome
    status: int | None = None
    detail: str = ""


def answered(status: int) -> Answer:
    """Read a receiver's answer; of its body nothing is read."""
    if status in _OK:
        return Answer("delivered", status)
    return Answer("gone" if status == _GONE else "rejected", status)


@dataclass(frozen=True, slots=True)
class Decision:
    """What follows from an attempt.

    Attributes:
        state: Of the delivery from now on.
        retry_s: Seconds until the next attempt, where it is pending.
        hold_s: Seconds for which nothing more is sent to this receiver: it is down, slow or overloaded.
    """

    state: DeliveryState
    retry_s: float = 0.0
    hold_s: float = 0.0


def decide(answer: Answer, attempt: int, *, latency_s: float, jitter: float) -> Decision:
    """Decide what follows from an attempt.

    Args:
        answer: How it ended.
        attempt: Its number, from 1.
        latency_s: Seconds that it took.
        jitter: From 0 to 1.
    """
    if answer.outcome == "delivered":
        return Decision("delivered", hold_s=HOLD_S if latency_s > SLOW_S else 0.0)
    if answer.outcome in {"gone", "refused"}:
        return Decision("failed")
    unwell = answer.outcome in {"timeout", "unreachable"} or answer.status in _UNWELL or latency_s > SLOW_S
    # Never longer than the delivery's own pause, so that a receiver with one delivery is not kept waiting for it.
    hold_s = min(HOLD_S * 2 ** (attempt - 1), MAX_HOLD_S) if unwell else 0.0
    if attempt > len(RETRIES_S):
        return Decision("failed", hold_s=hold_s)
    return Decision("pending", RETRIES_S[attempt - 1] * (1 + JITTER * jitter), hold_s)


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt on record; `at_ms` in Unix milliseconds."""

    at_ms: int
    outcome: WebhookOutcome
    status: int | None
    latency_ms: int
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Owed:
    """A webhook that was leased to be sent; `receiver` is its URL's host, with the port where the URL has one."""

    job_id: str
    receiver: str


@dataclass(frozen=True, slots=True)
class Taken:
    """What was leased of a tenant's webhooks.

    Attributes:
        next_in_s: Seconds until more are due; None where nothing is owed.
        more: Nothing was found, only because so many stood in front whose receivers are held: look again.
    """

    owed: tuple[Owed, ...]
    next_in_s: float | None
    more: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Announcement:
    """A webhook that is owed, with all that sending it takes.

    Attributes:
        url: Fixed at admission.
        policy: The tenant's, by which the URL must still be allowed; None for a tenant that was removed.
        secrets: To sign with; two while one takes the other's place.
        disabled: The URL is the tenant's own, and has answered 410.
        attempts: Made before.
    """

    job: Job
    url: str
    policy: TenantPolicy | None
    secrets: tuple[Secret, ...]
    disabled: bool
    attempts: int
    log: tuple[Attempt, ...]

    @property
    def own(self) -> bool:
        """The URL is the tenant's, not of the request that started the job."""
        return self.policy is not None and self.url == self.policy.webhook_url


@dataclass(frozen=True, slots=True, kw_only=True)
class Noted:
    """What is to be recorded of an attempt.

    Attributes:
        before: Attempts on record when it began: where there are others by now, it has been recorded already.
        disable: Send nothing more to the tenant's own URL.
    """

    before: int
    attempts: int
    decision: Decision
    log: tuple[Attempt, ...]
    disable: str | None = None


@dataclass(frozen=True, slots=True)
class Delivery:
    """The announcement of one job's end, and how far it got.

    Attributes:
        type: ``job.completed`` or ``job.failed``.
        state: ``pending``: it will be tried (again) at `due_ms`; ``failed``: given up; ``disabled``: not sent, since
            the tenant's endpoint answered 410.
        attempts: Made so far, since it was last asked for.
        log: The last attempts, oldest first; at most `LOG_ATTEMPTS`.
        due_ms: Unix milliseconds; None unless pending.
    """

    tenant: str
    job_id: str
    url: str
    type: str
    state: DeliveryState
    attempts: int = 0
    log: tuple[Attempt, ...] = ()
    due_ms: int | None = None
