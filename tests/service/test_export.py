from __future__ import annotations

import random
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from support.ledger import CREDIT, Store, admission, assert_audited, open_store

from gateway.core.job import JobState
from gateway.core.movements import Release, Settlement
from gateway.core.tenant import Credential
from gateway.core.usage import group
from gateway.errors import InvalidRequest
from gateway.service.export import Exporter
from gateway.store.epoch import EpochGuard
from gateway.store.ledgers import RedisLedgers
from gateway.store.readiness import ensure_epoch
from gateway.store.scripts import load_scripts
from gateway.store.usage import RedisUsage

TENANTS = ("alpha", "beta", "gamma")
MODELS = ("kling-2.6", "flux-2-pro", "workflows/mine")


@pytest.fixture
async def store(redis_url: str) -> AsyncIterator[Store]:
    """Open a store that holds nothing."""
    async with open_store(redis_url) as opened:
        await ensure_epoch(opened.client)
        yield opened


async def one_job(store: Store, chance: random.Random, caller: Credential) -> None:
    """Have a job admitted, and perhaps end in some way, at some cost of up to nine decimals."""
    request = admission(
        caller,
        model=chance.choice(MODELS),
        estimate=chance.randrange(3 * CREDIT),
        labels={"team": chance.choice("xy")},
    )
    await store.ledger.admit(request)
    how = chance.choice(("open", "unknown", "settle", "settle", "settle", "estimated", "fail", "reject"))
    tenant, job_id = caller.tenant, request.job_id
    if how == "unknown":
        await store.ledger.doubt(tenant, job_id, "reset")
    elif how in {"settle", "estimated"}:
        cost = None if how == "estimated" else chance.randrange(4 * CREDIT)
        charge = Settlement(tenant=tenant, job_id=job_id, state=JobState.COMPLETED, cost=cost, upstream_id=job_id[::-1])
        await store.ledger.settle(charge)
    elif how in {"fail", "reject"}:
        end = Release(tenant=tenant, job_id=job_id, state=JobState.FAILED, reason="")
        await store.ledger.release(end if how == "fail" else replace(end, state=JobState.REJECTED))


async def exported(store: Store, **wanted: str) -> list[dict[str, Any]]:
    """Export, once the millisecond of the last entry is over."""
    ledgers = RedisLedgers(store.client, store.scripts, load_scripts())
    written_ms = await ledgers.now_ms()
    while await ledgers.now_ms() == written_ms:
        pass
    return [row async for row in Exporter(ledgers).rows(**wanted)]


def nano(text: str) -> int:
    """Read an exported amount exactly."""
    return int(Decimal(text).scaleb(9))


async def sums_agree(store: Store, rows: list[dict[str, Any]]) -> None:
    """Compare the sums of an export, the usage and the counters."""
    spent, held = Counter[str](), Counter[str]()
    by_use = Counter[tuple[str, ...]]()
    for row in rows:
        spent[row["tenant"]] += nano(row["charged"])
        held[row["tenant"]] += nano(row["holding"])
        by_use[row["tenant"], row["day"], row["key"], row["model"]] += nano(row["charged"])
    usage = RedisUsage(store.client, store.scripts, load_scripts(), EpochGuard(store.client))
    views = await usage.all(sorted({row["day"] for row in rows if row["day"]}))
    used = group([row for view in views for row in view.rows], ["tenant"])
    totals = {view.tenant: view.windows[-1] for view in views}
    assert {t: (spent[t], held[t]) for t in TENANTS} == {t: (used[t,].spent, used[t,].held) for t in TENANTS}
    assert {t: (spent[t], held[t]) for t in TENANTS} == {t: (totals[t].spent, totals[t].held) for t in TENANTS}
    assert sum(by_use.values()) == sum(spent.values())
    by_row = group([row for view in views for row in view.rows], ["tenant", "day", "key", "model"])
    assert {name: charged for name, charged in by_use.items() if charged} == {
        name: use.spent for name, use in by_row.items() if use.spent
    }


@pytest.mark.parametrize("seed", range(5))
async def test_export_usage_and_counters_agree_to_the_nanocredit(store: Store, seed: int) -> None:
    """Over a random history of three tenants, whatever becomes of the jobs, all sums are the same."""
    chance = random.Random(seed)  # noqa: S311 a history to repeat
    callers = [await store.caller(tenant) for tenant in TENANTS for _ in range(2)]
    for _ in range(60):
        await one_job(store, chance, chance.choice(callers))
    await sums_agree(store, await exported(store))
    await assert_audited(store.client)


async def test_an_export_goes_on_where_it_ended(store: Store) -> None:
    """Cut anywhere, two exports are one: no row is lost, none comes twice; so for one tenant alone."""
    chance = random.Random(7)  # noqa: S311 a history to repeat
    callers = [await store.caller(tenant) for tenant in TENANTS]
    for _ in range(20):
        await one_job(store, chance, chance.choice(callers))
    whole = await exported(store)
    assert [row["at"] for row in whole] == sorted(row["at"] for row in whole)
    for cut in range(len(whole)):
        assert await exported(store, after=whole[cut]["id"]) == whole[cut + 1 :]
    own = [row for row in whole if row["tenant"] == "beta"]
    assert await exported(store, tenant="beta", after=own[2]["id"]) == own[3:]
    assert {row["labels"]["team"] for row in whole} == {"x", "y"}
    assert datetime.fromisoformat(whole[0]["at"]).tzinfo == UTC


async def test_what_was_folded_is_exported_as_a_balance(store: Store) -> None:
    """A ledger whose oldest entries are gone begins with what they came to, so that its sums are still the counters."""
    chance = random.Random(3)  # noqa: S311 a history to repeat
    callers = [await store.caller(tenant) for tenant in TENANTS]
    for _ in range(30):
        await one_job(store, chance, chance.choice(callers))
    await RedisLedgers(store.client, store.scripts, load_scripts()).fold("alpha", keep_s=-1, keep=100, limit=5)
    rows = await exported(store)
    assert (rows[0]["kind"], rows[0]["tenant"], rows[0]["seq"]) == ("opening", "alpha", 5)
    total = (await store.jobs.windows("alpha"))[-1]
    assert sum(nano(row["charged"]) for row in rows if row["tenant"] == "alpha") == total.spent
    assert sum(nano(row["holding"]) for row in rows if row["tenant"] == "alpha") == total.held


async def test_an_export_does_not_go_on_across_what_was_folded(store: Store) -> None:
    """Rows that nobody exported and that are gone are told of, not passed over; those that were exported may go."""
    chance, caller = random.Random(4), await store.caller("alpha")  # noqa: S311 a history to repeat
    for _ in range(10):
        await one_job(store, chance, caller)
    rows = await exported(store)
    await RedisLedgers(store.client, store.scripts, load_scripts()).fold("alpha", keep_s=-1, keep=100, limit=5)
    with pytest.raises(InvalidRequest, match="no longer kept"):
        await exported(store, after=rows[3]["id"])
    assert await exported(store, after=rows[4]["id"]) == rows[5:]
    assert await exported(store, after=rows[7]["id"]) == rows[8:]


@pytest.mark.parametrize("after", ["", "x", "1-1", "1-1/", "-1-1/team", "1/team"])
async def test_an_id_that_is_none(store: Store, after: str) -> None:
    """A mistake is told, rather than taken for the beginning."""
    with pytest.raises(InvalidRequest):
        await exported(store, after=after)
