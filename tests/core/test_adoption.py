from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.adoption import (
    EARLIER_S,
    LATER_S,
    MAX_PAUSE_S,
    Doubt,
    HistoryRow,
    Traces,
    Twin,
    match,
    may_be,
    next_look_ms,
    shows_absence,
)
from gateway.core.job import Job, JobState

START: Final = 1_790_000_000_000
NOTHING: Final = Traces({}, ())


def job(name: str = "a", at_s: float = 0, fingerprint: str = "same") -> Job:
    """Make an UNKNOWN job, submitted some seconds after the start."""
    return Job(
        id=name, tenant="team", key_id="k", model="m", kind="async", state=JobState.UNKNOWN, hold=1,
        created_ms=START + round(at_s * 1000), fingerprint=fingerprint,
    )  # fmt: skip


def row(
    name: str = "v", at_s: float | None = 1, fingerprint: str | None = "same", status: str = "PENDING"
) -> HistoryRow:
    """Make a row, some seconds after the start."""
    created_ms = None if at_s is None else START + round(at_s * 1000)
    return HistoryRow(request_id=name, model="m", status=status, cost=1, fingerprint=fingerprint, created_ms=created_ms)


def outcome(jobs: Sequence[Job], rows: Sequence[HistoryRow], traces: Traces = NOTHING) -> dict[str, str]:
    """Say in a word what becomes of each job: the row's id, or why it has none."""
    found = match(jobs, rows, traces, [one.id for one in jobs])
    said = {one.id: found.rows[one.id].request_id if one.id in found.rows else "absent" for one in jobs}
    said |= dict.fromkeys(found.unclear, "unclear")
    return said | dict.fromkeys(found.waiting, "waiting")


CASES: Final[dict[str, tuple[list[Job], list[HistoryRow], Traces, dict[str, str]]]] = {
    "found": ([job()], [row()], NOTHING, {"a": "v"}),
    "no rows": ([job()], [], NOTHING, {"a": "absent"}),
    "other inputs": ([job()], [row(fingerprint="other")], NOTHING, {"a": "absent"}),
    "a row without a time": ([job()], [row(at_s=None)], NOTHING, {"a": "v"}),
    "a row far too old": ([job()], [row(at_s=-EARLIER_S - 1)], NOTHING, {"a": "unclear"}),
    "a row far too young": ([job()], [row(at_s=LATER_S + 1)], NOTHING, {"a": "unclear"}),
    "a row that shows no inputs": ([job()], [row(fingerprint=None)], NOTHING, {"a": "unclear"}),
    "no inputs, long before": ([job()], [row(fingerprint=None, at_s=-EARLIER_S - 1)], NOTHING, {"a": "absent"}),
    "a row that is another's": ([job()], [row()], Traces({"v": "other/x"}, ()), {"a": "absent"}),
    "a row that it claimed before": ([job()], [row()], Traces({"v": "team/a"}, ()), {"a": "v"}),
    "a claim goes before the order": (
        [job("a"), job("b", 1)], [row("v"), row("w", 2)], Traces({"v": "team/b"}, ()), {"a": "w", "b": "v"},
    ),
    "two and two": ([job("b", 5), job("a")], [row("w", 6), row("v", 1)], NOTHING, {"a": "v", "b": "w"}),
    "two and one": ([job("b", 5), job("a")], [row("w", 6)], NOTHING, {"a": "w", "b": "absent"}),
    "one and two": ([job("a")], [row("w", 6), row("v", 1)], NOTHING, {"a": "v" }),
    "too old for the second": (
        [job("a"), job("b", 200)], [row("v", 1)], NOTHING, {"a": "v", "b": "absent"},
    ),
    "too old for the first": (
        [job("a"), job("b", 500)], [row("v", 501)], NOTHING, {"a": "absent", "b": "v"},
    ),
    "of too many, not the failed": (
        [job("a")], [row("v", 1, status="FAILED"), row("w", 2, status="COMPLETED")], NOTHING, {"a": "w"},
    ),
    "failed, and in the way of one that was billed": (
        [job("a"), job("b", 1400)], [row("v", 1, status="FAILED"), row("w", 2)], NOTHING, {"a": "w", "b": "absent"},
    ),
    "failed, and as many": (
        [job("a"), job("b", 1)], [row("v", 1, status="FAILED"), row("w", 2)], NOTHING, {"a": "v", "b": "w"},
    ),
    "an equal job is being sent": ([job()], [row()], Traces({}, (Twin("x", "same", START),)), {"a": "waiting"}),
    "another job is being sent": ([job()], [row()], Traces({}, (Twin("x", "other", START),)), {"a": "v"}),
    "an equal one, long after": ([job()], [row()], Traces({}, (Twin("x", "same", START + 200_000),)), {"a": "v"}),
    "it is no twin of its own": ([job()], [row()], Traces({}, (Twin("a", "same", START),)), {"a": "v"}),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_which_row_is_whose(case: str) -> None:
    """Model, inputs and time make a row a job's, unless it is another's; where nothing shows, absence is none."""
    jobs, rows, traces, expected = CASES[case]
    assert outcome(jobs, rows, traces) == expected


ROWS: Final = st.builds(
    row,
    name=st.uuids().map(str),
    at_s=st.none() | st.integers(-400, 900),
    fingerprint=st.sampled_from(("same", "other", None)),
    status=st.sampled_from(("PENDING", "COMPLETED", "FAILED")),
)
JOBS: Final = st.builds(
    job, name=st.uuids().map(str), at_s=st.integers(0, 600), fingerprint=st.sampled_from(("same", "other"))
)


@given(jobs=st.lists(JOBS, max_size=6), rows=st.lists(ROWS, max_size=8), data=st.data())
def test_no_row_goes_to_two_jobs(jobs: list[Job], rows: list[HistoryRow], data: st.DataObject) -> None:
    """Each row given fits its job, is nobody's, and goes once; while one that cost is left, no absence is evidence."""
    owned = data.draw(st.sets(st.sampled_from([one.request_id for one in rows]))) if rows else set()
    found = match(jobs, rows, Traces(dict.fromkeys(owned, "other/x"), ()), [one.id for one in jobs])
    given_rows = [one.request_id for one in found.rows.values()]
    assert len(given_rows) == len(set(given_rows))
    assert owned.isdisjoint(given_rows)
    for one in jobs:
        mine = found.rows.get(one.id)
        left = [r for r in rows if r.request_id not in {*owned, *given_rows}]
        if mine is not None:
            assert mine.fingerprint == one.fingerprint
            assert may_be(one.created_ms, mine)
        elif any(r.fingerprint == one.fingerprint and r.status != "FAILED" for r in left):
            assert one.id in found.unclear


def fits(jobs: Sequence[Job], rows: Sequence[HistoryRow]) -> bool:
    """Tell, by trying every way, whether each of some rows can go to a job of its own."""
    ways = permutations(jobs, len(rows))
    return any(all(may_be(one.created_ms, r) for one, r in zip(way, rows, strict=True)) for way in ways)


def rule(jobs: list[Job], rows: list[HistoryRow]) -> dict[str, str]:
    """State which of equal rows goes to which of equal jobs, as ``docs/unknown.md`` does, whatever it takes."""
    jobs = sorted(jobs, key=lambda one: (one.created_ms, one.id))
    rows = sorted(rows, key=lambda r: (r.created_ms is None, r.created_ms or 0, r.request_id))
    failed = [r for r in rows if r.status == "FAILED"]
    taken: list[HistoryRow] = []
    for r in [*(r for r in rows if r.status != "FAILED"), *reversed(failed)]:
        if fits(jobs, [*taken, r]):
            taken.append(r)
    said = {}
    for at, one in enumerate(jobs):
        for r in (r for r in rows if r in taken and may_be(one.created_ms, r)):
            rest = [other for other in taken if other is not r]
            if fits(jobs[at + 1 :], rest):
                said[one.id], taken = r.request_id, rest
                break
    assert taken == []
    return said


@given(
    jobs=st.lists(st.builds(job, st.uuids().map(str), st.sampled_from((0, 1, 60, 400, 500))), max_size=4),
    rows=st.lists(
        st.builds(
            row,
            name=st.uuids().map(str),
            at_s=st.sampled_from((None, -100, 1, 2, 290, 301, 420, 650)),
            status=st.sampled_from(("COMPLETED", "FAILED")),
        ),
        max_size=5,
    ),
)
def test_the_matching_is_the_rule(jobs: list[Job], rows: list[HistoryRow]) -> None:
    """Equal jobs have the rows that the documented rule gives them, found by trying every way."""
    found = match(jobs, rows, NOTHING, [one.id for one in jobs])
    assert {name: r.request_id for name, r in found.rows.items()} == rule(jobs, rows)


def test_thousands_of_equal_failed_rows_hold_nobody_up() -> None:
    """Of as many refused calls as a history shows, the newest go first; it takes no minutes to find out."""
    jobs = [job("a"), job("b", 1)]
    rows = [row(f"v{n}", 1 + n / 100, status="FAILED") for n in range(5000)]
    assert set(outcome(jobs, [*rows, row("w", 100)]).values()) == {"v4999", "w"}


def looks(unknown_after_s: float, until_s: float) -> list[float]:
    """List when a job is looked up, in seconds, if each look comes on time."""
    doubt, times = Doubt(job()), [0.0]
    while times[-1] < until_s:
        at_ms = next_look_ms(doubt, unknown_after_s)
        times.append((at_ms - START) / 1000)
        doubt = Doubt(doubt.job, None, at_ms)
    return times[1:]


def test_when_a_job_is_looked_up() -> None:
    """First at 10 s, then after twice the time, never more than two minutes apart, and once when time is up."""
    assert looks(900, 1100) == [10, 20, 40, 80, 160, 280, 400, 520, 640, 760, 880, 900, 1020, 1140]
    assert looks(3, 50) == [3, 13, 26, 52]


@given(unknown_after_s=st.integers(1, 86_400), looked_s=st.none() | st.integers(0, 200_000))
def test_a_look_always_comes(unknown_after_s: int, looked_s: int | None) -> None:
    """The next look is later than the last, by two minutes at most; the first one is by `unknown_after`."""
    looked_ms = None if looked_s is None else START + looked_s * 1000
    following = next_look_ms(Doubt(job(), None, looked_ms), unknown_after_s)
    if looked_ms is None:
        assert START < following <= START + unknown_after_s * 1000
    else:
        assert looked_ms < following <= looked_ms + MAX_PAUSE_S * 1000


@pytest.mark.parametrize(
    ("readable_s", "now_s", "shown"),
    [
        (None, 900, False),
        (10, 899, False),
        (10, 900, True),
        (59, 900, True),
        (300, 900, False),
        (300, 1139, False),
        (300, 1140, True),
    ],
)
def test_when_absence_is_evidence(readable_s: int | None, now_s: int, *, shown: bool) -> None:
    """The history must have been readable at each look for 15 minutes, but for the first one's wait."""
    readable_ms = None if readable_s is None else START + readable_s * 1000
    assert shows_absence(Doubt(job(), readable_ms), START + now_s * 1000, 900) is shown


@pytest.mark.parametrize(
    ("prints", "altered"),
    [
        ({}, False),
        ({"v": "sent"}, False),
        ({"w": "sent"}, True),
        ({"v": "sent", "w": "sent"}, False),
        ({"none": "sent"}, False),
    ],
)
def test_whether_inputs_are_shown_as_sent(prints: dict[str, str], altered: bool) -> None:
    """Where every row of ours that shows inputs shows others than were sent, a job's absence shows nothing."""
    rows = [row("v", fingerprint="sent"), row("w", fingerprint="and more"), row("none", fingerprint=None)]
    assert match([job()], rows, Traces({}, (), prints), ["a"]).altered is altered
