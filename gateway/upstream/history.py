"""The vendor's request history: what it was asked, and what it billed.

Few of its fields are documented: the rows are the first field that holds a list of objects with ``request_id``. An
answer without such rows is *not readable*, never *empty*: an account, a period or a name that shows nothing looks the
same as a history that shows nothing of ours.
"""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from email.utils import parsedate_to_datetime
from itertools import pairwise
from sys import intern
from typing import Any, Final
from urllib.parse import urlencode

from gateway.core.adoption import History, HistoryRow
from gateway.core.credits import vendor_credits
from gateway.core.inputs import fingerprint, parse_object
from gateway.errors import InvalidRequest, UpstreamInvalidResponse
from gateway.upstream.wire import Answer, figure, upstream_id

PATH: Final = "/inference-request/request-history"
PER_PAGE: Final = 100
MAX_PAGES: Final = 50
PROBE_DAYS: Final = 30
"""Within the 31 days that the vendor allows a window to span."""
_DEPTH: Final = 2
_TIME_NAME: Final = re.compile(r"creat|updat|time|date|stamp|start|submit|queued|_at$", re.IGNORECASE)
_CREATION_NAME: Final = re.compile(r"creat|submit|queued", re.IGNORECASE)
_ISO: Final = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:.*", re.ASCII)
_ISO_ZONE: Final = re.compile(r"[A-Za-z]$|[+-]\d\d:?\d\d(:?\d\d)?$", re.ASCII)
_ZONES_MS: Final = 12 * 3_600_000
"""A time without a zone may be of the westernmost: it then reads as older than it is."""
_FIRST_MS, _LAST_MS = 10**12, 10**13
"""Unix milliseconds of the years 2001 to 2286."""


@dataclass(frozen=True, slots=True)
class Page:
    """One page of the history.

    Attributes:
        field: Where the rows stood; empty: there were none.
        empty: Fields that hold an empty list: past the last page, that of the rows is one of them. None where there are
            rows of which one is unfit, so that no page of those is taken for the last.
        zoneless: A row has a time that does not tell its zone.
    """

    rows: Sequence[HistoryRow]
    field: str
    empty: frozenset[str]
    zoneless: bool = False


Ask = Callable[[str], Awaitable[Page]]
"""Fetches a page by its query."""


async def read_history(ask: Ask, model: str, *, since_ms: int, now_ms: int) -> History:
    """Read the rows of a model since a moment, page by page, each request once.

    The days asked for are one more at either end than ours, since it is not documented whose days they are. Reading
    stops early where the rows come newest first.

    Raises:
        UpstreamError: As `ask` does.
        UpstreamInvalidResponse: There is no row of the model, or what came is no page.
    """
    since, now = (datetime.fromtimestamp(moment / 1000, UTC) for moment in (since_ms, now_ms))
    until = now + timedelta(days=1)
    found: dict[str, HistoryRow] = {}
    field = ""
    for number in range(1, MAX_PAGES + 1):
        page = await ask(_query(model, number, since - timedelta(days=1), until))
        if is_last(page, field):
            return await _ended(ask, model, list(found.values()), until)
        field, known = page.field, len(found)
        for row in page.rows:
            found[row.request_id] = dearer(found.get(row.request_id), row)
        if _passed(list(found.values()), page.rows, since_ms - (_ZONES_MS if page.zoneless else 0)):
            return await _ended(ask, model, list(found.values()), until)
        if len(found) == known:
            break  # the same page again: what comes after it can't be had
    return History(_of(model, found.values()), complete=False)


def is_last(page: Page, field: str) -> bool:
    """Tell whether a page is the one after the last, which lists nothing; ``field``: where the rows stood so far.

    Raises:
        UpstreamInvalidResponse: It has no rows and does not say that there are none, or has them in another field.
    """
    if not page.rows:
        if not page.empty or (field and field not in page.empty):
            raise UpstreamInvalidResponse("a page of the history has no rows, and does not say that it is the last")
        return True
    if field not in {"", page.field}:
        raise UpstreamInvalidResponse("the rows of the history moved to another field")
    return False


def dearer(one: HistoryRow | None, other: HistoryRow) -> HistoryRow:
    """Of two rows of one request, take the one that tells a cost, or the higher."""
    if one is None or (other.cost or 0) > (one.cost or 0):
        return other
    return one


async def _ended(ask: Ask, model: str, rows: Sequence[HistoryRow], until: datetime) -> History:
    """Make sure that the history shows this model at all, by this name: else finding nothing means nothing."""
    wanted = _of(model, rows)
    if not wanted:
        probe = await ask(_query(model, 1, until - timedelta(days=PROBE_DAYS), until))
        if not _of(model, probe.rows):
            raise UpstreamInvalidResponse("the history shows no request of this model")
    return History(wanted, complete=True)


def _query(model: str, page: int, first: datetime, last: datetime) -> str:
    asked = {
        "page": page, "per_page": PER_PAGE, "from_date": f"{first:%Y-%m-%d}", "to_date": f"{last:%Y-%m-%d}",
        "model_name": model,
    }  # fmt: skip
    return f"{PATH}?{urlencode(asked)}"


def _of(model: str, rows: Iterable[HistoryRow]) -> list[HistoryRow]:
    """Leave out other models: the vendor's filter may take part of a name for the name."""
    return [row for row in rows if row.model == model]


def _passed(found: Sequence[HistoryRow], last: Sequence[HistoryRow], since_ms: int) -> bool:
    """Tell whether rows evidently come newest first and the last page was older than what is wanted."""
    times = [row.created_ms for row in found if row.created_ms is not None]
    if len(times) < len(found) or any(one < following for one, following in pairwise(times)) or times[0] == times[-1]:
        return False
    return all(row.created_ms is not None and row.created_ms < since_ms for row in last)


def decode(answer: Answer) -> Page:
    """Read an answer of the history.

    Raises:
        UpstreamInvalidResponse: It is not a JSON object.
    """
    try:
        said = json.loads(answer.body.decode(), parse_float=figure, parse_constant=lambda _: None)
    except (ValueError, RecursionError):
        said = None
    if not isinstance(said, dict):
        raise UpstreamInvalidResponse("the history is not a JSON object")
    lists = list(_lists(said))
    empty = frozenset(name for name, rows in lists if not rows)
    name, rows = next(((name, rows) for name, rows in lists if rows and all(map(_is_row, rows))), ("", []))
    if not rows and any(isinstance(value, dict) and "request_id" in value for _, some in lists for value in some):
        empty = frozenset()
    return Page([_row(row) for row in rows], name, empty, any(map(_is_zoneless, rows)))


def _lists(said: Mapping[str, Any], prefix: str = "", depth: int = _DEPTH) -> Iterator[tuple[str, list[Any]]]:
    """Yield the lists of an object and of the objects in it, with the names of their fields."""
    for name, value in said.items():
        if isinstance(value, list):
            yield prefix + name, value
        elif isinstance(value, dict) and depth > 1:
            yield from _lists(value, f"{prefix}{name}.", depth - 1)


def _is_row(value: object) -> bool:
    return isinstance(value, dict) and upstream_id(value.get("request_id")) is not None


def _is_zoneless(said: Mapping[str, Any]) -> bool:
    times = (value for name, value in said.items() if _TIME_NAME.search(name) and isinstance(value, str))
    return any(_moment_ms(value) is not None and _ISO_ZONE.search(value) is None for value in times)


def _row(said: Mapping[str, Any]) -> HistoryRow:
    model, status = said.get("model_name"), said.get("model_status")
    model = model if isinstance(model, str) and model.isprintable() else ""  # an operator may book it, and reads it
    return HistoryRow(
        request_id=said["request_id"],
        model=intern(model),  # once for tens of thousands of rows
        status=intern(status.upper()) if isinstance(status, str) else "",
        cost=vendor_credits(said.get("credits_deduction")),
        fingerprint=_fingerprint(model, said.get("request_body")),
        created_ms=_created_ms(said),
    )


def _fingerprint(model: str, body: object) -> str | None:
    """Read the inputs as sent, an object or the text of one; None where they can't be read."""
    try:
        text = body if isinstance(body, str) else json.dumps(body, default=float)
        return fingerprint(model, parse_object(text.encode()))
    except (InvalidRequest, ValueError, RecursionError):
        return None


def _created_ms(said: Mapping[str, Any]) -> int | None:
    """Return when the request was made: the earliest time in a field named for that, else the earliest of all."""
    times = {name: _moment_ms(value) for name, value in said.items() if _TIME_NAME.search(name)}
    known = {name: moment for name, moment in times.items() if moment is not None}
    made = [moment for name, moment in known.items() if _CREATION_NAME.search(name)]
    return min(made or known.values(), default=None)


def _moment_ms(value: object) -> int | None:
    """Read Unix seconds or milliseconds, ISO 8601 or RFC 5322; without a zone it is UTC."""
    if isinstance(value, int | Decimal) and not isinstance(value, bool):
        return next((round(value * unit) for unit in (1000, 1) if _FIRST_MS <= value * unit < _LAST_MS), None)
    if not isinstance(value, str):
        return None
    try:
        moment = datetime.fromisoformat(value) if _ISO.fullmatch(value) else parsedate_to_datetime(value)
        zoned = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
        return int(zoned.timestamp() * 1000)
    except (ValueError, TypeError, OverflowError):
        return None
