"""The vendor's request history as a statement: every request of some days, whatever the model, each once."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final
from urllib.parse import urlencode

from gateway.core.adoption import HistoryRow
from gateway.errors import UpstreamInvalidResponse
from gateway.upstream.history import PATH, PER_PAGE, PROBE_DAYS, Ask, dearer, is_last

DAYS_A_READING: Final = 7
MAX_PAGES: Final = 500
"""Of one reading."""


async def read_statement(ask: Ask, *, first_ms: int, end_ms: int) -> list[HistoryRow]:
    """Read every row of some time and of the days around it, a request with several outputs once.

    Raises:
        UpstreamError: As `ask` does.
        UpstreamInvalidResponse: It can't be read to its end.
    """
    first = datetime.fromtimestamp(first_ms / 1000, UTC) - timedelta(days=1)
    last = datetime.fromtimestamp(end_ms / 1000, UTC) + timedelta(days=1)
    found: dict[str, HistoryRow] = {}
    start = first
    while start <= last:
        end = min(start + timedelta(days=DAYS_A_READING - 1), last)
        await _read(ask, found, start, end)
        start = end + timedelta(days=1)
    return list(found.values())


async def ensure_shown(ask: Ask, *, end_ms: int) -> None:
    """Make sure that the history shows any request of the last month: else that it shows none of ours means nothing.

    Raises:
        UpstreamError: As `ask` does.
        UpstreamInvalidResponse: It shows none.
    """
    last = datetime.fromtimestamp(end_ms / 1000, UTC) + timedelta(days=1)
    probe = await ask(_query(1, last - timedelta(days=PROBE_DAYS), last))
    if not probe.rows:
        raise UpstreamInvalidResponse("the history shows no request at all")


async def _read(ask: Ask, found: dict[str, HistoryRow], first: datetime, last: datetime) -> None:
    """Read the pages of some days."""
    field, known, repeats = "", set[str](), 0
    for number in range(1, MAX_PAGES + 1):
        page = await ask(_query(number, first, last))
        if is_last(page, field):
            return
        field, before = page.field, len(known)
        for row in page.rows:
            known.add(row.request_id)
            found[row.request_id] = dearer(found.get(row.request_id), row)
        repeats = repeats + 1 if len(known) == before else 0
        if repeats > 1:
            raise UpstreamInvalidResponse("the history gives the same page again and again")
    raise UpstreamInvalidResponse("the history has more pages than can be read")


def _query(page: int, first: datetime, last: datetime) -> str:
    asked = {"page": page, "per_page": PER_PAGE, "from_date": f"{first:%Y-%m-%d}", "to_date": f"{last:%Y-%m-%d}"}
    return f"{PATH}?{urlencode(asked)}"
