from __future__ import annotations

from collections import Counter
from datetime import UTC, date, datetime, timedelta
from statistics import median_high, median_low

import hypothesis.strategies as st
import pytest
from hypothesis import given

from gateway.core.quota import Window
from gateway.core.tenant import WindowName
from gateway.core.usage import PACE_DAYS, Forecast, Row, Usage, bucket_of, forecasts, group, middle_ms, periods

NOON = datetime(2026, 2, 11, 12, tzinfo=UTC)


def took(*durations_ms: int) -> Usage:
    """Count completed jobs."""
    return Usage(Counter(f"took_{bucket_of(ms)}" for ms in durations_ms))


@given(ms=st.integers(1, 10**9))
def test_a_bucket_stands_for_its_durations(ms: int) -> None:
    """The middle of a bucket is within 1/16 of whatever falls into it, and buckets rise with durations."""
    assert abs(middle_ms(bucket_of(ms)) - ms) <= ms / 16
    assert bucket_of(ms) <= bucket_of(ms + 1)


@given(durations=st.lists(st.integers(100, 3_600_000), min_size=1, max_size=50))
def test_quantiles_of_merged_histograms(durations: list[int]) -> None:
    """The median over any rows is within 6 % and a rounding of a median of the durations themselves."""
    median = took(*durations).latency_s(0.5)
    assert median is not None
    assert median_low(durations) * 15 / 16 - 1 <= median * 1000 <= median_high(durations) * 17 / 16 + 1


def test_no_latency_without_a_completed_job() -> None:
    """Where nothing completed there is no quantile, rather than a zero."""
    assert Usage().latency_s(0.99) is None


def test_rows_are_added_up_by_what_is_asked_for() -> None:
    """Each row counts in one group; months take in days, and whole months count as months."""
    rows = [
        Row("a", "2026-01", "k1", "m1", {"jobs": 3, "spent": 30}),
        Row("a", "2026-02-01", "k1", "m1", {"jobs": 1, "spent": 5, "failed": 1}),
        Row("a", "2026-02-02", "k2", "m1", {"jobs": 1, "held": 7}),
        Row("b", "2026-02-02", "k3", "m2", {"jobs": 1, "refused_rate_limited": 2}),
    ]
    by_month = group(rows, ["tenant", "month"])
    assert [(name, u.jobs, u.spent, u.held) for name, u in by_month.items()] == [
        (("a", "2026-01"), 3, 30, 0), (("a", "2026-02"), 2, 5, 7), (("b", "2026-02"), 1, 0, 0),
    ]  # fmt: skip
    assert by_month["a", "2026-02"].running == 1
    assert by_month["b", "2026-02"].refused == {"rate_limited": 2}
    assert sum(usage.jobs for usage in group(rows, ["key", "model"]).values()) == 6
    assert list(group(rows, [])) == [()]


@pytest.mark.parametrize(
    ("first", "last", "expected"),
    [
        (date(2026, 1, 1), date(2026, 1, 31), ["2026-01"]),
        (date(2026, 1, 30), date(2026, 2, 1), ["2026-01-30", "2026-01-31", "2026-02-01"]),
        (date(2025, 12, 31), date(2026, 2, 2), ["2025-12-31", "2026-01", "2026-02-01", "2026-02-02"]),
        (date(2026, 1, 1), date(2026, 2, 11), ["2026-01", "2026-02"]),
    ],
)
def test_whole_months_stand_for_their_days(first: date, last: date, expected: list[str]) -> None:
    """No day is counted twice or left out; a month that is running is whole, since it has no later day."""
    assert periods(first, last, daily=False, today=NOON.date()) == expected
    days = periods(first, last, daily=True, today=NOON.date())
    assert days == [f"{first + timedelta(days=n)}" for n in range((last - first).days + 1)]


def budget(name: WindowName, limit: int, spent: int, held: int = 0) -> Window:
    """Make a budget."""
    return Window(name, limit, spent, held)


def spent(*amounts: int) -> list[int]:
    """Make what was spent today, yesterday, and so on."""
    return [*amounts, *([0] * (PACE_DAYS - len(amounts)))]


@pytest.mark.parametrize(
    ("window", "days", "expected"),
    [
        # 120 in the last 36 hours: 100 last for 30 more.
        (budget("month", 220, 120), spent(40, 80), datetime(2026, 2, 12, 18, tzinfo=UTC)),
        (budget("month", 100_000, 120), spent(40, 80), None),
        (budget("total", 1220, 120), spent(40, 80), NOON + timedelta(hours=330)),
        # Of the day's budget 10 are left, at 80 in 36 hours.
        (budget("day", 50, 40), spent(40, 40), NOON + timedelta(hours=4.5)),
        (budget("day", 90, 40), spent(40, 40), None),
        (budget("week", 50, 40, 10), spent(40), NOON),
        (budget("total", 50, 0), spent(), None),
        (budget("total", 10**18, 0), spent(1), None),
    ],
)
def test_when_a_budget_runs_out(window: Window, days: list[int], expected: datetime | None) -> None:
    """At the pace of the last days; not at all where the window starts anew before."""
    (forecast,) = forecasts([window, Window("day", None, 5, 0)], days, NOON)
    assert forecast.runs_out_at == expected
    assert isinstance(forecast, Forecast)
    assert (forecast.resets_at is None) == (window.name == "total")
