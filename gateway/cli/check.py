"""``gateway check``: whether the settings, the store, the upstream and the clock are fit to serve."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from statistics import median
from typing import Annotated, Final, Literal

import typer

from gateway.cli.output import EXIT_FAILED, result, result_json
from gateway.cli.store import PATIENCE
from gateway.config import Settings, idle_variables, unknown_variables, variables
from gateway.core.credits import format_credits
from gateway.core.vendor import CallContext
from gateway.errors import ConfigError, StoreError, UpstreamError, UpstreamRefused
from gateway.store.connect import RedisClient, store_errors
from gateway.store.embedded import is_new
from gateway.store.opening import open_store
from gateway.store.readiness import check_store, read_epoch, read_rewound
from gateway.upstream.opening import open_upstream

app = typer.Typer()

Level = Literal["ok", "warn", "fail"]

PROBES: Final = 5
SLOW_MS: Final = 20.0
CLOCK_WARN_S: Final = 1.0
_KEY_REFUSED: Final = frozenset({401, 403})


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found.

    Attributes:
        detail: What is so.
        todo: What to do about it; empty where all is well.
    """

    check: str
    level: Level
    detail: str
    todo: str = ""


@app.command("check")
def check(as_json: Annotated[bool, typer.Option("--json", help="JSON on standard output.")] = False) -> None:
    """Check settings, Redis, clock and upstream key; one line each, and what to do. Ends with 1 where one fails."""
    found = asyncio.run(_gather())
    failed = any(finding.level == "fail" for finding in found)
    if as_json:
        result_json({"ok": not failed, "findings": found})
    else:
        for finding in found:
            todo = f"; {finding.todo}" if finding.todo else ""
            result(f"{finding.level:<4}  {finding.check:<8}  {finding.detail}{todo}")
    if failed:
        raise typer.Exit(EXIT_FAILED)


async def _gather() -> list[Finding]:
    try:
        settings = Settings.from_env(os.environ)
    except ConfigError as exc:
        return [Finding("settings", "fail", problem) for problem in exc.problems]
    store, upstream = await asyncio.gather(_store(settings), _upstream(settings))
    return [*_settings(settings), *store, upstream]


def _settings(settings: Settings) -> Iterator[Finding]:
    known = [variable.name for variable in variables(settings)]
    given = [name for name in known if name in os.environ]
    yield Finding("settings", "ok", f"{', '.join(given)} set" if given else "all defaults")
    for name, nearest in unknown_variables(os.environ).items():
        todo = f"did you mean {nearest}?" if nearest else "`gateway config` lists what there is"
        yield Finding("settings", "warn", f"{name} means nothing", todo)
    for name in idle_variables(os.environ):
        yield Finding("settings", "warn", f"{name} has no effect", "this version has no control plane; leave it out")


async def _store(settings: Settings) -> list[Finding]:
    if settings.redis_url is None and is_new(settings.data_dir):
        where = settings.data_dir.resolve()
        return [Finding("redis", "ok", f"none named: the first start makes an embedded store in {where}")]
    try:
        async with open_store(settings, PATIENCE) as client:
            return [finding async for finding in _redis(client, settings)]
    except ConfigError as exc:
        return [Finding("redis", "fail", problem) for problem in exc.problems]
    except StoreError as exc:
        detail = str(exc).partition("\n")[0].rstrip(".")
        log = settings.data_dir.resolve() / "valkey.log"
        todo = "is it running, and can it be reached from here?" if settings.redis_url else f"{log} says why"
        return [Finding("redis", "fail", detail, todo)]


async def _redis(client: RedisClient, settings: Settings) -> AsyncIterator[Finding]:
    for problem in await check_store(client, allow_volatile=False):
        yield Finding("redis", "warn" if settings.allow_volatile_redis else "fail", problem)
    epoch = await read_epoch(client)
    if epoch is None:
        todo = "run `gateway apply`, unless a ledger should be here: then it is a flushed or wrong Redis"
        yield Finding("redis", "fail", "there is no ledger in it (ledger:epoch is missing)", todo)
    if (rewound := await read_rewound(client)) is not None:
        yield Finding("redis", "warn", f"it went back in time, seen {rewound}", "run `gateway reconcile`")
    trip_ms, behind_s = await _probe(client)
    where = "Redis" if settings.redis_url else f"the embedded store in {settings.data_dir.resolve()}"
    answers = f"{where} answers in {trip_ms:.1f} ms" + (f", ledger {epoch[:8]}" if epoch else "")
    if trip_ms > SLOW_MS:
        yield Finding("redis", "warn", answers, "each submit waits for it twice: move it nearer")
    else:
        yield Finding("redis", "ok", answers)
    if abs(behind_s) > CLOCK_WARN_S:
        detail = f"this machine is {abs(behind_s):.1f} s {'behind' if behind_s > 0 else 'ahead of'} Redis"
        yield Finding("clock", "warn", detail, "set both by NTP: limits and budget windows go by Redis's clock")
    else:
        yield Finding("clock", "ok", f"{abs(behind_s) * 1000:.0f} ms from Redis's")


async def _probe(client: RedisClient) -> tuple[float, float]:
    """Return the median round trip in milliseconds, and by how many seconds this clock is behind Redis's."""
    trips, behind = [], []
    for _ in range(PROBES):
        began, asked_at = time.perf_counter(), time.time()
        with store_errors():
            seconds, microseconds = await client.time()
        took = time.perf_counter() - began
        trips.append(took * 1000)
        behind.append(seconds + microseconds / 1e6 - asked_at - took / 2)
    return median(trips), median(behind)


async def _upstream(settings: Settings) -> Finding:
    try:
        upstream = open_upstream(settings, lambda _event: None)
    except ConfigError as exc:
        return Finding("upstream", "fail", str(exc))
    began = time.perf_counter()
    try:
        account = await upstream.balance(CallContext())
    except UpstreamRefused as exc:
        todo = "is SEGMIND_API_KEY right?" if exc.status in _KEY_REFUSED else ""
        return Finding("upstream", "fail", f"{settings.upstream_url} answered {exc.status}: {exc.detail}", todo)
    except UpstreamError as exc:
        todo = "is GATEWAY_UPSTREAM_URL right, and may this machine reach it?"
        return Finding("upstream", "fail", f"{settings.upstream_url}: {exc}", todo)
    finally:
        await upstream.aclose()
    credits_left = (account.credits or 0) + (account.free_credits or 0)
    took_ms = (time.perf_counter() - began) * 1000
    detail = f"{settings.upstream_url} takes the key, {took_ms:.0f} ms, {format_credits(credits_left)} credits left"
    if credits_left <= 0:
        return Finding("upstream", "warn", detail, "every submit will be refused: buy credits")
    return Finding("upstream", "ok", detail)
