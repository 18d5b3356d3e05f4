"""A job: its states, what moves it from one to another, and the record that is kept of it."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Mapping
from dataclasses import field
from enum import StrEnum
from types import MappingProxyType
from typing import Final, Literal

from gateway.core.record import record


class JobState(StrEnum):
    """Where a job stands for us; tenants see Segmind's four words (`PUBLIC`)."""

    SENDING = "SENDING"
    ACCEPTED = "ACCEPTED"
    UNKNOWN = "UNKNOWN"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    EXPIRED = "EXPIRED"
    REJECTED = "REJECTED"

    @property
    def terminal(self) -> bool:
        """Tell whether the job's hold has ended."""
        return not TRANSITIONS[self]


TRANSITIONS: Final[Mapping[JobState, frozenset[JobState]]] = MappingProxyType(
    {
        # A sync call completes without having been accepted first.
        JobState.SENDING: frozenset(
            {JobState.ACCEPTED, JobState.COMPLETED, JobState.FAILED, JobState.REJECTED, JobState.UNKNOWN}
        ),
        # EXPIRED: charged at its hold by policy or by an operator, since nothing shows that it never ran.
        JobState.UNKNOWN: frozenset(
            {JobState.ACCEPTED, JobState.COMPLETED, JobState.FAILED, JobState.EXPIRED, JobState.REJECTED}
        ),
        JobState.ACCEPTED: frozenset({JobState.COMPLETED, JobState.FAILED, JobState.EXPIRED}),
        JobState.COMPLETED: frozenset(),
        JobState.FAILED: frozenset(),
        JobState.EXPIRED: frozenset(),
        JobState.REJECTED: frozenset(),
    }
)
"""From each state, the states that may follow. The scripts check the same by compare-and-set."""

VendorStatus = Literal["QUEUED", "PROCESSING", "COMPLETED", "FAILED"]
JobKind = Literal["async", "sync"]
_JOB_ID: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
"""A UUIDv7 in lower case, its variant that of RFC 9562 section 4.1."""


def public_status(state: JobState, vendor_status: VendorStatus) -> VendorStatus:
    """Return the word that tenants see: SENDING and UNKNOWN read QUEUED, REJECTED and EXPIRED read FAILED."""
    if state is JobState.ACCEPTED:
        return vendor_status
    if state is JobState.COMPLETED:
        return "COMPLETED"
    return "QUEUED" if state in {JobState.SENDING, JobState.UNKNOWN} else "FAILED"


@record()
class JobView:
    """What a job's owner is told of it. Amounts in nanocredits, times in Unix milliseconds of Redis's clock.

    Attributes:
        id: The gateway's own id (UUIDv7), fixed before anything is sent upstream.
        hold: What was held at admission; `cost` what was settled, None before.
        vendor_status: The vendor's last word; confirmed at `confirmed_ms`.
        upstream_id: The vendor's id, once known.
        error: Why it failed, was refused or expired; for tenants.
        has_result: A result body is kept.
    """

    id: str
    tenant: str
    model: str
    state: JobState
    hold: int
    created_ms: int
    vendor_status: VendorStatus = "QUEUED"
    upstream_id: str | None = None
    confirmed_ms: int | None = None
    finished_ms: int | None = None
    cost: int | None = None
    error: str | None = None
    has_result: bool = False

    @property
    def status(self) -> VendorStatus:
        """The word that tenants see."""
        return public_status(self.state, self.vendor_status)

    @property
    def reason(self) -> str | None:
        """Why the job ended without a result, in words; None where it did not."""
        if self.status != "FAILED":
            return None
        if self.error:
            return self.error
        return "the vendor no longer knows this job" if self.state is JobState.EXPIRED else "the job failed"


@record(kw_only=True)
class Job(JobView):
    """What is on record of one job.

    Attributes:
        upstream_key: Name of the company key that it was sent with.
        fingerprint: Digest of model and canonical inputs, to find the job in the vendor's history.
        estimated: The cost is the hold because the vendor reported none.
        code: Error code and status of a refusal (``REJECTED``), replayed by the idempotency key.
        missing_ms: Since when the vendor says that it does not know the job.
        overdue: How overdue it was found to be (`core.schedule.overdue_level`).
    """

    key_id: str
    kind: JobKind
    fingerprint: str = ""
    upstream_key: str | None = None
    missing_ms: int | None = None
    overdue: int = 0
    accepted_ms: int | None = None
    estimated: bool = False
    code: str | None = None
    request_id: str = ""
    traceparent: str | None = None
    webhook_url: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)


def new_job_id() -> str:
    """Make a UUIDv7 (RFC 9562 section 5.7): 48 bits of Unix milliseconds, then random."""
    value = (time.time_ns() // 1_000_000) << 80 | secrets.randbits(80)
    value = value & ~(0xF << 76) | 0x7 << 76
    digits = f"{value & ~(0x3 << 62) | 0x2 << 62:032x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def is_job_id(text: str) -> bool:
    """Tell whether ``text`` could be an id of ours, in its one canonical spelling."""
    return _JOB_ID.fullmatch(text) is not None
