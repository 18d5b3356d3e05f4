"""Tables of the documentation whose rows name the tests that show them, and the tests that there are."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path

ROOT = Path(__file__).parents[2]


def named(page: str, heading: str) -> Mapping[int, list[str]]:
    """Return the tests that the table below a heading names, by row; ``*`` stands for any characters.

    They stand in the fourth cell; no cell is empty.
    """
    table = page.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    cells = [line.strip("|").split("|") for line in table.splitlines() if re.match(r"\| \d+ \|", line)]
    assert len({len(row) for row in cells}) == 1
    assert all(cell.strip() for row in cells for cell in row)
    return {int(row[0]): re.findall(r"`([^`]+::[^`]+)`", row[3]) for row in cells}


def existing() -> list[str]:
    """Return ``path::name`` of every test there is, below ``tests/``."""
    return [
        f"{path.relative_to(ROOT / 'tests')}::{node.name}"
        for path in (ROOT / "tests").rglob("test_*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")
    ]


def fitting(test: str, patterns: list[str]) -> bool:
    """Tell whether a row names a test."""
    return any(fnmatchcase(test, pattern) for pattern in patterns)


def gone(found: Mapping[int, list[str]], there: list[str]) -> list[str]:
    """Return what rows name and nobody has written."""
    return [name for names in found.values() for name in names if not any(fnmatchcase(test, name) for test in there)]
