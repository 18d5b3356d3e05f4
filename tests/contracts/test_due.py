from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

import pytest
from support.ports import Ports

from gateway.core.job import new_job_id
from gateway.core.queue import DueEntry
from gateway.store import keys
from gateway.store.due import shard_of

REAL = pytest.mark.parametrize("store", ["single", "cluster"], indirect=True)

LEASE_S: Final = 30.0


def entry(due_in_s: float = 0.0, shard: int | None = None) -> DueEntry:
    """Make a job of a queue's shard, by default of any."""
    job_id = new_job_id()
    while shard is not None and shard_of(job_id) != shard:
        job_id = new_job_id()
    return DueEntry("team", job_id, due_in_s)


async def claim(store: Ports, limit: int = 1_600) -> list[DueEntry]:
    """Lease what is due."""
    return list((await store.due.claim(limit=limit, lease_s=LEASE_S)).entries)


def ids(entries: Sequence[DueEntry]) -> set[str]:
    """Name the jobs of entries."""
    return {one.job_id for one in entries}


async def test_what_is_due_is_claimed_and_the_rest_is_not(store: Ports) -> None:
    """Jobs come when their time has come, from every shard, with their tenant and how late they are."""
    late = [entry(-60) for _ in range(40)]
    await store.due.schedule([*late, *(entry(60) for _ in range(40))])
    claimed = await claim(store)
    assert ids(claimed) == ids(late)
    assert {one.tenant for one in claimed} == {"team"}
    assert all(-120 < one.due_in_s <= -60 for one in claimed)


async def test_a_job_has_one_holder_at_a_time(store: Ports) -> None:
    """Of many trackers that claim at once each job goes to one; when the lease ends it may be claimed again."""
    jobs = [entry(-1) for _ in range(60)]
    await store.due.schedule(jobs)
    claims = await asyncio.gather(*(claim(store, 2) for _ in range(10)))
    claimed = [one.job_id for some in claims for one in some]
    assert sorted(claimed) == sorted(set(claimed))
    claimed += ids(await claim(store))
    assert set(claimed) == ids(jobs)
    assert await claim(store) == []
    await store.pass_time(LEASE_S)
    assert ids(await claim(store)) == ids(jobs)


@REAL
async def test_the_latest_goes_first(store: Ports) -> None:
    """Where a shard has more than its share of the limit, those that have waited longest are claimed; the rest wait."""
    jobs = [entry(-seconds, shard=3) for seconds in (10, 30, 20, 40)]
    await store.due.schedule(jobs)
    claimed = await store.due.claim(limit=2 * keys.DUE_SHARDS, lease_s=LEASE_S)
    assert [one.job_id for one in claimed.entries] == [jobs[3].job_id, jobs[1].job_id]
    assert (claimed.waiting, claimed.next_in_s) == (2, 0)


async def test_a_claim_tells_when_the_next_is_worth_it(store: Ports) -> None:
    """With nothing left that is due, the claim says when the next job will be, leases included."""
    await store.due.schedule([entry(500), entry(-1)])
    claimed = await store.due.claim(limit=100, lease_s=LEASE_S)
    assert claimed.waiting == 0
    assert claimed.next_in_s == LEASE_S


async def test_a_job_is_moved_by_its_schedule(store: Ports) -> None:
    """A further schedule moves a queued job, unless only new ones are wanted; both say how many were new."""
    job = entry(60)
    assert await store.due.schedule([job, entry(60)]) == 2
    sooner = DueEntry(job.tenant, job.job_id, -1)
    assert await store.due.schedule([sooner, entry(60)], only_new=True) == 1
    assert await claim(store) == []
    assert await store.due.schedule([sooner]) == 0
    assert ids(await claim(store)) == {job.job_id}


async def test_a_late_job_may_be_put_ahead_of_others(store: Ports) -> None:
    """A job that waits is put further ahead even where only new ones are wanted, and never further back."""
    job, urgent = entry(-10, shard=3), entry(-5, shard=3)
    await store.due.schedule([job, urgent])
    for due_in_s in (-60, -1, 60):
        again = DueEntry(urgent.tenant, urgent.job_id, due_in_s)
        assert await store.due.schedule([again], only_new=True) == 0
    assert [one.job_id for one in await claim(store)] == [urgent.job_id, job.job_id]


async def test_a_removed_job_does_not_come_back(store: Ports) -> None:
    """What has ended leaves the queue, also while it is leased; removing it again is no error."""
    jobs = [entry(-1) for _ in range(20)]
    await store.due.schedule(jobs)
    await claim(store)
    await store.due.remove(jobs[:19])
    await store.due.remove(jobs[:19])
    await store.pass_time(LEASE_S)
    assert ids(await claim(store)) == {jobs[19].job_id}


async def test_nothing_is_nothing(store: Ports) -> None:
    """Empty lists and an empty queue are fine."""
    assert await store.due.schedule([]) == 0
    await store.due.remove([])
    assert await claim(store) == []


async def test_polls_are_paid_for_after_the_fact(timed_store: Ports) -> None:
    """So many a second come out at that rate, whoever makes them; what was not used is not saved up."""
    due = timed_store.due
    assert [await due.pace(3, per_second=2), await due.pace(1, per_second=2)] == [1.5, 2.0]
    await timed_store.pass_time(1)
    assert await due.pace(0, per_second=2) == 1.0
    await timed_store.pass_time(60)
    assert await due.pace(1, per_second=0.5) == 2.0


async def test_a_clock_that_was_set_back_stops_no_polls_for_hours(timed_store: Ports) -> None:
    """What stands further ahead than polls can have brought it is cut."""
    assert await timed_store.due.pace(1, per_second=10) == 0.1
    await timed_store.pass_time(-7200)
    assert await timed_store.due.pace(1, per_second=10) == 60 + 100 * 0.1 + 0.1


async def test_a_clock_that_was_set_back_puts_no_job_off(store: Ports) -> None:
    """What is due only since Redis's clock was set back is put ahead by the repair; what is due soon stays."""
    astray, soon = entry(5), entry(300)
    await store.due.schedule([astray])
    await store.pass_time(-3600)
    await store.due.schedule([soon])
    await store.due.schedule([DueEntry(one.tenant, one.job_id, -1) for one in (astray, soon)], only_new=True)
    assert ids(await claim(store)) == {astray.job_id}
