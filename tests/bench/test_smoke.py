from __future__ import annotations

from pathlib import Path

import pytest

from bench.__main__ import measure
from bench.goals import GOALS, lines
from bench.page import TABLES
from bench.size import SMOKE


@pytest.mark.parametrize("part", ["tracker", "trips", "faults"])
async def test_every_figure_of_the_benchmark_can_still_be_had(part: str, tmp_path: Path) -> None:
    """A part runs on the real gateway and yields every figure for which there is a goal. How fast is not judged.

    The parts that load it as hard as they can are left to `make bench`: beside other tests they have no meaning.
    """
    figures = {name: found async for name, found in measure([part], SMOKE, tmp_path)}
    table = "\n".join(lines(figures))
    for goal in GOALS:
        if goal.path[0] == part:
            assert goal.figure(figures) is not None, goal.name
            assert goal.name in table
    for name in figures.keys() & TABLES.keys():
        assert all(line.startswith("|") for line in TABLES[name](figures[name]))
