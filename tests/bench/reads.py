"""Status and result reads beside the echo."""

from __future__ import annotations

from typing import Any, Final

from bench.footprint import bytes_of_job
from bench.rounds import Subject, idle_share, interleave
from bench.scene import Shared, scene
from bench.size import Size

CONNECTIONS: Final = 32
IDLE_S: Final = 2.0


async def reads(shared: Shared, size: Size) -> dict[str, Any]:
    """Measure reads of active and of finished jobs."""
    async with scene(shared, "reads", tenants=size.tenants) as stage:
        await stage.finish(size.finished)
        finished = await stage.jobs()
        of_job = await bytes_of_job(stage, finished)
        await stage.begin(size.active)
        idle = await idle_share(stage.gateway, max(IDLE_S, size.round_s))
        status = stage.gets(await stage.active(), "/status")
        series = await interleave(
            {
                "status": Subject(stage.gateway, status, CONNECTIONS, stage.valkey),
                "result": Subject(stage.gateway, stage.gets(finished, ""), CONNECTIONS, stage.valkey),
                "echo": Subject(stage.echo, status, CONNECTIONS),
            },
            rounds=size.rounds,
            seconds=size.round_s,
        )
        return {
            **{name: one.figures() for name, one in series.items()},
            "status_over_echo": round(series["status"].cpu_over(series["echo"]), 2),
            "result_over_echo": round(series["result"].cpu_over(series["echo"]), 2),
            "background_cpu_share": round(idle, 3),
            "status_over_echo_without_background": round(series["status"].cpu_over(series["echo"], idle=idle), 2),
            "result_over_echo_without_background": round(series["result"].cpu_over(series["echo"], idle=idle), 2),
            "bytes_of_finished_job": of_job,
            "resident_mb": {one.name: round(one.resident_bytes() / 1e6, 1) for one in (stage.gateway, stage.echo)},
            "resident_over_echo": round(stage.gateway.resident_bytes() / stage.echo.resident_bytes(), 2),
        }
