"""Calls to the vendor and its words, as values."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from gateway.core.job import VendorStatus
from gateway.core.record import record


@record(kw_only=True)
class CallContext:
    """Who a call is made for; goes into the event, never upstream but for `traceparent`.

    Attributes:
        upstream_key: Name of the company key that the job was sent with; empty: the current one.
        leaving: Called by a write at the last moment, when its connection is there and no byte has left, at each
            attempt. The `UpstreamHeldBack` that it raises ends the call, unsent.
    """

    tenant: str = ""
    key_id: str = ""
    model: str = ""
    job_id: str = ""
    upstream_id: str = ""
    request_id: str = ""
    traceparent: str | None = None
    held: int | None = None
    upstream_key: str = ""
    leaving: Callable[[], None] | None = None


@dataclass(frozen=True, slots=True)
class VendorAnswer:
    """A definite answer of the vendor to a read or an upload: status, allow-listed headers, capped body."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@record()
class VendorState:
    """The vendor's word on a job, as decoded from a status or result body.

    Attributes:
        status: None where the vendor no longer knows the job (404).
        cost: Nanocredits; None where missing or absurd.
        remaining: Nanocredits left on the company's account, for operators only; None where missing or absurd.
        error: The vendor's text for a FAILED job.
        body: The full result body as received, for a result read.
        headers: Of a sync call's answer, those that a replay gives again.
    """

    status: VendorStatus | None
    cost: int | None = None
    error: str | None = None
    body: bytes = b""
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)
    remaining: int | None = None
