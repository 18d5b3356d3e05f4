from __future__ import annotations

from typing import Final

from support.ledger import admission
from support.ports import Ports

from gateway.core.job import JobState
from gateway.core.movements import Release
from gateway.core.queue import ActiveJob, DueEntry, Standing
from gateway.store.sweeper import SENDING_MAX_S

TENANTS: Final = [f"team-{number:03}" for number in range(205)]


async def start(store: Ports, tenant: str, owner: str = "process-1") -> DueEntry:
    """Have a job admitted for a process."""
    request = admission(await store.caller(tenant), owner=owner)
    await store.ledger.admit(request)
    return DueEntry(tenant, request.job_id)


async def walked(store: Ports) -> list[DueEntry]:
    """Walk all active jobs."""
    return [DueEntry(job.tenant, job.job_id) async for some in store.sweeper.active() for job in some]


async def test_jobs_of_a_dead_process_are_orphans(store: Ports) -> None:
    """What a process was sending is an orphan once it beats no more; what a living one sends is not."""
    dead = [await start(store, tenant, "gone") for tenant in ("one", "two")]
    await start(store, "one", "alive")
    await store.sweeper.beat("alive", ttl_s=60)
    await store.sweeper.beat("gone", ttl_s=30)
    assert await store.sweeper.orphans() == []
    await store.pass_time(31)
    assert sorted(await store.sweeper.orphans(), key=lambda entry: entry.tenant) == dead


async def test_a_send_that_never_ends_is_an_orphan(store: Ports) -> None:
    """A living process can lose a job too: what it has been sending for an hour is looked up like any other."""
    sent = await start(store, "one", "alive")
    await store.pass_time(SENDING_MAX_S + 60)
    await store.sweeper.beat("alive", ttl_s=60)
    await start(store, "one", "alive")
    assert await store.sweeper.orphans() == [sent]


async def test_a_send_is_as_old_as_redis_says(store: Ports) -> None:
    """The clock of the machine that made a job's id, which stands in the id, is not what its age goes by."""
    await store.sweeper.beat("alive", ttl_s=60)
    caller = await store.caller("one")
    await store.ledger.admit(admission(caller, job_id="00000000-0000-7000-8000-000000000001", owner="alive"))
    assert await store.sweeper.orphans() == []


async def test_only_jobs_that_are_being_sent_are_orphans(store: Ports) -> None:
    """A job with an outcome, even an unknown one, is nobody's orphan."""
    accepted, doubted, ended, voided = [await start(store, "one") for _ in range(4)]
    await store.ledger.accept("one", accepted.job_id, "vendor-1")
    await store.ledger.doubt("one", doubted.job_id, "reset")
    await store.ledger.release(Release(tenant="one", job_id=ended.job_id, state=JobState.REJECTED, reason="refused"))
    await store.ledger.void(admission(await store.key("one"), job_id=voided.job_id))
    assert await store.sweeper.orphans() == []


async def test_a_heartbeat_ends_by_itself(store: Ports) -> None:
    """A beat lasts as long as it says, and a further one prolongs it."""
    sent = await start(store, "one", "process-1")
    for ttl_s in (20, 100):
        await store.sweeper.beat("process-1", ttl_s=ttl_s)
    await store.pass_time(60)
    assert await store.sweeper.orphans() == []
    await store.pass_time(41)
    assert await store.sweeper.orphans() == [sent]


async def test_a_turn_does_not_outlast_a_clock_that_was_set_back(store: Ports) -> None:
    """Periodic work goes on when Redis's clock is set back, and is still one process's at a time."""
    assert await store.sweeper.turn("sweep", ttl_s=60)
    await store.pass_time(-3600)
    assert [await store.sweeper.turn("sweep", ttl_s=60) for _ in range(2)] == [True, False]


async def test_a_turn_goes_to_one_process(store: Ports) -> None:
    """Periodic work is done by whoever comes first, each kind has turns of its own, and the next one comes in time."""
    turns = [await store.sweeper.turn(name, ttl_s=60) for name in ("sweep", "sweep", "prune")]
    assert turns == [True, False, True]
    await store.pass_time(60)
    assert await store.sweeper.turn("sweep", ttl_s=60)


async def test_the_walk_finds_every_active_job_of_every_tenant(store: Ports) -> None:
    """However many tenants there are, each job whose hold stands is found once; ended ones are not."""
    started = [await start(store, tenant) for tenant in TENANTS]
    ended = started[7]
    await store.ledger.release(
        Release(tenant=ended.tenant, job_id=ended.job_id, state=JobState.FAILED, reason="refused")
    )
    found = await walked(store)
    assert sorted(found, key=lambda entry: entry.tenant) == [entry for entry in started if entry is not ended]


async def test_the_walk_tells_since_when(store: Ports) -> None:
    """A job comes with the time of its admission, by the store's clock."""
    entry = await start(store, "one")
    job = await store.jobs.find(entry.tenant, entry.job_id)
    assert job is not None
    assert [found async for some in store.sweeper.active() for found in some] == [
        ActiveJob(entry.tenant, entry.job_id, job.created_ms)
    ]


async def test_where_each_tenant_stands(store: Ports) -> None:
    """Of each tenant the jobs that have not ended are counted, those being sent and the UNKNOWN ones apart."""
    for tenant in TENANTS[:102]:
        await store.caller(tenant)
    jobs = [await start(store, TENANTS[0]) for _ in range(6)]
    await store.ledger.accept(TENANTS[0], jobs[0].job_id, "vendor-1")
    await store.ledger.doubt(TENANTS[0], jobs[1].job_id, "reset")
    await store.ledger.doubt(TENANTS[0], jobs[2].job_id, "reset")
    await store.ledger.adopt(TENANTS[0], jobs[2].job_id, "vendor-2")
    ended = Release(tenant=TENANTS[0], job_id=jobs[3].job_id, state=JobState.REJECTED, reason="refused")
    await store.ledger.release(ended)
    found = [standing async for some in store.sweeper.standings() for standing in some]
    assert found == [Standing(TENANTS[0], 5, 2, 1), *(Standing(tenant, 0, 0, 0) for tenant in TENANTS[1:102])]


async def test_without_tenants_there_is_nothing_to_walk(store: Ports) -> None:
    """A new store has neither active jobs nor orphans."""
    assert await walked(store) == []
    assert await store.sweeper.orphans() == []
