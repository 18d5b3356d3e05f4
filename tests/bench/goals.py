"""The goals of the design beside the figures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final


@dataclass(frozen=True, slots=True)
class Goal:
    """A figure and how large it may be.

    Attributes:
        path: Where it stands among the figures: part, name, ...
        limit: What it may be at most.
        unit: Stands behind it.
    """

    name: str
    path: tuple[str, ...]
    limit: float
    unit: str = ""

    def figure(self, figures: Mapping[str, Any]) -> float | None:
        """Find the figure; None where it was not measured."""
        found: Any = figures
        for step in self.path:
            found = found.get(step) if isinstance(found, Mapping) else None
        return found if isinstance(found, int | float) else None


GOALS: Final = (
    Goal("status read, CPU", ("reads", "status_over_echo"), 1.7, "x echo"),
    Goal("status read, idle left out", ("reads", "status_over_echo_without_background"), 1.7, "x echo"),
    Goal("result read, CPU", ("reads", "result_over_echo"), 1.7, "x echo"),
    Goal("result read, idle left out", ("reads", "result_over_echo_without_background"), 1.7, "x echo"),
    Goal("round trips a read", ("trips", "status"), 1),
    Goal("submit at 32, CPU", ("submits", "submit_32_over_echo"), 4.5, "x echo"),
    Goal("submit at 128, CPU", ("submits", "submit_128_over_echo"), 4.5, "x echo"),
    Goal("CPU a submit, 128 over 32", ("submits", "cpu_128_over_32"), 1.15),
    Goal("latency added, mean", ("submits", "added_mean_ms"), 2, "ms"),
    Goal("latency added, p99", ("submits", "added_p99_ms"), 6, "ms"),
    Goal("round trips a submit", ("trips", "submit"), 2),
    Goal("tracker lag, p99", ("tracker", "lag_p99_s"), 3, "s"),
    Goal("CPU an upstream poll", ("tracker", "poll_over_echo"), 5, "x echo"),
    Goal("resident memory", ("reads", "resident_over_echo"), 2, "x echo"),
    Goal("goodput lost at 3 x load", ("overload", "lost_share"), 0.2, "of peak"),
    Goal("refusal at 3 x load, p99", ("overload", "shed_p99_ms"), 50, "ms"),
    Goal("recovery from 3 x load", ("overload", "recovery_s"), 10, "s"),
    Goal("Redis, a finished job", ("reads", "bytes_of_finished_job", "all"), 3072, "bytes"),
)
SERIES: Final = ("cpu_us", "store_cpu_us", "requests_per_second", "p50_ms", "p99_ms")


def goal_table(figures: Mapping[str, Any]) -> Iterator[str]:
    """Write the goals with what was found as a table of Markdown."""
    yield "| figure | goal | found | |"
    yield "|---|---|---|---|"
    for goal in GOALS:
        figure = goal.figure(figures)
        found = "not measured" if figure is None else f"{figure:g} {goal.unit}".rstrip()
        verdict = "" if figure is None else "pass" if figure <= goal.limit else "**miss**"
        limit = f"{goal.limit:g} {goal.unit}".rstrip()
        yield f"| {goal.name} | <= {limit} | {found} | {verdict} |"


def verdict(figures: Mapping[str, Any]) -> str:
    """Say in a sentence which goals are kept, and by how much the others are missed."""
    found = {goal: goal.figure(figures) for goal in GOALS}
    missed = {goal: figure for goal, figure in found.items() if figure is not None and figure > goal.limit}
    unknown = [goal.name for goal, figure in found.items() if figure is None]
    said = [f"Kept: {len(GOALS) - len(missed) - len(unknown)} of {len(GOALS)}."]
    if missed:
        said.append(f"Missed: {'; '.join(f'{g.name}, {over / g.limit:.3g} x its goal' for g, over in missed.items())}.")
    if unknown:
        said.append(f"Not measured: {'; '.join(unknown)}.")
    return " ".join(said)


def lines(figures: Mapping[str, Any]) -> Iterator[str]:
    """Write the figures as a table, then the goals with what was found."""
    yield f"{'':<12}{'CPU us':>10}{'store us':>10}{'req/s':>10}{'p50 ms':>10}{'p99 ms':>10}"
    for part in figures.values():
        for name, series in part.items():
            if isinstance(series, Mapping) and "cpu_us" in series:
                yield f"{name:<12}" + "".join(f"{series[column]:>10}" for column in SERIES)
    yield ""
    for goal in (goal for goal in GOALS if goal.path[0] in figures):
        figure = goal.figure(figures)
        if figure is None:
            yield f"{goal.name:<30}{'not measured':>14}"
        else:
            verdict = "pass" if figure <= goal.limit else "MISS"
            yield f"{goal.name:<30}{figure:>14g}  goal <= {goal.limit:g} {goal.unit:<7} {verdict}"
