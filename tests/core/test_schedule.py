from __future__ import annotations

import uuid

import hypothesis.strategies as st
import pytest
from hypothesis import given

from gateway.core.schedule import (
    FAILURE_MAX_S,
    FAILURE_MIN_S,
    FIRST_POLL_S,
    MAX_INTERVAL_S,
    MIN_INTERVAL_S,
    URGENT_AFTER_S,
    VENDOR_TTL_S,
    next_poll_s,
    overdue_level,
    retry_poll_s,
    spread_s,
)

AGES = st.floats(0, 2 * VENDOR_TTL_S)
LATENCIES = st.floats(0, VENDOR_TTL_S)


def polls(expected_s: float, lasts_s: float) -> int:
    """Count the polls of a job until the one that sees its end."""
    count, age_s = 1, FIRST_POLL_S
    while age_s < lasts_s:
        count, age_s = count + 1, age_s + next_poll_s(age_s, expected_s)
    return count


@given(age_s=AGES, expected_s=LATENCIES, late_s=st.floats(-60, 600))
def test_intervals_are_bounded(age_s: float, expected_s: float, late_s: float) -> None:
    """Whatever the age, the expectation and the lateness, a job is polled neither in a rush nor forgotten."""
    assert MIN_INTERVAL_S <= next_poll_s(age_s, expected_s, late_s) <= MAX_INTERVAL_S


@given(age_s=AGES, later_s=AGES, expected_s=LATENCIES)
def test_polls_come_closer_as_the_end_does(age_s: float, later_s: float, expected_s: float) -> None:
    """The nearer a job is to its expected end, the sooner the next poll."""
    first, last = sorted((age_s, later_s))
    assert next_poll_s(last, expected_s) <= next_poll_s(first, expected_s)


def test_a_job_of_425_s_takes_about_54_polls() -> None:
    """The main model's job costs an eighth of what one caller of the SDK would poll."""
    assert 50 <= polls(425, 425) <= 58


@pytest.mark.parametrize(
    ("expected_s", "lasts_s", "late_s"), [(425, 425, 5), (425, 380, 5), (25, 25, 1.5), (120, 600, 2)]
)
def test_the_end_is_seen_soon(expected_s: float, lasts_s: float, late_s: float) -> None:
    """A job that ends when it is expected, sooner or later is seen within a few seconds of its end."""
    age_s = FIRST_POLL_S
    while age_s < lasts_s:
        age_s += next_poll_s(age_s, expected_s)
    assert age_s - lasts_s <= late_s


@given(age_s=AGES, expected_s=LATENCIES, late_s=st.floats(0, 600))
def test_only_a_job_that_is_nearly_done_makes_up_for_lateness(age_s: float, expected_s: float, late_s: float) -> None:
    """A slow fleet stretches the intervals of young jobs, those near their end last."""
    nearly_done = age_s >= min(0.8 * expected_s, URGENT_AFTER_S)
    shortened = next_poll_s(age_s, expected_s) - next_poll_s(age_s, expected_s, late_s)
    assert 0 <= shortened <= late_s + 1e-9
    assert nearly_done or shortened == 0


@given(age_s=AGES, silent_s=st.floats(0, VENDOR_TTL_S))
def test_failed_polls_back_off_but_not_past_the_vendors_hour(age_s: float, silent_s: float) -> None:
    """The longer the vendor is silent, the longer the pause; near the vendor's hour it stays short."""
    pause_s = retry_poll_s(age_s, silent_s)
    assert FAILURE_MIN_S <= pause_s <= (MAX_INTERVAL_S if age_s >= URGENT_AFTER_S else FAILURE_MAX_S)
    assert retry_poll_s(age_s, silent_s + pause_s) >= pause_s


@pytest.mark.parametrize(
    ("age_s", "expected_s", "level"),
    [(1274, 425, 0), (1275, 425, 1), (2999, 425, 1), (3000, 425, 2), (2999, 1800, 0), (3000, 1800, 2)],
)
def test_a_job_is_overdue_at_three_times_its_latency_and_at_50_minutes(
    age_s: float, expected_s: float, level: int
) -> None:
    """There are two alerts, and the second comes for every job."""
    assert overdue_level(age_s, expected_s) == level


@given(st.floats(1, 15), st.uuids(version=4))
def test_intervals_are_spread_by_the_job(interval_s: float, job: uuid.UUID) -> None:
    """A job's intervals are a tenth longer or shorter, the same one each time, and never below a second."""
    spread = spread_s(interval_s, str(job))
    assert max(0.9 * interval_s, MIN_INTERVAL_S) - 1e-9 <= spread <= 1.1 * interval_s + 1e-9
    assert spread == spread_s(interval_s, str(job))


def test_a_burst_of_submits_does_not_stay_a_burst_of_polls() -> None:
    """A thousand jobs of one moment are polled over a fifth of the interval, evenly."""
    waits = sorted(spread_s(10, str(uuid.uuid4())) for _ in range(1000))
    assert (waits[0] < 9.1, waits[-1] > 10.9) == (True, True)
    assert 9.8 < waits[500] < 10.2
