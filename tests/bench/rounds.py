"""Rounds of load on several servers in turn, so that a noisy neighbour disturbs all of them alike."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from bench.processes import Server
from gateway.cli.closed_loop import Plan, Report, run

OK = 200


@dataclass(frozen=True, slots=True)
class Subject:
    """A server and what is asked of it.

    Attributes:
        store: Whose CPU is told beside the server's own.
    """

    server: Server
    requests: Sequence[bytes]
    connections: int
    store: Server | None = None


@dataclass(frozen=True, slots=True)
class Round:
    """One round: CPU of the process of the server, and of its store, by requests answered, microseconds."""

    report: Report
    cpu_us: float
    store_cpu_us: float


@dataclass(frozen=True, slots=True)
class Series:
    """The rounds of one subject."""

    rounds: Sequence[Round]

    @property
    def cpu_us(self) -> float:
        """CPU a request, microseconds: the median."""
        return median(one.cpu_us for one in self.rounds)

    @property
    def mean_ms(self) -> float:
        """Mean latency, milliseconds: the median of the rounds'."""
        return median(one.report.mean_ms for one in self.rounds)

    @property
    def p99_ms(self) -> float:
        """99th percentile of the latency, milliseconds: the median of the rounds'."""
        return median(one.report.quantile_ms(0.99) for one in self.rounds)

    def cpu_over(self, other: Series, *, idle: float = 0.0) -> float:
        """Return the CPU a request over another subject's: the median of the ratios round by round.

        Args:
            other: What it is held against.
            idle: Share of one CPU that the server takes anyway (`idle_share`), which is left out. It falls on the more
                requests the faster they are asked, so with it the ratio would tell how busy the machine is.
        """
        net = (one.cpu_us - 1e6 * idle / one.report.per_second for one in self.rounds)
        return median(a_us / b.cpu_us for a_us, b in zip(net, other.rounds, strict=True))

    def figures(self) -> dict[str, Any]:
        """Return the series as a JSON object."""
        return {
            "cpu_us": round(self.cpu_us, 1),
            "store_cpu_us": round(median(one.store_cpu_us for one in self.rounds), 1),
            "requests_per_second": round(median(one.report.per_second for one in self.rounds)),
            "mean_ms": round(self.mean_ms, 3),
            "p50_ms": round(median(one.report.quantile_ms(0.5) for one in self.rounds), 3),
            "p99_ms": round(self.p99_ms, 3),
            "cpu_us_rounds": [round(one.cpu_us, 1) for one in self.rounds],
        }


async def interleave(subjects: Mapping[str, Subject], *, rounds: int, seconds: float) -> dict[str, Series]:
    """Load each subject in turn, in the opposite order every other round (ABBA); a first round warms up, uncounted."""
    found: dict[str, list[Round]] = {name: [] for name in subjects}
    for number in range(rounds + 1):
        for name in list(subjects)[:: -1 if number % 2 else 1]:
            one = await _round(subjects[name], seconds)
            if number:
                found[name].append(one)
    return {name: Series(kept) for name, kept in found.items()}


async def idle_share(server: Server, seconds: float) -> float:
    """Return the share of one CPU that a server takes while nobody asks it anything: its background work."""
    before_s, begun_s = server.cpu_s(), time.monotonic()
    await asyncio.sleep(seconds)
    return (server.cpu_s() - before_s) / (time.monotonic() - begun_s)


async def _round(subject: Subject, seconds: float) -> Round:
    server, store = subject.server, subject.store
    before_s, store_before_s = server.cpu_s(), store.cpu_s() if store else 0.0
    report = await run(
        Plan(
            host=server.host,
            port=server.port,
            requests=subject.requests,
            connections=subject.connections,
            duration_s=seconds,
        )
    )
    spent_s, store_spent_s = server.cpu_s() - before_s, (store.cpu_s() if store else 0.0) - store_before_s
    answered(server, report)
    return Round(report, 1e6 * spent_s / report.requests, 1e6 * store_spent_s / report.requests)


def answered(server: Server, report: Report) -> None:
    """Check that all went well: a fast error is no figure. Raises `RuntimeError`."""
    if report.failed or set(report.statuses) != {OK}:
        found = f"{server.name} answered {dict(report.statuses)}, and {report.failed} requests failed"
        raise RuntimeError(f"{found}; its last words:\n{server.last_words()}")
