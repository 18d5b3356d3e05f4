"""Submits beside the echo at two concurrencies, and the latency that the gateway adds to the upstream's own.

The gateway has ``GATEWAY_ROLE=api``: what the tracker then does with the jobs is measured by itself, in `tracker`.
"""

from __future__ import annotations

from typing import Any, Final

from bench.rounds import Subject, interleave
from bench.scene import LONG_S, Shared, scene, tell
from bench.size import Size

FEW: Final = 32
MANY: Final = 128
DELAY_MS: Final = "30-70"


async def submits(shared: Shared, size: Size) -> dict[str, Any]:
    """Measure submits to an upstream that answers at once (CPU), and to one that takes its time (latency added)."""
    async with scene(shared, "submits", tenants=size.tenants, role="api") as stage:
        posts = stage.submits()
        tell(shared.standin, job_s=LONG_S, delay_ms="0")
        series = await interleave(
            {
                "submit_32": Subject(stage.gateway, posts, FEW, stage.valkey),
                "echo_32": Subject(stage.echo, posts, FEW),
                "submit_128": Subject(stage.gateway, posts, MANY, stage.valkey),
                "echo_128": Subject(stage.echo, posts, MANY),
            },
            rounds=size.rounds,
            seconds=size.round_s,
        )
        tell(shared.standin, delay_ms=DELAY_MS)
        delayed = await interleave(
            {
                "delayed_32": Subject(stage.gateway, posts, FEW, stage.valkey),
                "direct_32": Subject(stage.standin, posts, FEW),
                "delayed_128": Subject(stage.gateway, posts, MANY, stage.valkey),
            },
            rounds=size.rounds,
            seconds=size.delayed_s,
        )
        tell(shared.standin, delay_ms="0")
        through, direct = delayed["delayed_32"], delayed["direct_32"]
        return {
            **{name: one.figures() for name, one in (series | delayed).items()},
            "submit_32_over_echo": round(series["submit_32"].cpu_over(series["echo_32"]), 2),
            "submit_128_over_echo": round(series["submit_128"].cpu_over(series["echo_128"]), 2),
            "cpu_128_over_32": round(series["submit_128"].cpu_over(series["submit_32"]), 2),
            "delayed_cpu_128_over_32": round(delayed["delayed_128"].cpu_over(through), 2),
            "added_mean_ms": round(through.mean_ms - direct.mean_ms, 2),
            "added_p99_ms": round(through.p99_ms - direct.p99_ms, 2),
            "resident_mb": round(stage.gateway.resident_bytes() / 1e6, 1),
        }
