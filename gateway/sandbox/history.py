"""The vendor's request history: what was really billed.

The names of the rows' field and of the timestamps are not documented; ``data`` and ``model_created`` (the documented
sort key) are the sandbox's choice.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import orjson
from starlette.responses import Response

from gateway.sandbox import answers
from gateway.sandbox.access import authenticate
from gateway.sandbox.endpoint import Exchange
from gateway.sandbox.jobs import Job, Status, state_at
from gateway.sandbox.state import Sandbox

_MAX_WINDOW = timedelta(days=31)
_DEFAULT_WINDOW = timedelta(days=7)
_MAX_PER_PAGE = 100
_STATUSES = ("COMPLETED", "FAILED", "PENDING")
_SORTS: Mapping[str, Callable[[Job], float | str]] = {
    "model_created": lambda job: job.submitted_at,
    "model_name": lambda job: job.model.slug,
    "credits_deduction": lambda job: float(job.billed),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """Ask for one page of the history; `from_s` and `to_s` (exclusive) are epoch seconds."""

    page: int
    per_page: int
    from_s: float
    to_s: float
    model_name: str
    status: str
    sort_by: str
    descending: bool


def parse_query(args: Mapping[str, str], now: float) -> Query:
    """Read the query string; the window is the last 7 days unless given.

    Raises:
        Refusal: 400: a value is malformed, or the window is longer than 31 days.
    """
    today = datetime.fromtimestamp(now, UTC).date()
    try:
        page, per_page = int(args.get("page", "1")), int(args.get("per_page", "20"))
        last = date.fromisoformat(args["to_date"]) if "to_date" in args else today
        first = date.fromisoformat(args["from_date"]) if "from_date" in args else last - _DEFAULT_WINDOW
    except ValueError:
        raise answers.Refusal(400, "Invalid page, per_page, from_date or to_date") from None
    if page < 1 or not 1 <= per_page <= _MAX_PER_PAGE:
        raise answers.Refusal(400, "page must be at least 1, per_page between 1 and 100")
    if not timedelta(0) <= last - first <= _MAX_WINDOW:
        raise answers.Refusal(400, "The date window may span at most 31 days")
    status, sort_by = args.get("status", ""), args.get("sort_by", "model_created")
    if (status and status not in _STATUSES) or sort_by not in _SORTS:
        raise answers.Refusal(400, "Invalid status or sort_by")
    return Query(
        page=page,
        per_page=per_page,
        from_s=_midnight(first),
        to_s=_midnight(last + timedelta(days=1)),
        model_name=args.get("model_name", ""),
        status=status,
        sort_by=sort_by,
        descending=args.get("sort_order", "desc") != "asc",
    )


async def list_history(sandbox: Sandbox, exchange: Exchange) -> Response:
    """Answer ``GET /inference-request/request-history``: one row per output."""
    authenticate(sandbox, exchange)
    now = sandbox.clock()
    query = parse_query(exchange.request.query_params, now)
    chosen = [job for job in sandbox.jobs if _landed(sandbox, job, now) and _matches(job, query, now)]
    chosen.sort(key=_SORTS[query.sort_by], reverse=query.descending)
    slots = [(job, index) for job in chosen for index in range(job.outputs)]
    start = (query.page - 1) * query.per_page
    page = slots[start : start + query.per_page]
    return answers.answer(
        200,
        {
            "data": [_row(job, index, now, exchange.origin) for job, index in page],
            "page": query.page,
            "per_page": query.per_page,
            "total": len(slots),
            "total_pages": -(-len(slots) // query.per_page),
        },
    )


async def get_history(sandbox: Sandbox, exchange: Exchange) -> Response:
    """Answer ``GET /inference-request/request-history/{id}``, whatever the age of the request."""
    authenticate(sandbox, exchange)
    now = sandbox.clock()
    job = sandbox.any_job(exchange.request_id)
    if job is None or not _landed(sandbox, job, now):
        raise answers.not_found(exchange.request_id)
    return answers.answer(200, _row(job, 0, now, exchange.origin))


def _landed(sandbox: Sandbox, job: Job, now: float) -> bool:
    return now >= job.submitted_at + sandbox.knobs.history_delay_s


def _matches(job: Job, query: Query, now: float) -> bool:
    return (
        query.from_s <= job.submitted_at < query.to_s
        and query.model_name in job.model.slug
        and query.status in {"", _status(job, now)}
    )


def _status(job: Job, now: float) -> str:
    state = state_at(job, now)
    return state if state in {Status.COMPLETED, Status.FAILED} else "PENDING"


def _row(job: Job, index: int, now: float, origin: str) -> answers.Body:
    status = _status(job, now)
    done = status == Status.COMPLETED
    urls = answers.file_urls(job, origin)
    return {
        "request_id": job.request_id,
        "model_name": job.model.slug,
        "model_status": status,
        "credits_deduction": answers.credits_json(job.billed) if done else 0.0,
        "request_body": orjson.Fragment(job.body),
        "generation_url": urls[index] if done and urls else None,
        "latency_ms": None if status == "PENDING" else round(job.total_s * 1000),
        "model_created": answers.timestamp(job.submitted_at),
        "model_updated": answers.timestamp(min(now, job.ends_at)),
        "error": job.error if status == Status.FAILED else None,
    }


def _midnight(day: date) -> float:
    return datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()
