from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from gateway.core.schedule import FIRST_POLL_S, next_poll_s, retry_poll_s

DOCS = Path(__file__).parents[2] / "docs" / "tracker.md"


def polled_at(latency_s: float, expected_s: float) -> list[float]:
    """List the ages at which a job that takes so long is polled, the one that sees its end included."""
    ages = [FIRST_POLL_S]
    while ages[-1] < latency_s:
        ages.append(ages[-1] + next_poll_s(ages[-1], expected_s))
    return ages


@pytest.mark.parametrize(
    ("latency_s", "expected_s", "count"),
    [
        (425, 425, 54),
        (600, 425, 95),  # slower than expected
        (300, 425, 27),  # faster than expected
        (122, 122, 53),
        (26, 26, 25),
        (3, 3, 3),
        (0.3, 425, 1),  # a malformed parameter fails at once
        (3600, 425, 801),
    ],
)
def test_polls_a_job(latency_s: float, expected_s: float, count: int) -> None:
    """A job costs the vendor this many polls, however many wait for it."""
    assert len(polled_at(latency_s, expected_s)) == count


@pytest.mark.parametrize("latency_s", [3, 22, 122, 425, 608])
def test_the_table_in_the_docs(latency_s: int) -> None:
    """The docs' table of polls a job, beside the SDK's own at 1 s and 2 s, is what the schedule does."""
    row = f"| {latency_s} s | {len(polled_at(latency_s, latency_s))} | {latency_s + 1} | {latency_s // 2 + 1} |"
    assert row in DOCS.read_text("utf-8").splitlines()


@pytest.mark.parametrize("expected_s", [3, 22, 90, 425, 608, 3000])
def test_the_end_is_seen_within_a_twentieth(expected_s: float) -> None:
    """A job that takes about as long as expected is seen to end within 5 % of its length or 1 s."""
    for before, after in pairwise(polled_at(1.2 * expected_s, expected_s)):
        assert before <= 0.7 * expected_s or after - before <= max(0.05 * before, 1.0)


@pytest.mark.parametrize(
    ("age_s", "expected_s", "wait_s"),
    [
        (0, 425, 15),
        (125, 425, 15),
        (225, 425, 10),
        (340, 425, 4.25),
        (425, 425, 4.25),
        (3600, 425, 4.25),
        (0, 1, 1),
        (0, 100_000, 15),
        (100_000, 100_000, 15),
    ],
)
def test_intervals(age_s: float, expected_s: float, wait_s: float) -> None:
    """A twentieth of what is left, of a fifth of the whole at least, never below 1 s nor above 15 s."""
    assert next_poll_s(age_s, expected_s) == pytest.approx(wait_s)


@pytest.mark.parametrize(
    ("age_s", "late_s", "wait_s"),
    [(100, 6, 15), (339, 3, 4.3), (340, 3, 1.25), (340, 60, 1), (340, -2, 4.25), (3000, 2, 2.25)],
)
def test_nearly_done_is_stretched_last(age_s: float, late_s: float, wait_s: float) -> None:
    """A job that is nearly done makes up for the time by which its poll came late; the others don't."""
    assert next_poll_s(age_s, 425, late_s) == pytest.approx(wait_s)


@pytest.mark.parametrize(
    ("age_s", "unconfirmed_s", "wait_s"),
    [(30, 0, 5), (30, 10, 5), (60, 30, 15), (600, 500, 60), (3100, 500, 15), (3100, 2, 5)],
)
def test_failed_polls_back_off(age_s: float, unconfirmed_s: float, wait_s: float) -> None:
    """The longer the vendor is silent, the longer the wait, up to a minute; 15 s where its hour is near."""
    assert retry_poll_s(age_s, unconfirmed_s) == wait_s
