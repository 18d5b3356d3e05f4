from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from support.ledger import CREDIT, Store, admission, assert_audited, open_store

from gateway.core.job import JobState
from gateway.core.movements import Admission, Release, Settlement
from gateway.core.policy import Policy
from gateway.service.audit import Auditor
from gateway.store import keys
from gateway.store.ledgers import RedisLedgers
from gateway.store.readiness import ensure_epoch

TENANT = "team"


@pytest.fixture
async def store(redis_url: str) -> AsyncIterator[Store]:
    """Open a store that holds nothing."""
    async with open_store(redis_url) as opened:
        await ensure_epoch(opened.client)
        yield opened


def ledgers(store: Store, page: int = 1000) -> RedisLedgers:
    """Read the ledgers, so many entries a trip."""
    return RedisLedgers(store.client, store.scripts, store.ledger._library, page=page)


async def differences(store: Store, page: int = 1000) -> list[tuple[str, str, str]]:
    """Audit; return what differs."""
    verdict = await Auditor(ledgers(store, page), lambda: Policy().job_ttl_s).verify()
    return [(d.what, d.ledger, d.found) for d in verdict.differences]


async def history(store: Store) -> dict[str, Admission]:
    """Put one job on record for each way in which it can stand."""
    caller = await store.caller(TENANT)
    names = ("sending", "unknown", "accepted", "settled", "overrun", "failed", "rejected", "expired")
    requests = {name: admission(caller) for name in names}
    for request in requests.values():
        await store.ledger.admit(request)
    ids = {name: request.job_id for name, request in requests.items()}
    await store.ledger.doubt(TENANT, ids["unknown"], "reset")
    for name in ("accepted", "settled", "overrun", "failed", "expired"):
        await store.ledger.accept(TENANT, ids[name], f"vendor-{name}")
    charge = Settlement(tenant=TENANT, job_id=ids["settled"], state=JobState.COMPLETED, cost=CREDIT // 3)
    await store.ledger.settle(charge)
    await store.ledger.settle(replace(charge, job_id=ids["overrun"], cost=3 * CREDIT))
    await store.ledger.settle(replace(charge, job_id=ids["expired"], state=JobState.EXPIRED, cost=None))
    end = Release(tenant=TENANT, job_id=ids["failed"], state=JobState.FAILED, reason="blocked")
    await store.ledger.release(end)
    await store.ledger.release(replace(end, job_id=ids["rejected"], state=JobState.REJECTED))
    return requests


@pytest.mark.parametrize("page", [1, 2, 3, 1000])
async def test_a_ledger_that_adds_up_has_no_differences(store: Store, page: int) -> None:
    """Jobs in every state agree with the ledger, however many entries come in a trip."""
    await history(store)
    assert await differences(store, page) == []


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (("HINCRBY", keys.budget(TENANT), "total:spent", 1), "total:spent"),
        (("HINCRBY", keys.budget(TENANT), "total:held", -1), "total:held"),
        (("HSET", keys.budget(TENANT), "day:2001-01-01:held", 7), "day:2001-01-01:held"),
        (("HINCRBY", keys.budget(TENANT), "seq", 1), "entries"),
        (("ZREM", keys.active(TENANT), "{accepted}"), "job {accepted}: concurrency slot"),
        (("ZADD", keys.active(TENANT), 1, "{settled}"), "job {settled}: concurrency slot"),
        (("HDEL", keys.sending(TENANT), "{unknown}"), "job {unknown}: is being sent"),
        (("HSET", keys.sending(TENANT), "{accepted}", "?"), "job {accepted}: is being sent"),
        (("HSET", keys.sending(TENANT), "{failed}", "?"), "job {failed}: is being sent"),
        (("HSET", keys.job(TENANT, "{accepted}"), "state", "COMPLETED"), "job {accepted}: state"),
        (("HSET", keys.job(TENANT, "{accepted}"), "hold", 5), "job {accepted}: hold"),
        (("HSET", keys.job(TENANT, "{settled}"), "state", "FAILED"), "job {settled}: state"),
        (("HSET", keys.job(TENANT, "{settled}"), "cost", 5), "job {settled}: cost"),
        (("HSET", keys.job(TENANT, "{overrun}"), "cost", 5), "job {overrun}: cost"),
        (("HSET", keys.job(TENANT, "{failed}"), "cost", 5), "job {failed}: cost"),
        (("DEL", keys.job(TENANT, "{expired}")), "job {expired}: state"),
    ],
)
async def test_whatever_is_tampered_with_is_found(store: Store, words: tuple[str | int, ...], what: str) -> None:
    """A counter, a slot, a state or a cost that the ledger does not explain is named."""
    ids: dict[str, Any] = {name: request.job_id for name, request in (await history(store)).items()}
    await store.client.execute_command(*(named(word, ids) for word in words))
    assert what.format(**ids) in {found[0] for found in await differences(store, 2)}


def named(word: str | int, ids: dict[str, Any]) -> str | int:
    """Put the ids of jobs into a word."""
    if isinstance(word, str):
        for name, job_id in ids.items():
            word = word.replace("{" + name + "}", job_id)
    return word


@pytest.mark.parametrize("nth", range(12))
async def test_a_lost_entry_is_found(store: Store, nth: int) -> None:
    """No entry can be taken away, neither the first nor the last."""
    await history(store)
    entries: Any = await store.client.xrange(keys.ledger(TENANT))
    await store.client.xdel(keys.ledger(TENANT), entries[nth][0])
    assert await differences(store)


@pytest.mark.parametrize("limit", [1, 3, 100])
async def test_old_entries_are_folded_without_a_trace(store: Store, limit: int) -> None:
    """After each fold the replay is as exact as before, with jobs that are still open and those that end later."""
    requests = await history(store)
    before = await store.jobs.windows(TENANT)
    while await ledgers(store).fold(TENANT, keep_s=-1, keep=100, limit=limit):
        assert await differences(store, 2) == []
    assert await store.client.xlen(keys.ledger(TENANT)) == 0
    charge = Settlement(tenant=TENANT, job_id=requests["accepted"].job_id, state=JobState.COMPLETED, cost=2 * CREDIT)
    await store.ledger.settle(charge)
    await store.ledger.admit(admission(requests["settled"].credential))
    assert await differences(store) == []
    assert (await store.jobs.windows(TENANT))[-1].spent == before[-1].spent + 2 * CREDIT


async def test_young_entries_stay(store: Store) -> None:
    """Entries that are not older than the policy says are not folded."""
    await history(store)
    assert await ledgers(store).fold(TENANT, keep_s=3600, keep=100, limit=100) == 0
    assert await store.client.exists(keys.opening(TENANT)) == 0


async def test_counters_of_windows_long_over_are_dropped(store: Store) -> None:
    """What is kept of a tenant does not grow for ever: a window that is over and settled goes, the total stays."""
    requests = await history(store)
    year_s = 366 * 86_400
    await ledgers(store).fold(TENANT, keep_s=-year_s, keep=100, limit=100)
    assert len(await store.client.hkeys(keys.budget(TENANT))) == 9  # three jobs are open
    for name in ("sending", "unknown", "accepted"):
        end = Release(tenant=TENANT, job_id=requests[name].job_id, state=JobState.FAILED, reason="")
        await store.ledger.release(end)
    await ledgers(store).fold(TENANT, keep_s=-year_s, keep=100, limit=100)
    assert set(await store.client.hkeys(keys.budget(TENANT))) == {b"total:spent", b"total:held", b"seq"}
    await assert_audited(store.client)
