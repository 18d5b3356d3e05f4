"""The tables of figures in the documentation, from those of one run or several: ``python -m bench.page FILE...``."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from bench.durability import durability_table
from bench.faults import fault_table
from bench.goals import GOALS, SERIES, goal_table, verdict
from bench.sizing import sizing_table

DOCS: Final = Path(__file__).resolve().parent.parent.parent / "docs"
PAGES: Final = (DOCS / "benchmarks.md", DOCS / "deployment.md", DOCS / "guarantees.md")
TABLES: Final[Mapping[str, Callable[[Mapping[str, Any]], Iterator[str]]]] = {
    "faults": fault_table,
    "durability": durability_table,
    "sizing": sizing_table,
}


def costs(figures: Mapping[str, Any]) -> Iterator[str]:
    """Write what a request cost beside the echo as a table of Markdown."""
    yield "| | CPU, us | CPU of Redis, us | requests/s | p50, ms | p99, ms |"
    yield "|---" * (len(SERIES) + 1) + "|"
    for part in ("reads", "submits"):
        for name, series in figures.get(part, {}).items():
            if isinstance(series, Mapping) and "cpu_us" in series:
                yield f"| {name} | {' | '.join(f'{series[column]:g}' for column in SERIES)} |"


def measured(runs: Sequence[Mapping[str, Any]]) -> str:
    """Say when and where some runs were made."""
    told = [run["machine"] for run in runs]
    loads, days = [one["load"] for one in told], sorted({one["date"] for one in told})
    # Below that it is what the part before has left of itself.
    busy = max(loads) > told[0]["cpus"]
    noise = "; other work ran beside it, and times and rates would be better without" if busy else ""
    return (
        f"Measured {' to '.join(dict.fromkeys((days[0], days[-1])))}: {told[0]['cpus']} cores, shared with the load "
        f"generator, Redis and the vendor's stand-in; Python {told[0]['python']}; load average when it began "
        f"{' to '.join(dict.fromkeys(f'{load:.1f}' for load in (min(loads), max(loads))))}{noise}."
    )


def written(page: str, tables: Mapping[str, str]) -> str:
    """Return a page with what stands between a pair of marks replaced; a page without the marks stays."""
    for name, table in tables.items():
        begin, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
        if begin in page and end in page:
            head, _, rest = page.partition(begin)
            page = f"{head}{begin}{table}\n{end}{rest.partition(end)[2]}"
    return page


def tables_of(runs: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Return what some runs have the figures for, by mark; of a part in several runs, the last counts."""
    sources = {name: run for run in runs for name in run if name not in {"machine", "size", "quick"}}
    figures = {name: run[name] for name, run in sources.items()}
    tables = {
        name: "\n".join((*table(figures[name]), "", measured([sources[name]])))
        for name, table in TABLES.items()
        if name in figures
    }
    judged = [sources[name] for name in dict.fromkeys(goal.path[0] for goal in GOALS) if name in sources]
    if judged:
        tables["goals"] = "\n".join((*goal_table(figures), "", verdict(figures), "", measured(judged)))
        tables["costs"] = "\n".join(costs(figures))
    return tables


def main() -> None:
    """Write the pages."""
    tables = tables_of([json.loads(Path(name).read_text()) for name in sys.argv[1:]])
    for page in PAGES:
        page.write_text(written(page.read_text("utf-8"), tables), "utf-8")


if __name__ == "__main__":
    main()
