"""What `make bench-docs` writes: every table, from however many files, and nothing that the figures don't say."""

from __future__ import annotations

import re
from typing import Any

import pytest

from bench.goals import GOALS, verdict
from bench.page import PAGES, TABLES, tables_of, written

MARK = re.compile(r"<!-- (\w+) -->\n(.*?)\n<!-- /\1 -->", re.DOTALL)
PAGES_NOW = {page.name: page.read_text("utf-8") for page in PAGES}


def run(part: str, figures: object, *, day: int = 1, load: float = 0.5) -> dict[str, Any]:
    """Make a run of one part."""
    return {"machine": {"date": f"2026-01-{day:02}", "python": "3.11.7", "cpus": 2, "load": load}, part: figures}


def at_limit() -> dict[str, Any]:
    """Make figures that keep every goal, just so."""
    figures: dict[str, Any] = {}
    for goal in GOALS:
        place = figures
        for step in goal.path[:-1]:
            place = place.setdefault(step, {})
        place[goal.path[-1]] = goal.limit
    return figures


def test_every_table_has_one_place_and_every_place_a_table() -> None:
    """The marks on the pages are those that are written, each on one page."""
    found = [name for page in PAGES_NOW.values() for name, _ in MARK.findall(page)]
    assert sorted(found) == sorted([*TABLES, "goals", "costs"])


def test_runs_of_a_part_each_are_one_set_of_figures() -> None:
    """Parts from several files are judged together; of a part in two files the last counts; the days are told."""
    figures = at_limit()
    runs = [run(part, found, day=2 + n) for n, (part, found) in enumerate(figures.items())]
    late = run("trips", {"status": 2, "submit": 2}, day=9, load=3)
    goals = tables_of([*runs, late])["goals"]
    assert f"Kept: {len(GOALS) - 1} of {len(GOALS)}. Missed: round trips a read, 2 x its goal.\n" in goals
    assert "\nMeasured 2026-01-02 to 2026-01-09: 2 cores" in goals
    assert "load average when it began 0.5 to 3.0; other work ran beside it" in goals
    assert "other work" not in tables_of(runs)["goals"]


def test_what_was_not_measured_is_said_and_never_passes() -> None:
    """A goal without a figure is neither kept nor missed."""
    figures = at_limit()
    del figures["trips"]
    assert verdict(figures) == (
        f"Kept: {len(GOALS) - 2} of {len(GOALS)}. Not measured: round trips a read; round trips a submit."
    )


@pytest.mark.parametrize("page", PAGES_NOW.values(), ids=PAGES_NOW)
def test_a_page_changes_between_its_marks_only(page: str) -> None:
    """What has figures is replaced whole, and what has none stays as it is."""
    [name, *_] = [name for name, _ in MARK.findall(page)]
    new = written(page, {name: "| new |"})
    assert dict(MARK.findall(new)) == dict(MARK.findall(page)) | {name: "| new |"}
    assert MARK.sub("", new) == MARK.sub("", page)
    assert written(page, {}) == page
