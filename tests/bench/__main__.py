"""``python -m bench``: measure, print the goals with what was found, and keep the figures as JSON."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import uvloop

from bench.durability import durability
from bench.faults import faults
from bench.goals import lines
from bench.overload import overload
from bench.page import TABLES
from bench.reads import reads
from bench.scene import shared_servers
from bench.size import FULL, QUICK, Size
from bench.sizing import sizing
from bench.submits import submits
from bench.tracker import tracker
from bench.trips import trips

PARTS: Final = {
    "reads": reads,
    "submits": submits,
    "trips": trips,
    "tracker": tracker,
    "overload": overload,
    "faults": faults,
    "durability": durability,
    "sizing": sizing,
}
OUT: Final = Path("bench/out")


async def measure(parts: Sequence[str], size: Size, directory: Path) -> AsyncIterator[tuple[str, dict[str, Any]]]:
    """Measure some parts, one after the other; yield each with its figures."""
    with shared_servers(directory) as shared:
        for name in parts:
            yield name, await PARTS[name](shared, size)


def machine() -> dict[str, Any]:
    """Say when and where this was measured."""
    return {
        "date": time.strftime("%Y-%m-%d"),
        "python": platform.python_version(),
        "cpus": os.cpu_count(),
        "load": os.getloadavg()[0],
    }


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(prog="python -m bench", description="The gateway beside a bare echo.")
    parser.add_argument("parts", nargs="*", default=list(PARTS), help=f"of {', '.join(PARTS)}; default: all")
    parser.add_argument("--quick", action="store_true", help="a rough answer in less than a minute")
    parser.add_argument("--name", default=time.strftime("%Y%m%d-%H%M%S"), help="of the JSON file in bench/out")
    given = parser.parse_args()
    if unknown := set(given.parts) - PARTS.keys():
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    uvloop.run(_run(given.parts, QUICK if given.quick else FULL, OUT / f"{given.name}.json"))


async def _run(parts: Sequence[str], size: Size, kept: Path) -> None:
    """Measure, print, and keep what there is after each part: a later one may fail."""
    figures: dict[str, Any] = {}
    about = {"machine": machine(), "size": asdict(size)}
    with tempfile.TemporaryDirectory(prefix="gateway-bench-") as directory:
        async for name, found in measure(parts, size, Path(directory)):
            figures[name] = found
            _keep(kept, about | figures)
    tables = ["\n".join(TABLES[name](found)) for name, found in figures.items() if name in TABLES]
    sys.stdout.write("\n\n".join(["\n".join(lines(figures)), *tables, str(kept)]) + "\n")


def _keep(file: Path, figures: dict[str, Any]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
