"""A job's record between Redis and `core.job.Job`, and the other replies that scripts share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Final, get_args

from gateway.core.job import Job, JobState, JobView, VendorStatus
from gateway.core.movements import Finished
from gateway.core.quota import Quota, RateState, Window, least_remaining
from gateway.core.tenant import MICROSECONDS, WINDOWS, RateLimit

FIELDS = (
    "id", "state", "kind", "model", "key", "hold", "created", "fingerprint", "upstream_id", "upstream_key",
    "status", "confirmed", "accepted", "finished", "cost", "estimated", "error", "code", "result", "request_id",
    "traceparent", "webhook", "labels", "windows", "missing", "overdue",
)  # fmt: skip
"""Fields in the order in which every script replies with them; the same list stands in ``lua/_prelude.lua``."""

VIEW = (
    "id", "state", "model", "hold", "created", "status", "upstream_id", "confirmed", "finished", "cost", "error",
    "result",
)  # fmt: skip
"""Fields in the order in which a read for the job's owner replies with them; they stand in ``lua/read.lua`` too."""

Reply = Sequence[Any]


_STATES: Final = MappingProxyType({state.encode(): state for state in JobState})
_STATUSES: Final[Mapping[bytes, VendorStatus]] = MappingProxyType(
    {word.encode(): word for word in get_args(VendorStatus)}
)


def _number(value: bytes | None) -> int | None:
    return int(value) if value else None


def decode_view(tenant: str, values: Reply) -> JobView | None:
    """Read what its owner is told of a job; None where there is no such job."""
    job_id, state, model, hold, created, status, upstream_id, confirmed, finished, cost, error, result = values
    if job_id is None or state is None:
        return None
    return JobView(
        job_id.decode(),
        tenant,
        _model(model) if model else "",
        _STATES[state],
        int(hold) if hold else 0,
        int(created) if created else 0,
        _STATUSES[status] if status else "QUEUED",
        upstream_id.decode() if upstream_id else None,
        int(confirmed) if confirmed else None,
        int(finished) if finished else None,
        int(cost) if cost else None,
        error.decode() if error else None,
        result == b"1",
    )


@lru_cache(maxsize=1024)
def _model(name: bytes) -> str:
    """Read a model's name: few are asked for again and again, and the text that is kept has its hash."""
    return name.decode()


def decode_job(tenant: str, values: Reply) -> Job | None:
    """Read a record as replied by a script; None where there is no such job."""
    if not values or values[0] is None or values[1] is None:
        return None
    (
        job_id, state, kind, model, key, hold, created, fingerprint, upstream_id, upstream_key,
        status, confirmed, accepted, finished, cost, estimated, error, code, result, request_id,
        traceparent, webhook, labels, _windows, missing, overdue,
    ) = values  # fmt: skip
    return Job(
        id=job_id.decode(),
        tenant=tenant,
        key_id=key.decode() if key else "",
        model=model.decode() if model else "",
        kind=kind.decode() if kind else "async",
        state=_STATES[state],
        hold=int(hold) if hold else 0,
        created_ms=int(created) if created else 0,
        fingerprint=fingerprint.decode() if fingerprint else "",
        upstream_id=upstream_id.decode() if upstream_id else None,
        upstream_key=upstream_key.decode() if upstream_key else None,
        vendor_status=status.decode() if status else "QUEUED",
        confirmed_ms=int(confirmed) if confirmed else None,
        missing_ms=int(missing) if missing else None,
        overdue=int(overdue) if overdue else 0,
        accepted_ms=int(accepted) if accepted else None,
        finished_ms=int(finished) if finished else None,
        cost=int(cost) if cost else None,
        estimated=estimated == b"1",
        error=error.decode() if error else None,
        code=code.decode() if code else None,
        has_result=result == b"1",
        request_id=request_id.decode() if request_id else "",
        traceparent=traceparent.decode() if traceparent else None,
        webhook_url=webhook.decode() if webhook else None,
        labels=decode_labels(labels),
    )


def decode_finished(tenant: str, reply: Reply) -> Finished:
    """Read the reply of a write: {changed, record}."""
    return Finished(changed=reply[0] == 1, job=decode_job(tenant, reply[1]))


def encode_labels(labels: Mapping[str, str]) -> str:
    """Write labels as they came: ``k=v,k=v``; neither part holds a comma or an equals sign."""
    return ",".join(f"{name}={value}" for name, value in labels.items())


def decode_labels(value: bytes | None) -> dict[str, str]:
    """Read what `encode_labels` wrote."""
    if not value:
        return {}
    pairs = (pair.partition("=") for pair in value.decode().split(","))
    return {name: label for name, _, label in pairs}


def decode_rate(name: str, reply: Reply) -> RateState:
    """Read {spec, remaining, reset_us, retry_us}."""
    spec, remaining, reset_us, retry_us = reply
    return RateState(name, _policy(spec), remaining, reset_us / MICROSECONDS, retry_us / MICROSECONDS)


@lru_cache(maxsize=1024)
def _policy(spec: bytes) -> RateLimit:
    """Read limit, period, burst; as ``gateway apply`` wrote them, so there are few (3 us each)."""
    limit, period_s, burst, _ = map(int, spec.split(b":"))
    return RateLimit(limit, period_s, burst)


def decode_windows(standing: Reply) -> tuple[Window, ...]:
    """Read the budget windows of {concurrent, active, limit, spent, held, limit, ...}."""
    return tuple(
        Window(name, _number(standing[at]), int(standing[at + 1]), int(standing[at + 2]))
        for name, at in zip(WINDOWS, range(2, 14, 3), strict=True)
    )


def decode_quota(rate: RateState, standing: Reply) -> Quota:
    """Read where the caller's limits stand."""
    return Quota(
        rate=rate,
        concurrent=int(standing[0]),
        active=int(standing[1]),
        remaining=least_remaining(decode_windows(standing)),
    )
