"""``GET /v2/usage``: what the caller's tenant used and spent, and how long its budgets will last."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import Any, Final
from urllib.parse import parse_qsl

import orjson

from gateway.core.movements import Denied
from gateway.core.usage import DIMENSIONS, Dimension, Forecast, Usage
from gateway.errors import InvalidRequest
from gateway.service.usage import UsageQuery, UsageReport
from gateway.service.usage_shown import AMOUNTS, BUDGET_AMOUNTS, as_csv, budget, figures, reasons, rows
from gateway.web import problems
from gateway.web.api import TenantApi
from gateway.web.auth import authenticate
from gateway.web.exchange import NO_STORE, Answer, Exchange, json_answer
from gateway.web.limits import rate_headers

_CSV: Final = (b"content-type", b"text/csv; charset=utf-8; header=present")
_OWN: Final[Mapping[str, Dimension]] = {name: name for name in DIMENSIONS if name != "tenant"}
_DEFAULT_BY: Final = "day,model"


async def usage(api: TenantApi, exchange: Exchange) -> Answer:
    """Answer ``GET /v2/usage?from=&to=&group_by=day,model``, as JSON or, by ``Accept: text/csv``, as CSV."""
    credential = authenticate(exchange.headers)
    report = await api.usage.own(credential, read_query(exchange.scope["query_string"], api.usage.today()))
    if not isinstance(report, Denied) or report.code != "unauthenticated":
        exchange.caller = credential
    if isinstance(report, Denied):
        return problems.denied(report, "")
    headers = [] if report.rate is None else rate_headers(report.rate)
    if b"text/csv" in exchange.headers.get(b"accept", b"").lower():
        body = as_csv(report).encode()
        return Answer(200, [*headers, _CSV, NO_STORE, (b"content-length", b"%d" % len(body))], body)
    return json_answer(orjson.dumps(_shown(report)), headers)


def read_query(query: bytes, today: date) -> UsageQuery:
    """Read what is asked for; by default this month so far, by day and model.

    Raises:
        InvalidRequest: Names the parameter that is unknown, given twice or malformed.
    """
    given: dict[str, str] = {}
    for name, value in parse_qsl(query.decode("latin-1"), keep_blank_values=True):
        if name not in {"from", "to", "group_by"} or name in given:
            raise InvalidRequest("usage takes each of from, to and group_by once", field=name[:64])
        given[name] = value
    last = _day("to", given["to"]) if "to" in given else today
    first = _day("from", given["from"]) if "from" in given else last.replace(day=1)
    return UsageQuery(first, last, _by(given.get("group_by", _DEFAULT_BY)))


def _day(name: str, text: str) -> date:
    try:
        return datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC).date()
    except ValueError:
        raise InvalidRequest(f"{name} must be a day like 2026-02-28", field=name) from None


def _by(text: str) -> tuple[Dimension, ...]:
    words = text.split(",")
    if not set(words) <= _OWN.keys() or len(set(words)) < len(words):
        raise InvalidRequest(f"group_by takes some of {', '.join(_OWN)}, each once", field="group_by")
    return tuple(_OWN[word] for word in words)


def _shown(report: UsageReport) -> dict[str, object]:
    query = report.query
    return {
        "from": query.first,
        "to": query.last,
        "group_by": query.by,
        "usage": [values | _figures(usage) for values, usage in rows(report)],
        "total": _figures(report.total),
        "budgets": [_budget(forecast) for forecasts in report.budgets.values() for forecast in forecasts],
    }


def _figures(usage: Usage) -> dict[str, Any]:
    return _numbers(figures(usage), AMOUNTS) | reasons(usage)


def _budget(forecast: Forecast) -> dict[str, Any]:
    return _numbers(budget(forecast), BUDGET_AMOUNTS)


def _numbers(shown: dict[str, Any], amounts: tuple[str, ...]) -> dict[str, Any]:
    """Make JSON numbers of amounts, exactly as they are written."""
    return shown | {name: orjson.Fragment(shown[name]) for name in amounts}
