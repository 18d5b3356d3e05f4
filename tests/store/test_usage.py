from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from support.ledger import CREDIT, Store, admission, assert_audited, prelude_script

from gateway.core.job import JobState
from gateway.core.movements import Denied, Release, Settlement
from gateway.core.tenant import Credential, RateLimit
from gateway.core.usage import Usage, bucket_of, group
from gateway.service.usage import Refused, UsageView
from gateway.store import keys
from gateway.store.epoch import EpochGuard
from gateway.store.scripts import load_scripts
from gateway.store.usage import RedisUsage

pytestmark = pytest.mark.parametrize("store", ["single", "cluster"], indirect=True)
TENANT = "team"


def usage_of(store: Store) -> RedisUsage:
    """Read usage."""
    return RedisUsage(store.client, store.scripts, load_scripts(), EpochGuard(store.client))


async def periods(store: Store) -> list[str]:
    """Name the day and the month that it is for the server."""
    view = await usage_of(store).of(TENANT, [])
    now = datetime.fromtimestamp(view.now_ms / 1000, UTC)
    return [f"{now:%Y-%m-%d}", f"{now:%Y-%m}"]


async def everything(store: Store) -> dict[str, Any]:
    """Read all counts of the tenant by period, which must agree."""
    view = await usage_of(store).of(TENANT, await periods(store))
    by_period = group(view.rows, ["day"])
    assert len({tuple(sorted(usage.counts.items())) for usage in by_period.values()}) == 1
    return dict(next(iter(by_period.values())).counts)


async def test_every_movement_is_counted_once(store: Store) -> None:
    """Jobs by outcome, credits, holds, overruns, latencies, the vendor's refusals; a repeated write adds nothing."""
    caller = await store.caller(TENANT)
    requests = [admission(caller) for _ in range(6)]
    for request in requests:
        await store.ledger.admit(request)
        await store.ledger.accept(TENANT, request.job_id, request.job_id)
    done, over, failed, rejected, expired, _running = (request.job_id for request in requests)
    rejecting = admission(caller)
    await store.ledger.admit(rejecting)
    charge = Settlement(tenant=TENANT, job_id=done, state=JobState.COMPLETED, cost=CREDIT // 4)
    end = Release(tenant=TENANT, job_id=failed, state=JobState.FAILED, reason="", code="upstream_error")
    for _ in range(2):
        await store.ledger.settle(charge)
        await store.ledger.settle(replace(charge, job_id=over, cost=3 * CREDIT))
        await store.ledger.settle(replace(charge, job_id=expired, state=JobState.EXPIRED, cost=None))
        await store.ledger.release(end)
        await store.ledger.release(replace(end, job_id=rejecting.job_id, state=JobState.REJECTED, code="model_retired"))
        await store.ledger.release(replace(end, job_id=rejected))
    counts = await everything(store)
    took = {name: counts.pop(name) for name in list(counts) if name.startswith("took_")}
    assert sum(took.values()) == 2
    assert counts == {
        "jobs": 7, "completed": 2, "expired": 1, "failed": 2, "rejected": 1, "rejected_model_retired": 1,
        "spent": CREDIT // 4 + 3 * CREDIT + CREDIT, "overrun": 2 * CREDIT, "held": CREDIT,
    }  # fmt: skip
    await assert_audited(store.client)


async def test_rows_are_of_key_and_model(store: Store) -> None:
    """Each key's use of each model is told apart, a workflow's too; usage goes after 400 days."""
    first, second = await store.caller(TENANT), await store.key(TENANT)
    for caller, model in ((first, "kling-2.6"), (second, "kling-2.6"), (second, "workflows/mine")):
        await store.ledger.admit(admission(caller, model=model))
    day, month = await periods(store)
    view = await usage_of(store).of(TENANT, [day])
    assert {(row.key, row.model, row.counts["jobs"]) for row in view.rows} == {
        (first.key_id, "kling-2.6", 1), (second.key_id, "kling-2.6", 1), (second.key_id, "workflows/mine", 1),
    }  # fmt: skip
    for period in (day, month):
        assert 0 < await store.client.pttl(keys.usage(TENANT, period)) <= 400 * 86_400_000


async def test_made_up_models_don_t_fill_the_store(store: Store) -> None:
    """From the thousandth row of a day on, further models are counted together, from admission to the end."""
    caller = await store.caller(TENANT)
    day, month = await periods(store)
    for period in (day, month):
        await store.client.hset(keys.usage(TENANT, period), mapping={f"x/{n}": '{"refused_y":1}' for n in range(999)})
    requests = [admission(caller, model=f"made-up-{n}") for n in range(3)]
    for request in requests:
        await store.ledger.admit(request)
    for request in requests:
        charge = Settlement(tenant=TENANT, job_id=request.job_id, state=JobState.COMPLETED, cost=CREDIT)
        await store.ledger.settle(charge)
    found = {row.model: row.counts for row in (await usage_of(store).of(TENANT, [day])).rows if row.key != "x"}
    assert {model: counts["jobs"] for model, counts in found.items()} == {"made-up-0": 1, "other": 2}
    await store.client.hdel(keys.usage(TENANT, day), *(f"x/{n}" for n in range(999)))
    await store.client.hdel(keys.usage(TENANT, month), *(f"x/{n}" for n in range(999)))
    await assert_audited(store.client)


async def test_refusals_are_added(store: Store) -> None:
    """Refusals that a process counted go into the usage of today, by key, model and code."""
    await store.caller(TENANT)
    refused = {Refused("k1", "m", "rate_limited"): 3, Refused("k1", "m", "budget_exhausted"): 1}
    await usage_of(store).count_refused(TENANT, refused)
    await usage_of(store).count_refused(TENANT, {Refused("k1", "m", "rate_limited"): 2})
    assert await everything(store) == {"refused_rate_limited": 5, "refused_budget_exhausted": 1}


async def own(store: Store, caller: Credential) -> UsageView | Denied:
    """Read as the tenant's own caller."""
    return await usage_of(store).own(caller, await periods(store))


async def test_a_caller_reads_its_own_within_its_read_limit(store: Store) -> None:
    """It counts as a read; a key that is not good is told nothing."""
    caller = await store.caller(TENANT, read=RateLimit(1, 3600, 1), budgets={"month": 5 * CREDIT})
    await store.ledger.admit(admission(caller))
    view = await own(store, caller)
    assert isinstance(view, UsageView)
    assert [usage.jobs for usage in group(view.rows, ["day"]).values()] == [1, 1]
    assert view.windows[2].held == CREDIT
    assert view.rate is not None
    assert view.rate.remaining == 0
    limited = await own(store, caller)
    assert isinstance(limited, Denied)
    assert limited.code == "rate_limited"
    stranger = await own(store, Credential(TENANT, "abcd1234", "0" * 64))
    assert isinstance(stranger, Denied)
    assert (stranger.code, stranger.rate) == ("unauthenticated", None)


async def test_the_buckets_of_the_scripts_are_pythons(store: Store) -> None:
    """Durations are counted in the bucket that they are read from."""
    durations = [0, 1, 2, 3, 7, 8, 15, 16, 17, 999, 1000, 1024, 425_000, 425_001, 3_600_000, 10**10]
    script = prelude_script("local o = {} for i, ms in ipairs(ARGV) do o[i] = bucket_of(tonumber(ms)) end return o")
    assert await store.client.eval(script.source, 0, *map(str, durations)) == list(map(bucket_of, durations))
    assert Usage().counts == {}
