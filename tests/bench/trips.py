"""Round trips to the store, as the store sees them."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

from redis.asyncio import Redis
from redis.asyncio.client import Monitor

from bench.rounds import answered
from bench.scene import LONG_S, Scene, Shared, scene, tell
from bench.size import Size
from gateway.cli.closed_loop import Plan, run
from gateway.store.scripts import load_scripts

END: Final = "bench-ends"
PER_REQUEST: Final = 0.5
"""What comes less often than every other request is background work, which goes by time."""
_SCRIPT: Final = frozenset({"EVALSHA", "EVAL", "FCALL"})
_LUA: Final = "lua"


async def trips(shared: Shared, size: Size) -> dict[str, Any]:
    """Count the commands that the store gets for a submit and for reads; no tracker works beside them."""
    async with scene(shared, "trips", tenants=size.tenants, role="api") as stage:
        tell(shared.standin, job_s=LONG_S, delay_ms="0")
        submit = await commands_per_request(stage, stage.submits(), size.counted)
        jobs = await stage.active()
        status = await commands_per_request(stage, stage.gets(jobs, "/status"), size.counted)
        result = await commands_per_request(stage, stage.gets(jobs, ""), size.counted)
        return {
            "submit": round_trips(submit),
            "status": round_trips(status),
            "result": round_trips(result),
            "commands": {"submit": submit, "status": status, "result": result},
        }


async def commands_per_request(stage: Scene, requests: Sequence[bytes], count: int) -> dict[str, float]:
    """Return the commands that the store got for each request of the gateway, scripts by name (``MONITOR``)."""
    gateway, names = stage.gateway, {script.sha: script.name for script in load_scripts().values()}
    plan = Plan(host=gateway.host, port=gateway.port, requests=requests, connections=8, count=count)
    found, seen = Counter[str](), asyncio.Event()

    async def listen(monitor: Monitor) -> None:
        async for heard in monitor.listen():
            words = str(heard["command"]).split(" ", 2)
            if words[:2] == ["ECHO", END]:
                seen.set()
            if heard["client_type"] != _LUA:
                name = words[0].upper()
                found[names.get(words[1], name) if name in _SCRIPT else name] += 1

    async with Redis.from_url(stage.redis_url) as client, client.monitor() as monitor:
        listening = asyncio.create_task(listen(monitor))
        answered(gateway, await run(plan))
        await client.echo(END)
        await asyncio.wait_for(seen.wait(), timeout=plan.timeout_s)
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)
    del found["ECHO"]
    return {name: round(times / count, 2) for name, times in found.most_common()}


def round_trips(commands: Mapping[str, float]) -> float:
    """Return the round trips of a request itself."""
    return round(sum(times for times in commands.values() if times >= PER_REQUEST), 2)
