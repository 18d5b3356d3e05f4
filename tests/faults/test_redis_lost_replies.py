"""A thousand lost replies: every write is asked for again, and none of them counts twice."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any, Final
from urllib.parse import urlsplit

import pytest
from support.clients import opened
from support.ledger import CLOCK_START_US as NOW_US
from support.ledger import CREDIT, Store, admission, clocked, dump, open_store, set_clock
from support.proxy import Fault, tcp_proxy
from support.valkey import HOST

from gateway.core.job import JobState
from gateway.core.movements import Denied, Release, Settlement, StoredResult
from gateway.core.queue import DueEntry
from gateway.core.tenant import Credential, RateLimit, TenantPolicy
from gateway.errors import StoreUnavailable
from gateway.store import keys
from gateway.store.connect import store_errors
from gateway.store.readiness import ensure_epoch
from gateway.store.scripts import load_scripts

LOST: Final = 1000
CREDENTIAL: Final = Credential("team", "k1", "d" * 64)
PLENTY: Final = RateLimit(limit=1, period_s=86_400, burst=365)
"""Its state must not expire while the test runs: its own time stands still."""
RESULT: Final = StoredResult(body=b'{"status": "COMPLETED"}', content_type="application/json")

Write = Callable[[], Awaitable[object]]


def cycle(store: Store, n: int) -> Iterator[Write]:
    """Make the writes of three jobs, one of each way to end: every idempotent script that moves money or a job."""
    ledger, team = store.ledger, CREDENTIAL.tenant
    done, undone, failed = (
        admission(CREDENTIAL, job_id=f"{n:08d}-0000-7000-8000-{which:012d}", idempotency_key=f"{which}-{n}")
        for which in range(3)
    )
    late = admission(CREDENTIAL, job_id=f"{n:08d}-0000-7000-8000-{3:012d}")
    entry = DueEntry(team, failed.job_id, 5.0)
    charge = Settlement(tenant=team, job_id=done.job_id, state=JobState.COMPLETED, cost=2 * CREDIT, result=RESULT)
    end = Release(tenant=team, job_id=failed.job_id, state=JobState.FAILED, reason="no", result=RESULT)
    yield lambda: admit(store, done)
    yield lambda: ledger.doubt(team, done.job_id, "reset")
    yield lambda: ledger.adopt(team, done.job_id, f"vendor-{n}-0")
    yield lambda: ledger.progress(team, done.job_id, "PROCESSING")
    yield lambda: ledger.note_overdue(team, done.job_id, 1)
    yield lambda: ledger.progress(team, done.job_id, None)
    yield lambda: ledger.settle(charge)
    yield lambda: admit(store, undone)
    yield lambda: ledger.void(undone)
    yield lambda: ledger.void(late)
    yield lambda: admit(store, failed)
    yield lambda: ledger.accept(team, failed.job_id, f"vendor-{n}-2")
    yield lambda: store.due.schedule([entry])
    yield lambda: ledger.release(end)
    yield lambda: store.due.remove([entry])
    yield lambda: store.tenants.suspend(team, suspended=n % 2 == 0)
    yield lambda: store.tenants.suspend(team, suspended=False)


async def admit(store: Store, request: Any) -> None:  # noqa: ANN401  # an Admission
    """Admit, or find that this was done before."""
    answer = await store.ledger.admit(request)
    assert not isinstance(answer, Denied) or answer.code == "idempotency_in_progress", answer


async def prepared(store: Store) -> None:
    """Empty the store and put the tenant on record."""
    await store.client.flushall()
    await ensure_epoch(store.client)
    await store.client.set(keys.EPOCH, "fixed")
    await set_clock(store.client, NOW_US)
    await store.tenants.put(TenantPolicy("team", submit=PLENTY, read=PLENTY, concurrent_jobs=10))
    await store.tenants.add_key(CREDENTIAL, "test", ttl_s=None)


async def all_of(store: Store) -> Mapping[str, Any]:
    """Read everything, but for the ids of ledger entries, which tell the real time."""
    found = await dump(store.client)
    ledger = keys.ledger("team")
    return found | {ledger: [fields for _, fields in found[ledger]]}


@pytest.mark.timeout(180)
async def test_r22_a_thousand_lost_replies_change_nothing(redis_url: str) -> None:
    """Each of 1,000 writes is run, its reply lost, and run again: the store is what it is without any loss."""
    cycles, library = -(-LOST // 17), clocked(load_scripts())
    async with open_store(redis_url, library=library) as store:
        await prepared(store)
        for n in range(cycles):
            for write in cycle(store, n):
                await write()
        expected = await all_of(store)

        await prepared(store)
        async with (
            tcp_proxy(HOST, urlsplit(redis_url).port or 0) as proxy,
            open_store(f"redis://{HOST}:{proxy.port}", library=library) as lossy,
        ):
            lost = 0
            for n in range(cycles):
                for write in cycle(lossy, n):
                    await lossy.jobs.find("team", "any")  # so that the line stands, and the next reply is the write's
                    proxy.fault = Fault.DROP_REPLY
                    with pytest.raises(StoreUnavailable):
                        await write()
                    assert proxy.fault is Fault.NONE
                    lost += 1
                    await write()
                    if n % 2:
                        await write()
        found = await all_of(store)
    assert lost >= LOST
    assert found == expected


async def test_r22_a_lost_reply_is_not_asked_for_again(redis_url: str) -> None:
    """A command that ran but whose reply was cut off reaches the server once, and is reported: retries are off."""
    async with (
        tcp_proxy(HOST, urlsplit(redis_url).port or 0) as proxy,
        opened(f"redis://{HOST}:{proxy.port}") as client,
    ):
        await client.set("n", 0)
        proxy.fault = Fault.DROP_REPLY
        with pytest.raises(StoreUnavailable), store_errors():
            await client.incrby("n", 1)
        assert [b"INCRBY" in request for request in proxy.requests].count(True) == 1
        assert await client.get("n") == b"1"
