from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path

from gateway.core.faultpoints import FaultPoint

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "guarantees.md").read_text("utf-8")
ROWS = range(1, 36)


def named() -> Mapping[int, list[str]]:
    """Return the tests that the table names, by row; ``*`` stands for any characters. No cell of it is empty."""
    table = PAGE.partition("\n## Faults\n")[2].partition("\n## ")[0]
    cells = [line.strip("|").split("|") for line in table.splitlines() if re.match(r"\| \d+ \|", line)]
    assert all(len(row) == 5 and all(cell.strip() for cell in row) for row in cells)
    return {int(row[0]): re.findall(r"`([^`]+::[^`]+)`", row[3]) for row in cells}


def existing() -> list[str]:
    """Return ``path::name`` of every test there is, below ``tests/``."""
    return [
        f"{path.relative_to(ROOT / 'tests')}::{node.name}"
        for path in (ROOT / "tests").rglob("test_*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")
    ]


def test_every_fault_has_its_tests() -> None:
    """Each row of the table names tests, and each of them exists."""
    found, there = named(), existing()
    assert sorted(found) == list(ROWS)
    empty = [row for row, patterns in found.items() if not patterns]
    gone = [name for names in found.values() for name in names if not any(fnmatchcase(test, name) for test in there)]
    assert (empty, gone) == ([], [])


def test_every_row_has_a_test_of_its_name() -> None:
    """Each row has a test in ``tests/faults`` whose name begins with the row's number, and the row names it."""
    found, of_row = named(), [test for test in existing() if test.startswith("faults/")]
    for row in ROWS:
        own = [test for test in of_row if f"::test_r{row:02}_" in test]
        assert own, f"no test_r{row:02}_ in tests/faults"
        assert any(fnmatchcase(test, name) for test in own for name in found[row]), row


def test_every_test_of_a_fault_is_in_its_row() -> None:
    """A test that is named for a row stands in that row."""
    found = named()
    of_rows = [(int(row[1]), test) for test in existing() if (row := re.search(r"^faults/.*::test_r(\d\d)_", test))]
    assert of_rows
    assert [test for row, test in of_rows if not any(fnmatchcase(test, name) for name in found[row])] == []


def test_every_fault_point_is_listed() -> None:
    """The page names every point that `GATEWAY_FAULT` knows."""
    assert [point for point in FaultPoint if f"`{point}`" not in PAGE] == []
