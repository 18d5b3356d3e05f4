"""The tracker in a steady state: jobs of all ages in flight, as many beginning as end."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence
from itertools import count
from typing import Any, Final, cast
from urllib.request import urlopen

from prometheus_client.parser import text_string_to_metric_families
from support.ledger import admission

from bench.rounds import Subject, interleave
from bench.scene import HOST, Scene, Shared, scene, tell
from bench.size import Size
from bench.standin import MODEL, vendor_id
from bench.tenants import JOB_S, Caller
from gateway.cli.closed_loop import request_bytes
from gateway.core.queue import DueEntry
from gateway.core.schedule import FIRST_POLL_S, next_poll_s
from gateway.store import keys

LAG: Final = "gateway_tracker_lag_seconds"
ECHO_CONNECTIONS: Final = 32
WRITERS: Final = 32
SEED: Final = 7
_HTTP_TIMEOUT_S: Final = 10.0


async def tracker(shared: Shared, size: Size) -> dict[str, Any]:
    """Measure lag, and CPU a poll, with many jobs in flight."""
    async with scene(shared, "tracker", tenants=size.tracked_tenants, role="tracker") as stage:
        jobs = _Jobs(stage)
        await jobs.add([random.Random(SEED + n).uniform(0, JOB_S) for n in range(size.tracked)])  # noqa: S311  reproducible
        replace = asyncio.create_task(jobs.replace(size.tracked / JOB_S))
        try:
            await asyncio.sleep(size.settle_s)
            found = await _watch(stage, size.steady_s)
        finally:
            replace.cancel()
            await asyncio.gather(replace, return_exceptions=True)
        gets = [request_bytes(HOST, "/v2/requests/0/status")]
        echo = await interleave(
            {"echo": Subject(stage.echo, gets, ECHO_CONNECTIONS)}, rounds=size.rounds, seconds=size.round_s
        )
        active = sum(map(len, (await stage.active()).values()))
        return {
            **found,
            "in_flight": active,
            "echo_cpu_us": round(echo["echo"].cpu_us, 1),
            "poll_over_echo": round(found["cpu_us_a_poll"] / echo["echo"].cpu_us, 2),
            "resident_mb": round(stage.gateway.resident_bytes() / 1e6, 1),
        }


class _Jobs:
    """Puts accepted jobs of a given age on record, as submits that long ago would have left them."""

    def __init__(self, stage: Scene) -> None:
        self._stage = stage
        self._numbers = count()

    async def add(self, ages_s: Sequence[float]) -> None:
        """Add jobs, each of its age, in seconds, and due when its last poll would have set it."""
        gate = asyncio.Semaphore(WRITERS)

        async def one(age_s: float) -> None:
            async with gate:
                await self._add(age_s)

        await asyncio.gather(*map(one, ages_s))

    async def replace(self, rate: float) -> None:
        """Add new jobs at a rate a second until cancelled."""
        begun = time.monotonic()
        for number in count():
            await asyncio.sleep(max(0.0, begun + number / rate - time.monotonic()))
            await self._add(0.0)

    async def _add(self, age_s: float) -> None:
        number = next(self._numbers)
        callers: Sequence[Caller] = self._stage.callers
        owner, store = callers[number % len(callers)], self._stage.store
        wanted = admission(owner.credential, model=MODEL, upstream_key="default")
        tenant, job_id, now_s = owner.tenant, wanted.job_id, time.time()
        await store.ledger.admit(wanted)
        await store.ledger.accept(tenant, job_id, vendor_id(now_s + JOB_S - age_s, number))
        if age_s:
            await store.client.hset(keys.job(tenant, job_id), "created", str(int((now_s - age_s) * 1000)))
        interval_s = next_poll_s(age_s, JOB_S) if age_s else FIRST_POLL_S
        due_in_s = interval_s * random.Random(SEED + number).random() if age_s else interval_s  # noqa: S311  reproducible
        await store.due.schedule([DueEntry(tenant, job_id, due_in_s)])


async def _watch(stage: Scene, seconds: float) -> dict[str, Any]:
    """Let the tracker work for some seconds, and tell what it did in them."""
    gateway, standin = stage.gateway, stage.standin
    lags, told, cpu_s, begun = lags_of(gateway.ops_url), tell(standin), gateway.cpu_s(), time.monotonic()
    late = [await _latest_s(stage)]
    while time.monotonic() < begun + seconds:
        await asyncio.sleep(min(1.0, seconds / 5))
        late.append(await _latest_s(stage))
    took_s, cpu_s, now = time.monotonic() - begun, gateway.cpu_s() - cpu_s, tell(standin)
    statuses, results = now["statuses"] - told["statuses"], now["results"] - told["results"]
    return {
        "polls_a_second": round((statuses + results) / took_s, 1),
        "results_a_second": round(results / took_s, 1),
        "cpu_share": round(cpu_s / took_s, 3),
        "cpu_us_a_poll": round(1e6 * cpu_s / max(1, statuses + results), 1),
        "lag_p99_s": quantile(lags, lags_of(gateway.ops_url), 0.99),
        "latest_due_s": round(max(late), 2),
    }


async def _latest_s(stage: Scene) -> float:
    """Return by how much the latest job in the due queue is late now, seconds."""
    late_s = [0.0]
    for shard in range(keys.DUE_SHARDS):
        first = await stage.store.client.zrange(keys.due(shard), 0, 0, withscores=True)
        late_s += [time.time() - at_ms / 1000 for _, at_ms in cast("list[tuple[bytes, float]]", first)]
    return max(late_s)


def lags_of(ops_url: str) -> dict[float, float]:
    """Read the histogram of lags: how many were at most so many seconds."""
    with urlopen(f"{ops_url}/metrics", timeout=_HTTP_TIMEOUT_S) as answer:  # noqa: S310  our own gateway
        families = text_string_to_metric_families(answer.read().decode())
        return {
            float(sample.labels["le"]): sample.value
            for family in families
            if family.name == LAG
            for sample in family.samples
            if sample.name == f"{LAG}_bucket"
        }


def quantile(before: dict[float, float], after: dict[float, float], q: float) -> float | None:
    """Interpolate a quantile between the bounds of its bucket, as Prometheus does; None where nothing was counted."""
    counts = {bound: after[bound] - before.get(bound, 0) for bound in sorted(after)}
    total = max(counts.values(), default=0)
    below, floor_s = 0.0, 0.0
    for bound_s, upto in counts.items():
        if total and upto >= q * total:
            share = (q * total - below) / (upto - below) if upto > below else 1.0
            return round(floor_s + (bound_s - floor_s) * share, 3) if bound_s != float("inf") else floor_s
        below, floor_s = upto, bound_s
    return None
