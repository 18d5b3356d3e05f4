"""A usage report as it is shown: the same figures, by the same names, in JSON, in CSV and on a terminal."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Final

from gateway.core.credits import format_credits
from gateway.core.usage import OUTCOMES, Forecast, Usage
from gateway.service.usage import UsageReport

Value = str | int | float | None
AMOUNTS: Final = ("credits", "held", "overrun", "adjusted")
"""Figures that are credits, as plain decimals."""
LATENCIES: Final[Mapping[str, float]] = {"p50_s": 0.5, "p95_s": 0.95, "p99_s": 0.99}
REASONS: Final = ("refused_by_code", "rejected_by_code")
BUDGET_AMOUNTS: Final = ("limit", "spent", "held", "remaining")


def figures(usage: Usage) -> dict[str, Value]:
    """Name the figures of some usage."""
    return {
        "jobs": usage.jobs,
        **{outcome: usage.counts[outcome] for outcome in OUTCOMES},
        "running": usage.running,
        "refused": sum(usage.refused.values()),
        "credits": format_credits(usage.spent),
        "held": format_credits(usage.held),
        "overrun": format_credits(usage.counts["overrun"]),
        "adjusted": format_credits(usage.counts["adjusted"]),
        **{name: usage.latency_s(quantile) for name, quantile in LATENCIES.items()},
    }


def reasons(usage: Usage) -> dict[str, Mapping[str, int]]:
    """Name why requests were refused, and why the vendor did not take jobs."""
    return dict(zip(REASONS, (usage.refused, usage.rejected), strict=True))


def rows(report: UsageReport) -> Iterator[tuple[dict[str, str], Usage]]:
    """Yield each group: the values of its dimensions by name, and its usage."""
    for values, usage in report.groups.items():
        yield dict(zip(report.query.by, values, strict=True)), usage


def budget(forecast: Forecast) -> dict[str, Value]:
    """Name the figures of a budget; amounts as text, times as RFC 3339."""
    window = forecast.window
    return {
        "window": window.name,
        "limit": format_credits(window.limit or 0),
        "spent": format_credits(window.spent),
        "held": format_credits(window.held),
        "remaining": format_credits(window.remaining or 0),
        "resets_at": _moment(forecast.resets_at),
        "runs_out_at": _moment(forecast.runs_out_at),
    }


def as_csv(report: UsageReport) -> str:
    """Write a report as CSV (RFC 4180), a line a group; reasons as ``code=count`` with spaces between."""
    written = io.StringIO()
    names = [*report.query.by, *figures(Usage()), *REASONS]
    writer = csv.DictWriter(written, names)
    writer.writeheader()
    for values, usage in rows(report):
        told = {name: " ".join(f"{code}={n}" for code, n in why.items()) for name, why in reasons(usage).items()}
        writer.writerow({**values, **figures(usage), **told})
    return written.getvalue()


def _moment(at: datetime | None) -> str | None:
    return None if at is None else f"{at:%Y-%m-%dT%H:%M:%SZ}"
