"""Tenants, keys and admissions for tests of the store, and plain views of what the ledger scripts have written."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from typing import Any, Final

from redis.asyncio import RedisCluster
from support.clients import scripts_on
from support.ports import Ports, shift_times

from gateway.core.audit import Difference
from gateway.core.job import new_job_id
from gateway.core.movements import Admission
from gateway.core.policy import Policy
from gateway.core.tenant import Credential, WindowName
from gateway.service.audit import Auditor
from gateway.store import keys
from gateway.store.connect import RedisClient, open_redis
from gateway.store.doubts import RedisDoubts
from gateway.store.due import RedisDue
from gateway.store.epoch import EpochGuard
from gateway.store.jobs import RedisJobs
from gateway.store.learned import RedisExperience
from gateway.store.ledger import RedisLedger
from gateway.store.ledgers import RedisLedgers
from gateway.store.pacing import RedisPacing
from gateway.store.readiness import ensure_epoch
from gateway.store.scripts import PRELUDE, Script, Scripts, load_scripts
from gateway.store.survey import RedisSurvey
from gateway.store.sweeper import RedisSweeper
from gateway.store.tenants import RedisTenants
from gateway.store.webhooks import RedisDeliveries

CREDIT: Final = 1_000_000_000
CLOCK: Final = "{test}:clock"
"""Where `clocked` scripts read the time, as the two words of TIME."""
CLOCK_START_US: Final = 1_770_000_000_000_000
"""What `CLOCK` says at first: Monday 2026-02-02, 02:40 UTC."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Store(Ports):
    """A client and the adapters on it."""

    client: RedisClient
    scripts: Scripts
    tenants: RedisTenants
    ledger: RedisLedger
    deliveries: RedisDeliveries
    hooks: RedisDue

    async def pass_time(self, seconds: float) -> None:
        """See `Ports.pass_time`."""
        await shift_times(self.client, seconds)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockedStore(Store):
    """A store whose scripts read the time that `set_clock` sets."""

    async def pass_time(self, seconds: float) -> None:
        """See `Ports.pass_time`."""
        second, microseconds = map(int, await self.client.lrange(CLOCK, 0, 1))
        await set_clock(self.client, second * 1_000_000 + microseconds + round(seconds * 1_000_000))


@asynccontextmanager
async def open_store(
    url: str,
    *,
    library: Mapping[str, Script] | None = None,
    policy: Policy | None = None,
    kind: type[Store] = Store,
) -> AsyncIterator[Store]:
    """Connect the store's adapters to a server or a cluster until the block ends."""
    client = open_redis(url, connect_timeout_s=5, read_timeout_s=10, max_connections=64, pool_wait_s=10)
    scripts, epoch = scripts_on(client), EpochGuard(client)
    library, rules = library or load_scripts(), policy or Policy()
    try:
        yield kind(
            client=client,
            scripts=scripts,
            tenants=RedisTenants(client, scripts, library),
            ledger=RedisLedger(scripts, library, lambda: rules, epoch),
            jobs=RedisJobs(scripts, library, epoch),
            due=RedisDue(scripts, library),
            sweeper=RedisSweeper(client),
            doubts=RedisDoubts(client, scripts, library),
            experience=RedisExperience(client, scripts, library),
            survey=RedisSurvey(client, scripts, library),
            pacing=RedisPacing(scripts, library),
            deliveries=RedisDeliveries(client, scripts, library),
            hooks=RedisDue(scripts, library, keys.hooks, keys.HOOK_SHARDS),
        )
    finally:
        await client.aclose()


@asynccontextmanager
async def empty_store(url: str) -> AsyncIterator[Store]:
    """Connect to a server or a cluster that holds nothing but the mark of a ledger."""
    async with open_store(url) as store:
        if isinstance(store.client, RedisCluster):
            await store.client.flushall(target_nodes=RedisCluster.PRIMARIES)
        else:
            await store.client.flushall()
        await ensure_epoch(store.client)
        yield store


@asynccontextmanager
async def clocked_store(url: str) -> AsyncIterator[Store]:
    """Connect to an empty server with scripts that read the time that `set_clock` sets."""
    async with open_store(url, library=clocked(load_scripts()), kind=ClockedStore) as store:
        await store.client.flushall()
        await ensure_epoch(store.client)
        await set_clock(store.client, CLOCK_START_US)
        yield store


def clocked(library: Mapping[str, Script]) -> Mapping[str, Script]:
    """Make scripts that read the time from `CLOCK`, so that a test moves it; on one server, as the key is foreign."""
    time, clock = "redis.call('TIME')", f"redis.call('LRANGE', '{CLOCK}', 0, 1)"
    assert all(script.source.count(time) == 1 for script in library.values())
    return {name: Script(name, script.source.replace(time, clock)) for name, script in library.items()}


async def set_clock(client: RedisClient, at_us: int) -> None:
    """Set the time of `clocked` scripts, microseconds since 1970."""
    async with client.pipeline(transaction=True) as pipeline:
        pipeline.delete(CLOCK)
        pipeline.rpush(CLOCK, at_us // 1_000_000, at_us % 1_000_000)
        await pipeline.execute()


def prelude_script(body: str) -> Script:
    """Make a script of the shared functions and a body of the test's own."""
    prelude = (files("gateway.store") / "lua" / PRELUDE).read_text("utf-8")
    return Script("test", prelude + body)


def admission(credential: Credential, **changes: Any) -> Admission:  # noqa: ANN401  # fields of Admission
    """Ask for a job of one credit with an id of its own, unless the changes say otherwise."""
    wanted: dict[str, Any] = {
        "credential": credential,
        "job_id": new_job_id(),
        "model": "kling-2.6",
        "kind": "async",
        "estimate": CREDIT,
        "fingerprint": "f" * 64,
        "owner": "process-1",
        "upstream_key": "main",
    }
    return Admission(**{**wanted, **changes})


def window_ids(at: datetime) -> list[str]:
    """Name the four budget windows that a moment falls into, as the scripts do."""
    monday = at - timedelta(days=at.weekday())
    return [f"day:{at:%Y-%m-%d}", f"week:{monday:%Y-%m-%d}", f"month:{at:%Y-%m}", "total"]


def window_id(name: WindowName, at_ms: int) -> str:
    """Name the window of a kind that a moment (Unix ms) falls into."""
    ids = window_ids(datetime.fromtimestamp(at_ms / 1000, UTC))
    return next(one for one in ids if one.startswith(name))


async def dump(client: RedisClient) -> dict[str, Any]:
    """Read every key of one server in one trip, but for when an API key was used."""
    found: list[tuple[bytes, bytes, Any]] = await client.eval(_DUMP, 0)
    return {name.decode(): _VIEWS.get(kind, _same)(value) for name, kind, value in found}


def _pairs(flat: Sequence[Any]) -> dict[Any, Any]:
    pairs = dict(zip(flat[::2], flat[1::2], strict=True))
    pairs.pop(b"used", None)
    return pairs


def _same(value: object) -> object:
    return value


_VIEWS: Final[Mapping[bytes, Callable[[Any], object]]] = {b"hash": _pairs, b"zset": _pairs, b"set": frozenset}
_DUMP: Final = """
local reads = {string = {'GET'}, hash = {'HGETALL'}, set = {'SMEMBERS'}, list = {'LRANGE', 0, -1},
  zset = {'ZRANGE', 0, -1, 'WITHSCORES'}, stream = {'XRANGE', '-', '+'}}
local found = {}
for i, name in ipairs(redis.call('KEYS', '*')) do
  local kind = redis.call('TYPE', name).ok
  local command, from, to, scores = unpack(reads[kind])
  local words = {command, name, from, to, scores}
  found[i] = {name, kind, redis.call(unpack(words))}
end
return found
"""


async def counters(client: RedisClient, tenant: str) -> dict[str, int]:
    """Read a tenant's counters (``day:2026-02-01:held``), those at zero left out."""
    budget: dict[Any, Any] = await client.hgetall(keys.budget(tenant))
    return nonzero(budget)


def nonzero(budget: Mapping[bytes, bytes]) -> dict[str, int]:
    """Return the counters of a budget hash, those at zero left out."""
    return {name.decode(): int(value) for name, value in budget.items() if name != b"seq" and int(value) != 0}


async def entries(client: RedisClient, tenant: str) -> list[dict[str, str]]:
    """Read a tenant's ledger, oldest first."""
    stream: Any = await client.xrange(keys.ledger(tenant))
    return [{name.decode(): value.decode() for name, value in fields.items()} for _, fields in stream]


async def assert_audited(client: RedisClient, policy: Policy | None = None) -> None:
    """Check that the ledgers of all tenants, replayed, are what stands in the store; as ``gateway ledger verify``."""
    found = await audited(client, policy)
    assert not found, "\n".join(map(str, found))


async def audited(client: RedisClient, policy: Policy | None = None) -> Sequence[Difference]:
    """List what differs from the ledgers of all tenants, replayed."""
    job_ttl_s = (policy or Policy()).job_ttl_s
    return (await Auditor(ledgers_of(client), lambda: job_ttl_s).verify()).differences


def ledgers_of(client: RedisClient) -> RedisLedgers:
    """Open the ledgers for reading, in small pages."""
    return RedisLedgers(client, scripts_on(client), load_scripts(), page=100)


def replayed(ledger: Sequence[Mapping[str, str]]) -> dict[str, int]:
    """Rebuild the counters from the ledger alone, checking that each entry's balances follow from those before it."""
    totals: Counter[str] = Counter()
    for entry, seq in zip(ledger, itertools.count(1)):
        amount, hold = int(entry["amount"]), int(entry["hold"])
        charge = amount if entry["kind"] in {"settle", "overrun", "adjust"} else 0
        for window in entry["windows"].split(","):
            totals[f"{window}:spent"] += charge
            totals[f"{window}:held"] += hold if entry["kind"] == "hold" else -hold
        after = (entry["seq"], entry["spent"], entry["held"])
        assert after == (str(seq), str(totals["total:spent"]), str(totals["total:held"])), entry
    return {name: value for name, value in totals.items() if value != 0}
