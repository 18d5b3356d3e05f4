"""Three times as many submits as can be done: what still gets done, how fast the rest is refused, and what comes after.

Reads come at a modest rate all the while. The gateway has ``GATEWAY_ROLE=api``: the jobs that pile up in a minute here
are more than a process ever has, and their polls, which come first, would leave no time to measure anything else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Final

from bench.rounds import OK
from bench.scene import LONG_S, Scene, Shared, scene, tell
from bench.size import Size
from gateway.cli.closed_loop import Plan, run
from gateway.cli.open_loop import OpenPlan, OpenReport, run_open

DELAY_MS: Final = "30-70"
CONNECTIONS: Final = 96
CROWD: Final = 2048
TIMES: Final = 3.0
AFTER: Final = 0.5
AFTER_S: Final = 15.0
WELL_S: Final = 3
READS: Final = 50.0
SHED: Final = 503


async def overload(shared: Shared, size: Size) -> dict[str, Any]:
    """Measure goodput at `TIMES` the peak over the peak, and how soon all is well at half of it."""
    async with scene(shared, "overload", tenants=size.tenants, role="api", env={}) as stage:
        tell(shared.standin, job_s=LONG_S, delay_ms=DELAY_MS)
        posts = stage.submits()
        peak = max([await _peak(stage, posts, size.overload_s / 4) for _ in range(3)])
        jobs = await stage.active()
        reads = stage.gets(jobs, "/status")
        over, read = await asyncio.gather(
            _crowd(stage, posts, TIMES * peak, size.overload_s), _crowd(stage, reads, READS, size.overload_s)
        )
        after = await _crowd(stage, posts, AFTER * peak, min(AFTER_S, size.overload_s))
        good, shed = over.statuses.get(OK, 0), over.statuses.get(SHED, 0)
        return {
            "peak_per_second": round(peak, 1),
            "offered_per_second": round(TIMES * peak, 1),
            "goodput_per_second": round(good / size.overload_s, 1),
            "goodput_share": round(good / size.overload_s / peak, 3),
            "lost_share": round(1 - good / size.overload_s / peak, 3),
            "shed": shed,
            "others": {str(status): n for status, n in over.statuses.items() if status not in {OK, SHED}},
            "failed": over.failed,
            "generator_late_ms": round(1000 * over.late_s, 1),
            "shed_p50_ms": _ms(over, SHED, 0.5),
            "shed_p99_ms": _ms(over, SHED, 0.99),
            "submit_p99_ms": _ms(over, OK, 0.99),
            "read_statuses": {str(status): n for status, n in read.statuses.items()},
            "read_p99_ms": _ms(read, OK, 0.99),
            "recovery_s": _recovered_after(after),
            "timeline": [dict(second) for second in over.timeline],
            "after": [dict(second) for second in after.timeline],
        }


async def _peak(stage: Scene, posts: Sequence[bytes], seconds: float) -> float:
    server = stage.gateway
    plan = Plan(host=server.host, port=server.port, requests=posts, connections=CONNECTIONS, duration_s=seconds)
    report = await run(plan)
    return report.statuses.get(OK, 0) / report.seconds


async def _crowd(stage: Scene, requests: Sequence[bytes], rate: float, seconds: float) -> OpenReport:
    server = stage.gateway
    return await run_open(
        OpenPlan(
            host=server.host, port=server.port, requests=requests, rate=rate, duration_s=seconds, connections=CROWD
        )
    )


def _ms(report: OpenReport, status: int, q: float) -> float | None:
    found = report.by_status.get(status)
    return round(1000 * found[min(len(found) - 1, int(q * len(found)))], 2) if found else None


def _recovered_after(report: OpenReport) -> int:
    """Return the seconds after which, for `WELL_S` seconds, every request was answered as it should be."""
    well = [set(second) == {OK} for second in report.timeline]
    runs = (number for number in range(len(well)) if all(well[number : number + WELL_S]))
    return next(runs, len(well))
