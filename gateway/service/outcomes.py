"""How a request to start a job can end, as values: the web layer turns each into one answer."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from gateway.core.job import Job, JobState, JobView, new_job_id
from gateway.core.movements import Admitted
from gateway.core.quota import Quota
from gateway.core.record import record
from gateway.core.tenant import Credential
from gateway.core.vendor import VendorAnswer


@record(kw_only=True)
class JobRequest:
    """A well-formed request to start a job, as the web layer read it.

    Attributes:
        model: Slug, or ``workflows/{slug}``; already checked to be fit for a URL.
        body: Passed on byte for byte; `params` is the same, parsed.
        headers: Allow-listed request headers for upstream, lower case.
        idempotency_key: Unquoted, 1 to 255 characters; None without.
        labels: At most 8, for cost attribution.
        job_id: What the job is called if this starts one.
    """

    credential: Credential
    model: str
    body: bytes
    params: Mapping[str, Any]
    headers: Mapping[str, str]
    request_id: str
    idempotency_key: str | None = None
    traceparent: str | None = None
    webhook_url: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    job_id: str = field(default_factory=new_job_id)


@record()
class Submitted:
    """The job is accepted, or was by an earlier request with the same idempotency key (``replayed``)."""

    job: JobView
    quota: Quota
    replayed: bool = False


@dataclass(frozen=True, slots=True)
class Rejected:
    """The vendor did not take the job, or could not be reached: nothing is held any more.

    Attributes:
        code: Error code of the API (``upstream_unavailable``, ``upstream_rate_limited``, ``model_retired`` ...).
        detail: For a human; the vendor's own words where it had any.
    """

    code: str
    detail: str
    limited_by: str | None = None
    retry_after_s: int | None = None
    job: Job | None = None
    quota: Quota | None = None
    replayed: bool = False


@dataclass(frozen=True, slots=True)
class Uploaded:
    """The vendor took an asset, and this is what it said."""

    answer: VendorAnswer
    quota: Quota


@dataclass(frozen=True, slots=True)
class Uncertain:
    """The vendor may have taken the job: its id is told, its hold stays.

    Attributes:
        code: ``outcome_unknown``, or ``upstream_invalid_response`` where the vendor answered what it never should.
    """

    job: Job
    quota: Quota
    code: str = "outcome_unknown"


@dataclass(frozen=True, slots=True)
class SyncAnswer:
    """A sync call's answer, to be streamed to the caller.

    Iterate `chunks` to its end or close it (``aclose``): either way the call is settled by the service itself.
    Headers are those that may go to a tenant; the balance is already the tenant's own.
    """

    status: int
    headers: Mapping[str, str]
    chunks: AsyncIterator[bytes]
    job: JobView
    quota: Quota
    replayed: bool = False


def replay(admitted: Admitted) -> Submitted | Rejected:
    """Answer a repeated request with what became of the first one."""
    job = admitted.job
    if job.state is JobState.REJECTED:
        return Rejected(job.code or "upstream_error", job.reason or "", job=job, quota=admitted.quota, replayed=True)
    return Submitted(job, admitted.quota, replayed=True)
