from __future__ import annotations

import re

import pytest
from docs.tables import ROOT, existing, fitting, gone, named

from gateway.core.faultpoints import FaultPoint

FAULTS_PAGE = (ROOT / "docs" / "guarantees.md").read_text("utf-8")
ABUSE_PAGE = (ROOT / "docs" / "abuse.md").read_text("utf-8")
FAULTS, ABUSE = range(1, 36), range(1, 24)
NOT_BUILT = [23]
"""Rows of abuse that have no test, since what they are about does not exist; the page says so."""


@pytest.mark.parametrize(
    ("page", "heading", "rows", "without"),
    [(FAULTS_PAGE, "Faults", FAULTS, []), (ABUSE_PAGE, "Abuse", ABUSE, NOT_BUILT)],
    ids=["faults", "abuse"],
)
def test_every_row_has_its_tests(page: str, heading: str, rows: range, without: list[int]) -> None:
    """Each row of a table names tests, and each of them exists."""
    found = named(page, heading)
    assert sorted(found) == list(rows)
    assert [row for row, patterns in found.items() if not patterns] == without
    assert gone(found, existing()) == []


def test_every_fault_has_a_test_of_its_name() -> None:
    """Each fault has a test in ``tests/faults`` whose name begins with the row's number, and the row names it."""
    found, of_row = named(FAULTS_PAGE, "Faults"), [test for test in existing() if test.startswith("faults/")]
    for row in FAULTS:
        own = [test for test in of_row if f"::test_r{row:02}_" in test]
        assert own, f"no test_r{row:02}_ in tests/faults"
        assert any(fitting(test, found[row]) for test in own), row


@pytest.mark.parametrize(
    ("page", "heading", "name"),
    [(FAULTS_PAGE, "Faults", r"^faults/.*::test_r(\d\d)_"), (ABUSE_PAGE, "Abuse", r"::test_a(\d\d)_")],
    ids=["faults", "abuse"],
)
def test_every_test_of_a_row_is_in_it(page: str, heading: str, name: str) -> None:
    """A test that is named for a row stands in that row."""
    found = named(page, heading)
    of_rows = [(int(row[1]), test) for test in existing() if (row := re.search(name, test))]
    assert of_rows
    assert [test for row, test in of_rows if not fitting(test, found[row])] == []


def test_what_is_not_built_says_so() -> None:
    """A row of abuse without a test tells why."""
    lines = [line for line in ABUSE_PAGE.splitlines() if re.match(rf"\| ({'|'.join(map(str, NOT_BUILT))}) \|", line)]
    assert len(lines) == len(NOT_BUILT)
    assert all("control plane, which is not built" in line for line in lines)


def test_every_fault_point_is_listed() -> None:
    """The page names every point that `GATEWAY_FAULT` knows."""
    assert [point for point in FaultPoint if f"`{point}`" not in FAULTS_PAGE] == []
