"""``GET /v2/requests/{id}/events``: a job's statuses as server-sent events, as they change.

Of sse-starlette only the encoder of events is used. Its `EventSourceResponse` writes the whole answer itself, past the
edge (no ``X-Request-Id``, no event of the request); it learns of a shutdown from uvicorn's signal handling, which our
server leaves out, so that each open stream would hold the process up for its whole drain time; and it keeps four tasks
and a timer a stream, where two do.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from types import MappingProxyType
from typing import Final

from sse_starlette.event import ServerSentEvent

from gateway.core.job import JobView, VendorStatus
from gateway.errors import Refused
from gateway.web.api import TenantApi
from gateway.web.exchange import NO_STORE, Answer, Exchange
from gateway.web.intake import base_of
from gateway.web.jobs import found, status_body
from gateway.web.limits import job_headers, rate_headers

RANKS: Final[Mapping[VendorStatus, int]] = MappingProxyType({"QUEUED": 1, "PROCESSING": 2, "COMPLETED": 3, "FAILED": 3})
"""A status's place in the order in which a job has them: the id of its event, so that a stream resumes exactly."""
_HEADERS: Final = ((b"content-type", b"text/event-stream"), NO_STORE, (b"x-accel-buffering", b"no"))


async def events(api: TenantApi, exchange: Exchange) -> Answer:
    """Answer ``GET /v2/requests/{id}/events``.

    Raises:
        Refused: Too many callers wait already, or the process is about to end.
    """
    base = base_of(api, exchange)
    read = await found(api, exchange, base, with_result=False)
    if isinstance(read, Answer):
        return read
    job, reading = read
    headers = rate_headers(reading.quota) + job_headers(job, held=not job.state.terminal)
    seen = _last_event_id(exchange.headers)
    if job.state.terminal and seen >= RANKS[job.status]:
        return Answer(204, [*headers, NO_STORE], b"")  # an EventSource comes back after every end, until it gets this
    if not job.state.terminal and api.waiting.full:
        raise _refusal(draining=api.waiting.draining)
    body = b"" if exchange.scope["method"] == "HEAD" else _stream(api, exchange, job, base, seen)
    return Answer(200, [*headers, *_HEADERS], body)


def _refusal(*, draining: bool) -> Refused:
    if draining:
        return Refused("draining", "this instance is shutting down", limited_by="gateway", retry_after_s=1)
    return Refused("overloaded", "too many callers are waiting", limited_by="gateway", retry_after_s=5)


def _last_event_id(headers: Mapping[bytes, bytes]) -> int:
    """Return the rank that the caller has seen; 0 where it sends none, or none of ours."""
    value = headers.get(b"last-event-id", b"")
    return int(value) if value in {b"1", b"2", b"3"} else 0


async def _stream(api: TenantApi, exchange: Exchange, job: JobView, base: str, seen: int) -> AsyncIterator[bytes]:
    if RANKS[job.status] > seen:
        yield _event(job, base)
    async with aclosing(api.waiting.changes(job, beat_s=api.beat_s)) as changes:
        async for now in changes:
            if now is None:
                yield ServerSentEvent(comment="still there").encode()
            else:
                exchange.job = now
                yield _event(now, base)


def _event(job: JobView, base: str) -> bytes:
    return ServerSentEvent(status_body(job, base).decode(), event="status", id=str(RANKS[job.status])).encode()
