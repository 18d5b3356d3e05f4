from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import hypothesis.strategies as st
import pytest
from hypothesis import given

from gateway.core.credits import MAX_NANO
from gateway.core.quota import Window, least_remaining, window_end
from gateway.core.tenant import WINDOWS, WindowName

MOMENTS = st.datetimes(datetime(1970, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001  # hypothesis wants naive bounds
LENGTHS: dict[WindowName, tuple[timedelta, timedelta]] = {
    "day": (timedelta(days=1), timedelta(days=1)),
    "week": (timedelta(days=7), timedelta(days=7)),
    "month": (timedelta(days=28), timedelta(days=31)),
}


@pytest.mark.parametrize("name", LENGTHS)
@given(at=MOMENTS)
def test_a_window_ends_at_a_midnight_that_is_still_to_come(name: WindowName, at: datetime) -> None:
    """Every moment is before the end of its window and within its length; the end begins a window of full length."""
    end = window_end(name, at)
    assert end is not None
    shortest, longest = LENGTHS[name]
    assert timedelta(0) < end - at <= longest
    assert end == end.replace(hour=0, minute=0, second=0, microsecond=0)
    following = window_end(name, end)
    assert following is not None
    assert shortest <= following - end <= longest
    assert name != "week" or end.weekday() == 0
    assert name != "month" or end.day == 1


def test_windows_are_utc_whatever_the_zone() -> None:
    """A moment is the same moment in any zone."""
    at = datetime(2026, 3, 1, 0, 30, tzinfo=timezone(timedelta(hours=2)))
    assert window_end("month", at) == datetime(2026, 3, 1, tzinfo=UTC)


def test_the_total_never_ends() -> None:
    """The window `total` has no end."""
    assert window_end("total", datetime(2026, 1, 1, tzinfo=UTC)) is None


@pytest.mark.parametrize(("spent", "held", "remaining"), [(0, 0, 10), (4, 5, 1), (10, 0, 0), (15, 3, 0)])
def test_what_remains_is_never_below_zero(spent: int, held: int, remaining: int) -> None:
    """An overspent window has nothing left."""
    assert Window("day", 10, spent, held).remaining == remaining


def test_the_least_of_the_windows_counts() -> None:
    """A tenant may spend what its tightest budget leaves; without any, the maximum."""
    windows = tuple(Window(name, limit, 2, 0) for name, limit in zip(WINDOWS, (9, None, 5, None), strict=True))
    assert least_remaining(windows) == 3
    assert least_remaining(tuple(Window(name, None, 2, 0) for name in WINDOWS)) == MAX_NANO
