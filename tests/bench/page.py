"""The tables of docs/benchmarks.md and docs/deployment.md, from kept figures: ``python -m bench.page FILE...``."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from bench.durability import durability_table
from bench.faults import fault_table
from bench.goals import SERIES, goal_table
from bench.sizing import sizing_table

DOCS: Final = Path(__file__).resolve().parent.parent.parent / "docs"
PAGES: Final = (DOCS / "benchmarks.md", DOCS / "deployment.md")
TABLES: Final[Mapping[str, Callable[[Mapping[str, Any]], Iterator[str]]]] = {
    "faults": fault_table,
    "durability": durability_table,
    "sizing": sizing_table,
}
BUSY: Final = 1.0


def costs(figures: Mapping[str, Any]) -> Iterator[str]:
    """Write what a request cost beside the echo as a table of Markdown."""
    yield "| | CPU, us | CPU of Redis, us | requests/s | p50, ms | p99, ms |"
    yield "|---" * (len(SERIES) + 1) + "|"
    for part in ("reads", "submits"):
        for name, series in figures.get(part, {}).items():
            if isinstance(series, Mapping) and "cpu_us" in series:
                yield f"| {name} | {' | '.join(f'{series[column]:g}' for column in SERIES)} |"


def machine(told: list[Mapping[str, Any]]) -> str:
    """Say where the figures are from."""
    loads = [one["load"] for one in told]
    busy = "other work ran beside it, so that times and rates are worse than they would be without"
    noise = f"; {busy}" if max(loads) > BUSY else ""
    return (
        f"{told[0]['cpus']} cores, shared with the load generator, Redis and the vendor's stand-in; "
        f"Python {told[0]['python']}; load average when a part began {min(loads):.1f} to {max(loads):.1f}{noise}."
    )


def written(page: str, tables: Mapping[str, str]) -> str:
    """Return a page with what stands between a pair of marks replaced; a page without the marks stays."""
    for name, table in tables.items():
        begin, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
        if begin in page and end in page:
            head, _, rest = page.partition(begin)
            page = f"{head}{begin}{table}\n{end}{rest.partition(end)[2]}"
    return page


def tables_of(runs: list[Mapping[str, Any]]) -> dict[str, str]:
    """Return the tables that some runs have the figures for, by mark; of a part in several runs, the last counts."""
    figures: dict[str, Any] = {}
    for run in runs:
        figures |= {name: part for name, part in run.items() if name not in {"machine", "size"}}
    tables = {name: "\n".join(table(figures[name])) for name, table in TABLES.items() if name in figures}
    tables["machine"] = machine([run["machine"] for run in runs])
    tables["goals"] = "\n".join(goal_table(figures))
    tables["costs"] = "\n".join(costs(figures))
    return tables


def main() -> None:
    """Write the pages."""
    tables = tables_of([json.loads(Path(name).read_text()) for name in sys.argv[1:]])
    for page in PAGES:
        page.write_text(written(page.read_text("utf-8"), tables), "utf-8")


if __name__ == "__main__":
    main()
