"""What one process does, and what several workers behind one port do, as hard as they can be loaded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AsyncExitStack
from typing import Any, Final

from bench.footprint import bytes_of_job
from bench.rounds import Subject, interleave
from bench.scene import PATIENT, Scene, Shared, scene, tell
from bench.size import Size

CONNECTIONS: Final = 64
TENANTS: Final = 10
"""So few that what a tenant has anyway is no part of what a job takes."""
WORKERS: Final = {"one process": 1, "GATEWAY_WORKERS=2": 2}
JOB_S: Final = 425.0
JOBS_A_DAY: Final = 10_000
KINDS: Final = ("status", "result", "submit")


async def sizing(shared: Shared, size: Size) -> dict[str, Any]:
    """Measure reads and submits a second, CPU and resident memory; the tracker works beside them."""
    tenants = min(TENANTS, size.tenants)
    async with AsyncExitStack() as stack:
        scenes: dict[str, Scene] = {}
        subjects: dict[str, Subject] = {}
        of_job: dict[str, int] = {}
        for name, workers in WORKERS.items():
            env = {**PATIENT, "GATEWAY_WORKERS": str(workers)}
            one = await stack.enter_async_context(scene(shared, f"sizing-{workers}", tenants=tenants, env=env))
            scenes[name] = one
            await one.finish(size.finished)
            finished = await one.jobs()
            of_job = await bytes_of_job(one, finished)
            await one.begin(size.active)
            asked = {
                "status": one.gets(await one.active(), "/status"),
                "result": one.gets(finished, ""),
                "submit": one.submits(),
            }
            subjects |= {
                f"{kind}_{workers}": Subject(one.gateway, asked[kind], CONNECTIONS, one.valkey) for kind in KINDS
            }
        tell(shared.standin, job_s=JOB_S, delay_ms="0")
        idle = {f"resident_mb_idle_{WORKERS[name]}": _mb(one) for name, one in scenes.items()}
        series = await interleave(subjects, rounds=size.rounds, seconds=size.round_s)
        return {
            **{name: one.figures() for name, one in series.items()},
            **idle,
            **{f"resident_mb_{WORKERS[name]}": _mb(one) for name, one in scenes.items()},
            "bytes_of_finished_job": of_job,
        }


def _mb(one: Scene) -> float:
    return round(one.gateway.resident_bytes() / 1e6, 1)


def sizing_table(found: Mapping[str, Any]) -> Iterator[str]:
    """Write the figures as a table of Markdown."""
    yield "| | status reads/s | result reads/s | submits/s | CPU a read | CPU a submit | resident memory |"
    yield "|---" * 7 + "|"
    for name, workers in WORKERS.items():
        kinds = [found[f"{kind}_{workers}"] for kind in KINDS]
        cells = [f"{kind['requests_per_second']:,}" for kind in kinds]
        cells += [f"{kinds[0]['cpu_us']:.0f} us", f"{kinds[2]['cpu_us']:.0f} us"]
        cells.append(f"{found[f'resident_mb_idle_{workers}']:.0f} MB; {found[f'resident_mb_{workers}']:.0f} after load")
        yield f"| {name} | {' | '.join(cells)} |"
    yield ""
    of_job = found["bytes_of_finished_job"]["all"]
    yield (
        f"Redis: {of_job} bytes a finished job besides its result's body, kept for `job_ttl` (90 days): "
        f"{JOBS_A_DAY:,} jobs a day are {of_job * JOBS_A_DAY * 90 / 1e9:.1f} GB after 90 days."
    )
