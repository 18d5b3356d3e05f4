from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.upstream.reset import HEADER, retry_after

NOW_S = 1_767_225_600.0  # 2026-01-01T00:00:00Z
DATE = "Thu, 01 Jan 2026 00:00:00 GMT"


@pytest.mark.parametrize(
    ("reset", "wait_s"),
    [
        (None, 5),
        ("", 5),
        ("soon", 5),
        ("nan", 5),
        ("inf", 5),
        ("1767225630", 30),
        ("1767225630.2", 31),
        ("1767225630000", 30),
        ("2026-01-01T00:00:30Z", 30),
        ("2026-01-01T01:00:30+01:00", 30),
        ("2026-01-01 00:00:30", 30),
        ("2026-01-01 00:00:30.500000 UTC", 31),
        ("Thu, 01 Jan 2026 00:00:30 GMT", 30),
        ("2026-01-01T00:00:00Z", 1),
        ("2026-01-01T00:00:00.100Z", 1),
        ("2026-01-01T03:00:00Z", 120),
        ("2025-12-31T21:00:00Z", 5),
        ("9999-12-31T23:59:59Z", 120),
        ("-1", 5),
        ("1e300", 120),
    ],
)
def test_the_wait_is_sane(reset: str | None, wait_s: int) -> None:
    """Missing, unreadable and past say nothing: 5 s; the rest lies within 1 and 120 s."""
    assert retry_after({} if reset is None else {HEADER: reset}, now_s=NOW_S) == wait_s


@pytest.mark.parametrize("skew_s", [-10_800, 0, 10_800])
def test_a_clock_that_is_hours_off_is_off_in_the_date_too(skew_s: int) -> None:
    """The reset is taken against the vendor's own clock, whatever ours says."""
    headers = {HEADER: "2026-01-01T00:00:30Z", "date": DATE}
    assert retry_after(headers, now_s=NOW_S + skew_s) == 30


@given(st.text(max_size=40), st.text(max_size=40), st.floats(0, 4e9))
def test_any_header(reset: str, date: str, now_s: float) -> None:
    """Whatever the vendor sends, the wait is from 1 to 120 whole seconds."""
    assert 1 <= retry_after({HEADER: reset, "date": date}, now_s=now_s) <= 120
