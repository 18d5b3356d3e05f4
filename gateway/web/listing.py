"""``GET /v2/requests``: the caller's own jobs, newest first."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, Final, cast, get_args
from urllib.parse import parse_qsl

import orjson

from gateway.core.credits import format_credits
from gateway.core.job import Job, VendorStatus, is_job_id
from gateway.core.listing import MAX_LIMIT, JobQuery
from gateway.core.movements import Denied
from gateway.core.tenant import MODEL
from gateway.errors import InvalidRequest
from gateway.web import problems
from gateway.web.api import TenantApi
from gateway.web.auth import authenticate
from gateway.web.exchange import Answer, Exchange, json_answer
from gateway.web.intake import base_of
from gateway.web.limits import rate_headers
from gateway.web.urls import status_url

_STATUSES: Final[frozenset[str]] = frozenset(get_args(VendorStatus))


async def page(api: TenantApi, exchange: Exchange) -> Answer:
    """Answer ``GET /v2/requests?status=&model=&since=&cursor=&limit=``."""
    base = base_of(api, exchange)
    credential = authenticate(exchange.headers)
    query = read_query(exchange.scope["query_string"])
    found = await api.jobs.page(credential, query)
    if not isinstance(found, Denied) or found.code != "unauthenticated":
        exchange.caller = credential
    if isinstance(found, Denied):
        return problems.denied(found, base)
    listed = [_described(job, base) for job in found.jobs]
    body = orjson.dumps({"requests": listed, "next_cursor": found.next_cursor})
    return json_answer(body, rate_headers(found.quota))


def read_query(query: bytes) -> JobQuery:
    """Read what is asked for; a parameter without a value is as if it were not there.

    Raises:
        InvalidRequest: Names the parameter that is unknown, given twice or malformed.
    """
    given: dict[str, Any] = {}
    for name, value in parse_qsl(query.decode("latin-1"), keep_blank_values=True):
        reader = _READERS.get(name)
        if reader is None or name in given:
            raise InvalidRequest("this list takes each of status, model, since, cursor and limit once", field=name[:64])
        given[name] = reader(value) if value else None
    fields = {_FIELDS[name]: value for name, value in given.items() if value is not None}
    return JobQuery(**fields)


def _status(text: str) -> frozenset[VendorStatus]:
    words = frozenset(text.split(","))
    if not words <= _STATUSES:
        raise InvalidRequest("status must be QUEUED, PROCESSING, COMPLETED or FAILED, or some of them", field="status")
    return cast("frozenset[VendorStatus]", words)


def _model(text: str) -> str:
    if MODEL.fullmatch(text) is None:
        raise InvalidRequest("model must be the name of a model", field="model")
    return text


def _since(text: str) -> int:
    """Read a date or an RFC 3339 time as Unix ms; a ``+`` that was not escaped has become a space."""
    try:
        at = datetime.fromisoformat(text.replace(" ", "+"))
        return max(0, int((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1000))
    except (ValueError, OverflowError):
        raise InvalidRequest("since must be a date or time: 2026-02-28T12:00:00Z", field="since") from None


def _cursor(text: str) -> str:
    if not is_job_id(text):
        raise InvalidRequest("cursor must be the next_cursor of another page", field="cursor")
    return text


def _limit(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= len(str(MAX_LIMIT)) and 1 <= int(text) <= MAX_LIMIT):
        raise InvalidRequest(f"limit must be a whole number from 1 to {MAX_LIMIT}", field="limit")
    return int(text)


_READERS: Final[Mapping[str, Callable[[str], object]]] = MappingProxyType(
    {"status": _status, "model": _model, "since": _since, "cursor": _cursor, "limit": _limit}
)
_FIELDS: Final = MappingProxyType(
    {"status": "statuses", "model": "model", "since": "since_ms", "cursor": "cursor", "limit": "limit"}
)


def _described(job: Job, base: str) -> dict[str, object]:
    described: dict[str, object] = {
        "request_id": job.id,
        "model": job.model,
        "status": job.status,
        "created_at": _time(job.created_ms),
        "labels": dict(job.labels),
        "status_url": status_url(base, job.id),
        "response_url": f"{base}/v2/requests/{job.id}",
    }
    if job.finished_ms is not None:
        described["finished_at"] = _time(job.finished_ms)
    if job.cost is not None:
        described["cost"] = orjson.Fragment(format_credits(job.cost))
    if not job.state.terminal:
        described["held"] = orjson.Fragment(format_credits(job.hold))
    if job.reason is not None:
        described["error"] = problems.clean(job.reason)
    return described


def _time(unix_ms: int) -> str:
    """Write a time as RFC 3339 has it, in UTC."""
    at = datetime.fromtimestamp(unix_ms / 1000, UTC)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
