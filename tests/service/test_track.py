from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import pytest
from support.gateway import eventually
from support.tracking import TENANT, WINDOW, Replica, Rig
from support.vendor import KLING, HandClock

from gateway.core.adoption import History
from gateway.core.job import JobState
from gateway.core.policy import Policy
from gateway.core.queue import DueEntry
from gateway.core.schedule import FIRST_POLL_S, URGENT_AFTER_S, VENDOR_TTL_S
from gateway.sandbox import Fault
from gateway.service.clock import StoreClock
from gateway.service.missing import CONFIRM_S
from gateway.service.sweep import Sweep
from gateway.service.track import BUSY_S, IDLE_S, LEASE_S, RENEW_S
from gateway.store import keys

LONG_S = 620.0


def sweep(rig: Rig) -> Sweep:
    """Make the sweep of one process."""
    return Sweep(
        sweeper=rig.store.sweeper,
        ledger=rig.store.ledger,
        due=rig.store.due,
        sink=rig.events.append,
        clock=StoreClock(),
    )


@dataclass(slots=True)
class Silent:
    """A history that says nothing until it is let answer; then it shows nothing."""

    answer: asyncio.Event = field(default_factory=asyncio.Event)
    reads: int = 0

    async def history(self, model: str, *, since_ms: int, now_ms: int, upstream_key: str) -> History:
        """See `HistoryReader.history`."""
        assert (model, upstream_key) == (KLING, "default")
        assert since_ms < now_ms
        self.reads += 1
        await self.answer.wait()
        return History([], complete=True)


async def free_slots(rig: Rig) -> int:
    """Count the tenant's free concurrency slots."""
    return 100 - int(await rig.store.client.zcard(keys.active(TENANT)))


async def test_due_jobs_are_polled_and_come_back(rig: Rig, replica: Replica) -> None:
    """A round polls every job that is due, each once; they are due again by the schedule, those that ended never."""
    running, waiting = [await rig.start() for _ in range(5)], await rig.start(due_in_s=60)
    await replica.turn()
    assert [rig.polls(job) for job in (*running, waiting)] == [(1, 0)] * 5 + [(0, 0)]
    assert await replica.turn() == IDLE_S
    await rig.pass_time(LONG_S)
    await replica.turn()
    assert [rig.polls(job) for job in (*running, waiting)] == [(2, 1)] * 5 + [(1, 1)]
    await rig.pass_time(LONG_S)
    await replica.turn()
    assert [rig.polls(job) for job in (*running, waiting)] == [(2, 1)] * 5 + [(1, 1)]


async def test_replicas_share_the_work(rig: Rig) -> None:
    """However many processes track, a job that is due is polled by one of them."""
    jobs = [await rig.start() for _ in range(40)]
    await asyncio.gather(*(rig.replica().turn() for _ in range(3)))
    assert [rig.polls(job) for job in jobs] == [(1, 0)] * 40


async def test_a_dead_process_is_taken_over_within_the_lease(rig: Rig, replica: Replica) -> None:
    """What a process had claimed when it died is polled by another one when the lease ends, and not before."""
    job = await rig.start()
    await rig.store.due.claim(limit=WINDOW, lease_s=LEASE_S)
    await rig.pass_time(LEASE_S - 5)
    await replica.turn()
    assert rig.polls(job) == (0, 0)
    await rig.pass_time(5)
    await replica.turn()
    assert rig.polls(job) == (1, 0)


async def test_the_window_bounds_what_is_claimed(rig: Rig, replica: Replica) -> None:
    """A process claims what it has room for, leaves the rest to others, and comes back at once."""
    for _ in range(WINDOW + 20):
        await rig.start(due_in_s=-5)
    rest_s = await replica.tracker.round()
    await replica.tracker.close(30)
    assert 0 < len(replica.figures.lags_s) <= WINDOW
    assert min(replica.figures.lags_s) >= 5
    assert replica.figures.due >= 20
    assert rest_s == BUSY_S


async def test_denied_jobs_wait_in_the_queue_for_a_silent_history(rig: Rig) -> None:
    """While one of them has the history read, as many as fill the window are out of the way of the other jobs."""
    history = Silent()
    replica = rig.replica(history=history)
    denied = [await rig.start() for _ in range(2 * WINDOW)]
    await rig.pass_time(VENDOR_TTL_S + 60)
    await replica.turn()
    await rig.pass_time(CONFIRM_S)
    running = [await rig.start(due_in_s=1.0) for _ in range(WINDOW)]
    await rig.pass_time(1.0)

    async def all_polled() -> bool:
        await replica.tracker.round()
        return all(rig.polls(job) == (1, 0) for job in running)

    await eventually(all_polled)
    assert {(await rig.find(job)).state for job in denied} == {JobState.ACCEPTED}
    history.answer.set()
    await replica.tracker.close(30)
    await replica.watchlist.flush()
    await rig.pass_time(CONFIRM_S)
    await replica.turn()
    assert {(await rig.find(job)).state for job in denied} == {JobState.EXPIRED}
    assert history.reads == 1


async def test_completed_jobs_wait_in_the_queue_for_a_slow_host_of_results(rig: Rig, replica: Replica) -> None:
    """While results don't come, as many as fill the window are out of the way of the other jobs; none is lost."""
    completed = [await rig.start() for _ in range(WINDOW)]
    await rig.pass_time(LONG_S)
    rig.vendor.sandbox.faults.add(Fault(action="hang", on=("result",)))
    running = [await rig.start(due_in_s=1.0) for _ in range(4)]
    await rig.pass_time(1.0)

    async def all_polled() -> bool:
        await replica.tracker.round()
        return all(rig.polls(job)[0] for job in running)

    await eventually(all_polled)
    assert {(await rig.find(job)).state for job in completed} == {JobState.ACCEPTED}
    rig.vendor.sandbox.faults.replace([])
    await replica.tracker.close(0)
    for _ in range(3):  # what was cut off, and what has to wait once more
        await replica.watchlist.flush()
        await rig.pass_time(LEASE_S)
        await replica.turn()
    assert {(await rig.find(job)).state for job in completed} == {JobState.COMPLETED}


async def test_a_429_pauses_every_poll(rig: Rig, replica: Replica) -> None:
    """When the vendor refuses a poll for its rate, no further one is sent before it said they may be."""
    jobs = [await rig.start() for _ in range(3)]
    refusal = Fault(action="respond", on=("status",), status=429, body={"error": "slow down"})
    rig.vendor.sandbox.faults.add(refusal)
    await replica.turn()
    asked = sum(rig.polls(job)[0] for job in jobs)
    assert asked == 3
    jobs.append(await rig.start(due_in_s=-1))
    assert 0 < await replica.turn() <= 5
    assert sum(rig.polls(job)[0] for job in jobs) == asked
    assert [(await rig.find(job)).state for job in jobs] == [JobState.ACCEPTED] * 4
    assert replica.throttle.window == WINDOW // 2


@pytest.mark.parametrize("rig", [{"policy": Policy(upstream_poll_rps=5.0)}], indirect=True)
async def test_the_fleet_keeps_to_the_rate(rig: Rig) -> None:
    """With a rate for all polls, processes together make no more, and each is told how long to wait."""
    jobs = [await rig.start() for _ in range(30)]
    rests_s = [await replica.turn() for replica in (rig.replica(), rig.replica())]
    polled = sum(rig.polls(job)[0] for job in jobs)
    assert 0 < polled <= 10
    assert rests_s[1] == pytest.approx(polled / 5, abs=0.5)
    assert rests_s[1] > rests_s[0]


async def test_a_lost_entry_is_repaired(rig: Rig, replica: Replica) -> None:
    """A job that fell out of the due queue is found among the tenant's active ones and polled again."""
    job = await rig.start()
    await rig.store.due.remove([DueEntry(TENANT, job.id)])
    await sweep(rig).repair()
    assert rig.alerts() == []  # too young: it may be on its way
    await rig.pass_time(LONG_S)
    await sweep(rig).repair()
    await rig.pass_time(2)
    await replica.turn()
    assert (await rig.find(job)).state is JobState.COMPLETED
    assert rig.alerts() == ["tracker.repaired"]


async def test_jobs_go_on_after_the_stores_clock_was_set_back(rig: Rig) -> None:
    """Jobs of the future, due in the future, are polled again with the next round of the sweep."""
    job = await rig.start(due_in_s=60)
    await rig.store.pass_time(-3600)
    await sweep(rig).repair()
    await rig.store.pass_time(2)
    claimed = await rig.store.due.claim(limit=16, lease_s=LEASE_S)
    assert [entry.job_id for entry in claimed.entries] == [job.id]


async def test_what_is_near_the_vendors_hour_goes_first(rig: Rig) -> None:
    """Of many late jobs, those whose record the vendor will drop soon are claimed first, the oldest before all."""
    rig.vendor.sandbox.faults.add(Fault(action="outcome", outcome="PROCESSING"))
    oldest = await rig.start(due_in_s=URGENT_AFTER_S)
    await rig.pass_time(100)
    old = await rig.start(due_in_s=URGENT_AFTER_S - 100)
    await rig.pass_time(URGENT_AFTER_S)
    young = [await rig.start(due_in_s=-200) for _ in range(20)]
    await sweep(rig).repair()
    claimed = await rig.store.due.claim(limit=1600, lease_s=LEASE_S)
    assert [entry.job_id for entry in claimed.entries][:2] == [oldest.id, old.id]
    assert len(claimed.entries) == len(young) + 2


async def test_an_outage_of_50_minutes_loses_no_result(rig: Rig) -> None:
    """After 50 minutes without any gateway, what the vendor still has is saved; what it dropped is charged and told."""
    dropped = await rig.start()
    await rig.pass_time(700)
    saved = [await rig.start() for _ in range(3)]
    await rig.pass_time(50 * 60)
    replica = rig.replica()
    await sweep(rig).repair()
    await replica.turn()
    await rig.pass_time(CONFIRM_S)
    await replica.turn()
    assert [((await rig.find(job)).state, (await rig.find(job)).has_result) for job in saved] == [
        (JobState.COMPLETED, True)
    ] * 3
    assert (await rig.find(dropped)).state is JobState.EXPIRED
    assert "job.expired" in rig.alerts()
    await rig.learner.refresh()
    assert rig.rules.expected_latency_s(dropped.model) == 608  # an outage teaches no latency


async def test_a_slot_is_free_exactly_when_its_job_has_ended(rig: Rig, replica: Replica) -> None:
    """A concurrency slot is held while the hold stands, through polls, repairs and dead trackers, and not longer."""
    rig.vendor.sandbox.faults.add(Fault(action="outcome", times=1))
    await rig.start()
    job = await rig.start()
    assert await free_slots(rig) == 98
    await rig.store.due.claim(limit=WINDOW, lease_s=LEASE_S)  # by a tracker that dies
    await rig.pass_time(100)
    await sweep(rig).repair()
    await replica.turn()
    assert await free_slots(rig) == 98
    await rig.pass_time(LONG_S)
    await replica.turn()
    assert await free_slots(rig) == 100
    assert (await rig.find(job)).state is JobState.COMPLETED


async def test_a_poll_that_takes_long_keeps_its_lease(rig: Rig) -> None:
    """While a poll is under way its lease is renewed, so that nobody else polls the job meanwhile."""
    clock = HandClock()
    slow, job = rig.replica(monotonic=clock), await rig.start()
    rig.vendor.sandbox.faults.add(Fault(action="hang", on=("status",)))
    await slow.tracker.round()
    for claimable in ([], [], [job.id]):
        clock.now += RENEW_S
        await rig.pass_time(LEASE_S - 1)
        if claimable:
            await slow.tracker.close(0)
        slow.tracker.renew()
        await slow.watchlist.flush()
        await rig.pass_time(2)
        claimed = await rig.store.due.claim(limit=WINDOW, lease_s=0)
        assert [entry.job_id for entry in claimed.entries] == claimable


async def test_the_clock_is_the_stores() -> None:
    """A process whose own clock is off by an hour computes ages by what Redis says."""
    moment = 50.0
    clock = StoreClock(monotonic=lambda: moment, wall=lambda: 3600.0)
    assert clock() == 3600.0
    clock.hear(7_200_000)
    moment = 60.0
    assert clock() == 7210.0


async def test_one_job_from_its_submission_to_its_end(rig: Rig, replica: Replica) -> None:
    """A Kling job costs the vendor about 54 polls, and its end is seen within 5 % of its length."""
    job, age_s = await rig.start(), FIRST_POLL_S
    await rig.pass_time(FIRST_POLL_S)
    while (wait_s := await replica.poller.poll(DueEntry(TENANT, job.id))) is not None:
        await rig.pass_time(wait_s)
        age_s += wait_s
    [accepted] = rig.vendor.sandbox.jobs
    assert 40 <= rig.polls(job)[0] <= 62
    assert rig.polls(job)[1] == 1
    assert age_s - accepted.total_s <= 0.05 * accepted.total_s
    assert (await rig.find(job)).state is JobState.COMPLETED
