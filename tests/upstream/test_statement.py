from __future__ import annotations

from datetime import UTC, datetime
from urllib.parse import parse_qs, urlsplit

import pytest

from gateway.core.adoption import HistoryRow
from gateway.errors import UpstreamInvalidResponse
from gateway.upstream.history import Page
from gateway.upstream.statement import ensure_shown, read_statement

FIRST = int(datetime(2026, 2, 1, tzinfo=UTC).timestamp() * 1000)
END = int(datetime(2026, 2, 20, tzinfo=UTC).timestamp() * 1000)
NONE = Page([], "", frozenset({"data"}))


def row(name: str, cost: int | None = 1) -> HistoryRow:
    """Make a row."""
    return HistoryRow(request_id=name, model="m", status="COMPLETED", cost=cost, fingerprint=None, created_ms=FIRST)


def page(*rows: HistoryRow, field: str = "data") -> Page:
    """Make a page."""
    return Page(rows, field, frozenset())


class Vendor:
    """Gives pages by number, the same for all days, and keeps what was asked."""

    def __init__(self, *pages: Page, probe: Page = NONE) -> None:
        self.pages, self.probe = pages, probe
        self.asked: list[dict[str, str]] = []

    async def __call__(self, query: str) -> Page:
        """Answer."""
        asked = {name: values[0] for name, values in parse_qs(urlsplit(query).query).items()}
        self.asked.append(asked)
        if asked["from_date"] < "2026-01-31":
            return self.probe
        number = int(asked["page"])
        return self.pages[number - 1] if number <= len(self.pages) else NONE

    async def read(self) -> list[HistoryRow]:
        """Read the statement."""
        return await read_statement(self, first_ms=FIRST, end_ms=END)


async def test_each_request_is_read_once_whatever_its_outputs() -> None:
    """Rows of several outputs, on one page or two, are one request, at the cost that one of them tells."""
    vendor = Vendor(page(row("a", None), row("a", 5), row("b")), page(row("b"), row("c")))
    found = {one.request_id: one.cost for one in await vendor.read()}
    assert found == {"a": 5, "b": 1, "c": 1}


async def test_all_days_and_those_around_are_asked_for_within_what_the_vendor_allows() -> None:
    """No day is left out, no window is longer than 31 days, and no model is named."""
    vendor = Vendor(page(row("a")))
    await vendor.read()
    windows = sorted({(asked["from_date"], asked["to_date"]) for asked in vendor.asked})
    assert windows == [
        ("2026-01-31", "2026-02-06"), ("2026-02-07", "2026-02-13"), ("2026-02-14", "2026-02-20"),
        ("2026-02-21", "2026-02-21"),
    ]  # fmt: skip
    assert all("model_name" not in asked for asked in vendor.asked)


@pytest.mark.parametrize(
    "pages",
    [
        pytest.param((page(row("a")), page(row("b"), field="rows")), id="rows move"),
        pytest.param((page(row("a")), Page([], "", frozenset({"other"}))), id="another list is empty"),
        pytest.param((Page([], "", frozenset()),), id="no list at all"),
        pytest.param((page(row("a")),) * 600, id="the same page for ever"),
        pytest.param(tuple(page(row(str(n))) for n in range(600)), id="no end"),
    ],
)
async def test_what_can_not_be_read_is_not_taken_for_empty(pages: tuple[Page, ...]) -> None:
    """Whatever does not read as a whole history is an error: that it shows none of ours would mean nothing."""
    with pytest.raises(UpstreamInvalidResponse):
        await Vendor(*pages).read()


async def test_a_history_that_shows_nothing_is_told_from_quiet_days() -> None:
    """Days without a request are empty; whether that can be believed depends on whether last month had one."""
    assert await Vendor().read() == []
    await ensure_shown(Vendor(probe=page(row("old"))), end_ms=END)
    with pytest.raises(UpstreamInvalidResponse):
        await ensure_shown(Vendor(), end_ms=END)
