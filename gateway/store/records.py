"""A job's record between Redis and `core.job.Job`, and the other replies that scripts share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from gateway.core.job import Job, JobKind, JobState, VendorStatus
from gateway.core.movements import Finished
from gateway.core.quota import Quota, RateState, Window, least_remaining
from gateway.core.tenant import MICROSECONDS, WINDOWS, RateLimit

FIELDS = (
    "id", "state", "kind", "model", "key", "hold", "created", "fingerprint", "upstream_id", "upstream_key",
    "status", "confirmed", "accepted", "finished", "cost", "estimated", "error", "code", "result", "request_id",
    "traceparent", "webhook", "labels", "windows", "missing", "overdue",
)  # fmt: skip
"""Fields in the order in which every script replies with them; the same list stands in ``lua/_prelude.lua``."""

Reply = Sequence[Any]


def _text(value: bytes | None) -> str | None:
    return value.decode() if value else None


def _number(value: bytes | None) -> int | None:
    return int(value) if value else None


def decode_job(tenant: str, values: Sequence[bytes | None]) -> Job | None:
    """Read a record as replied by a script; None where there is no such job."""
    if not values or values[0] is None or values[1] is None:
        return None
    v = dict(zip(FIELDS, values, strict=True))
    return Job(
        id=values[0].decode(),
        tenant=tenant,
        key_id=_text(v["key"]) or "",
        model=_text(v["model"]) or "",
        kind=cast("JobKind", _text(v["kind"]) or "async"),
        state=JobState(values[1].decode()),
        hold=_number(v["hold"]) or 0,
        created_ms=_number(v["created"]) or 0,
        fingerprint=_text(v["fingerprint"]) or "",
        upstream_id=_text(v["upstream_id"]),
        upstream_key=_text(v["upstream_key"]),
        vendor_status=cast("VendorStatus", _text(v["status"]) or "QUEUED"),
        confirmed_ms=_number(v["confirmed"]),
        missing_ms=_number(v["missing"]),
        overdue=_number(v["overdue"]) or 0,
        accepted_ms=_number(v["accepted"]),
        finished_ms=_number(v["finished"]),
        cost=_number(v["cost"]),
        estimated=v["estimated"] == b"1",
        error=_text(v["error"]),
        code=_text(v["code"]),
        has_result=v["result"] == b"1",
        request_id=_text(v["request_id"]) or "",
        traceparent=_text(v["traceparent"]),
        webhook_url=_text(v["webhook"]),
        labels=decode_labels(v["labels"]),
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
    limit, period_s, burst, _ = map(int, reply[0].split(b":"))
    return RateState(
        name=name,
        policy=RateLimit(limit, period_s, burst),
        remaining=int(reply[1]),
        reset_s=int(reply[2]) / MICROSECONDS,
        retry_after_s=int(reply[3]) / MICROSECONDS,
    )


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
