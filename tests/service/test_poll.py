from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, Literal

import pytest
from pydantic import JsonValue
from support.ledger import CREDIT, assert_audited
from support.tracking import TENANT, Replica, Rig

from gateway.core.job import Job, JobState, new_job_id
from gateway.core.movements import Release, Settlement
from gateway.core.queue import DueEntry
from gateway.core.schedule import FAILURE_MIN_S, VENDOR_TTL_S
from gateway.core.vendor import CallContext, VendorState
from gateway.sandbox import Fault
from gateway.service.missing import CONFIRM_S, COUNTED_FROM_S, MANY
from gateway.service.poll import SENDING_RETRY_S, UNKNOWN_RETRY_S
from gateway.upstream.client import SegmindUpstream

HOLD = 941_500_000
LONG_S = 620.0
"""Longer than a Kling job ever takes."""


NO_HISTORY = Fault(action="respond", on=("history",), status=500, body={"error": "no"})


def entry(job: Job, late_s: float = 0.0) -> DueEntry:
    """Make a job's entry in the due queue."""
    return DueEntry(job.tenant, job.id, -late_s)


async def test_a_running_job_is_confirmed_and_polled_again(rig: Rig, replica: Replica) -> None:
    """While the vendor works, its word is recorded with the time, and the next poll comes by the schedule."""
    job = await rig.start()
    await rig.pass_time(100)
    wait_s = await replica.poller.poll(entry(job))
    seen = await rig.find(job)
    assert wait_s == pytest.approx(15, rel=0.1)
    assert (seen.state, seen.vendor_status) == (JobState.ACCEPTED, "PROCESSING")
    assert seen.confirmed_ms is not None
    assert seen.confirmed_ms - seen.created_ms >= 100_000
    assert rig.polls(job) == (1, 0)


async def test_a_completed_job_is_charged_and_its_result_kept(rig: Rig, replica: Replica) -> None:
    """At COMPLETED the result is fetched once, kept with the tenant's own balance, and the real cost charged."""
    job = await rig.start()
    await rig.pass_time(LONG_S)
    assert await replica.poller.poll(entry(job)) is None
    [accepted] = rig.vendor.sandbox.jobs
    seen, kept = await rig.find(job), await rig.store.jobs.kept(TENANT, job.id)
    assert (seen.state, seen.has_result) == (JobState.COMPLETED, True)
    assert abs((seen.cost or 0) - int(accepted.billed * CREDIT)) <= 1
    assert await rig.money() == (seen.cost, 0)
    assert kept is not None
    assert b'"status":"COMPLETED"' in kept.body.replace(b" ", b"")
    assert rig.polls(job) == (1, 1)
    assert [(ended.state, ended.cost) for ended in rig.ended()] == [("COMPLETED", seen.cost)]


async def test_a_job_without_a_record_is_told_and_polled_no_more(rig: Rig, replica: Replica) -> None:
    """What is due and not on record was lost by the store, with what it cost: a person hears of it, by its id."""
    assert await replica.poller.poll(DueEntry(TENANT, new_job_id())) is None
    assert rig.alerts() == ["job.record_lost"]
    assert not rig.vendor.sandbox.calls


async def test_polling_again_changes_nothing(rig: Rig, replica: Replica) -> None:
    """A job that has ended asks for no further poll, does not reach the vendor, and is reported once."""
    job = await rig.start()
    await rig.pass_time(LONG_S)
    await replica.poller.poll(entry(job))
    money = await rig.money()
    assert await replica.poller.poll(entry(job)) is None
    assert (await rig.money(), rig.polls(job), len(rig.ended())) == (money, (1, 1), 1)


async def test_two_processes_that_poll_at_once_settle_once(rig: Rig) -> None:
    """When a tracker paused past its lease, both poll: one settles, and the other's settlement is a no-op."""
    job = await rig.start()
    await rig.pass_time(LONG_S)
    await asyncio.gather(*(rig.replica().poller.poll(entry(job)) for _ in range(4)))
    seen = await rig.find(job)
    assert await rig.money() == (seen.cost, 0)
    assert len(rig.ended()) == 1
    assert rig.alerts() == []


async def test_a_failed_job_is_released_once(rig: Rig, replica: Replica) -> None:
    """FAILED gives the hold back; whatever the vendor says later, the failure stays as it was."""
    rig.vendor.sandbox.faults.add(Fault(action="outcome", message="blocked", times=1))
    job = await rig.start()
    await rig.pass_time(LONG_S)
    for _ in range(2):
        assert await replica.poller.poll(entry(job)) is None
    seen = await rig.find(job)
    assert (seen.state, seen.reason) == (JobState.FAILED, "blocked")
    assert await rig.money() == (0, 0)
    assert len(rig.ended()) == 1


async def test_words_out_of_order_take_nothing_back(rig: Rig, replica: Replica) -> None:
    """An older word after a newer one leaves the job PROCESSING; a result that reads older is asked for again."""
    faults = rig.vendor.sandbox.faults
    job = await rig.start()
    await rig.pass_time(100)
    await replica.poller.poll(entry(job))
    faults.add(Fault(action="regress", on=("status",), times=1))
    await replica.poller.poll(entry(job))
    assert (await rig.find(job)).vendor_status == "PROCESSING"
    await rig.pass_time(LONG_S)
    faults.add(Fault(action="regress", on=("result",), times=1))
    assert await replica.poller.poll(entry(job)) is not None
    assert (await rig.find(job)).state is JobState.ACCEPTED
    assert await replica.poller.poll(entry(job)) is None
    assert (await rig.find(job)).has_result


async def test_a_job_that_the_vendor_denies_twice_has_expired(rig: Rig, replica: Replica) -> None:
    """After a minute, a 404 is confirmed some seconds later; then the hold is charged, with an alert, once."""
    job = await rig.start()
    rig.vendor.sandbox.faults.add(Fault(action="not_found", on=("status",)), NO_HISTORY)
    assert await replica.poller.poll(entry(job)) == FAILURE_MIN_S
    assert (await rig.find(job)).missing_ms is None
    await rig.pass_time(COUNTED_FROM_S)
    for _ in range(2):
        assert await replica.poller.poll(entry(job)) == CONFIRM_S
    assert (await rig.find(job)).state is JobState.ACCEPTED
    await rig.pass_time(CONFIRM_S)
    for _ in range(2):
        assert await replica.poller.poll(entry(job)) is None
    seen = await rig.find(job)
    assert (seen.state, seen.cost, seen.estimated) == (JobState.EXPIRED, HOLD, True)
    assert await rig.money() == (HOLD, 0)
    assert rig.alerts() == ["job.expired"]


class Slow:
    """The vendor's client; while a status is on its way, something happens."""

    def __init__(self, upstream: SegmindUpstream, meanwhile: Callable[[], Awaitable[object]]) -> None:
        self._upstream = upstream
        self._meanwhile = meanwhile

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 the whole client, passed on
        return getattr(self._upstream, name)

    async def status(self, upstream_id: str, context: CallContext) -> VendorState:
        """See `Upstream.status`."""
        said = await self._upstream.status(upstream_id, context)
        await self._meanwhile()
        return said


@pytest.mark.parametrize("ended_by", ["tracker", "charge", "release"])
async def test_a_late_404_ends_no_job_again(rig: Rig, replica: Replica, ended_by: str) -> None:
    """A process paused past its lease hears its 404 when another, or an operator, has ended the job: a no-op."""
    job = await rig.start()
    rig.vendor.sandbox.faults.add(Fault(action="not_found", on=("status",)), NO_HISTORY)
    await rig.pass_time(COUNTED_FROM_S)
    await replica.poller.poll(entry(job))
    await rig.pass_time(CONFIRM_S)
    charge = Settlement(tenant=TENANT, job_id=job.id, state=JobState.EXPIRED, cost=5, actor="operator")
    release = Release(tenant=TENANT, job_id=job.id, state=JobState.FAILED, reason="", actor="operator")
    ends: dict[str, Callable[[], Awaitable[object]]] = {
        "tracker": lambda: replica.poller.poll(entry(job)),
        "charge": lambda: rig.store.ledger.settle(charge),
        "release": lambda: rig.store.ledger.release(release),
    }
    late = rig.replica(upstream=Slow(rig.upstream, ends[ended_by]))
    assert await late.poller.poll(entry(job)) is None
    seen = await rig.find(job)
    assert seen.state is (JobState.FAILED if ended_by == "release" else JobState.EXPIRED)
    assert await rig.money() == ({"tracker": HOLD, "charge": 5, "release": 0}[ended_by], 0)
    assert len(rig.alerts()) == (ended_by == "tracker")
    await assert_audited(rig.store.client)


@pytest.mark.parametrize(
    ("outcome", "state"), [("COMPLETED", JobState.EXPIRED), ("FAILED", JobState.FAILED), ("PROCESSING", None)]
)
async def test_the_history_tells_what_a_denied_job_cost(
    rig: Rig, replica: Replica, outcome: Literal["COMPLETED", "FAILED", "PROCESSING"], state: JobState | None
) -> None:
    """What the history lists as COMPLETED is charged at its real cost, FAILED is released, PENDING goes on."""
    faults = rig.vendor.sandbox.faults
    rig.vendor_clock.now = time.time()  # the history is asked by Redis's days
    faults.add(Fault(action="outcome", outcome=outcome), Fault(action="not_found", on=("status",)))
    job = await rig.start()
    await rig.pass_time(LONG_S)
    assert await replica.poller.poll(entry(job)) == CONFIRM_S
    await rig.pass_time(CONFIRM_S)
    assert await replica.poller.poll(entry(job)) == (None if state else UNKNOWN_RETRY_S)
    seen = await rig.find(job)
    [accepted] = rig.vendor.sandbox.jobs
    assert seen.state is (state or JobState.ACCEPTED)
    billed = round(accepted.billed * CREDIT)
    assert await rig.money() == ((billed, 0) if state else (0, HOLD))
    assert seen.estimated is False


async def test_a_vendor_that_denies_many_jobs_expires_none(rig: Rig, replica: Replica) -> None:
    """While the vendor denies most jobs none of them is given up, until its hour is over for one."""
    jobs = [await rig.start() for _ in range(MANY)]
    rig.vendor.sandbox.faults.add(Fault(action="not_found", on=("status",)), NO_HISTORY)
    await rig.pass_time(COUNTED_FROM_S)
    for _ in range(3):
        assert {await replica.poller.poll(entry(job)) for job in jobs} == {CONFIRM_S}
        await rig.pass_time(CONFIRM_S)
    assert await rig.money() == (0, MANY * HOLD)
    await rig.pass_time(VENDOR_TTL_S)
    assert {await replica.poller.poll(entry(job)) for job in jobs} == {None}
    assert await rig.money() == (MANY * HOLD, 0)


async def test_a_single_404_is_forgotten(rig: Rig, replica: Replica) -> None:
    """A job that the vendor knows again is not expired by an older denial."""
    job = await rig.start()
    faults = rig.vendor.sandbox.faults
    await rig.pass_time(COUNTED_FROM_S)
    for _ in range(2):
        faults.replace([Fault(action="not_found", on=("status",))])
        assert await replica.poller.poll(entry(job)) == CONFIRM_S
        faults.replace(())
        await rig.pass_time(CONFIRM_S)
        assert await replica.poller.poll(entry(job)) is not None
    assert (await rig.find(job)).missing_ms is None


async def test_overdue_is_told_twice_in_all(rig: Rig, replica: Replica) -> None:
    """A job that never ends is told of at three times the expected latency and at 50 minutes; its hold stays."""
    rig.vendor.sandbox.faults.add(Fault(action="outcome", outcome="PROCESSING"))
    job = await rig.start()
    told = []
    for seconds in (1800, 100, 100, 900, 200, 300):
        await rig.pass_time(seconds)
        for _ in range(2):
            await asyncio.gather(replica.poller.poll(entry(job)), rig.replica().poller.poll(entry(job)))
        told.append(len(rig.alerts()))
    assert told == [0, 1, 1, 1, 2, 2]
    assert set(rig.alerts()) == {"job.overdue"}
    assert await rig.money() == (0, HOLD)


@pytest.mark.parametrize("reported", ["missing", "-1", "NaN", "1e400"])
async def test_a_cost_that_makes_no_sense(rig: Rig, replica: Replica, reported: str) -> None:
    """The hold is charged, flagged as an estimate, with an alert; such a cost teaches nothing."""
    rig.vendor.sandbox.faults.add(Fault(action="cost", cost=reported))
    job = await rig.start()
    await rig.pass_time(LONG_S)
    await replica.poller.poll(entry(job))
    seen = await rig.find(job)
    assert (seen.state, seen.cost, seen.estimated) == (JobState.COMPLETED, HOLD, True)
    assert rig.alerts() == ["job.cost_estimated"]
    await rig.learner.refresh()
    assert rig.rules.estimate(job.model) == HOLD


async def test_a_cost_above_the_hold_is_charged_in_full(rig: Rig, replica: Replica) -> None:
    """One and a half times the hold is an overrun, recorded and reported."""
    rig.vendor.sandbox.faults.add(Fault(action="cost", cost="1.5x"))
    job = await rig.start(hold=HOLD // 2)
    await rig.pass_time(LONG_S)
    await replica.poller.poll(entry(job))
    [ended] = rig.ended()
    assert ended.cost > HOLD
    assert ended.overrun == ended.cost - HOLD // 2
    assert await rig.money() == (ended.cost, 0)


async def test_a_result_that_is_too_large_is_charged_by_its_status(rig: Rig, replica: Replica) -> None:
    """A result beyond 8 MiB is not kept: the job is charged what its status tells, and someone is told."""
    job = await rig.start()
    await rig.pass_time(LONG_S)
    rig.vendor.sandbox.faults.add(Fault(action="body", on=("result",), size_bytes=9 * 2**20, after=True))
    assert await replica.poller.poll(entry(job)) is None
    seen = await rig.find(job)
    assert (seen.state, seen.estimated, seen.has_result) == (JobState.COMPLETED, False, False)
    assert rig.alerts() == ["job.result_lost"]


async def test_a_result_that_tells_no_cost_is_charged_by_its_status(rig: Rig, replica: Replica) -> None:
    """What the status said that the job cost is charged, where the result then says nothing of it."""
    job = await rig.start()
    await rig.pass_time(LONG_S)
    silent: dict[str, JsonValue] = {"status": "COMPLETED", "output": "https://cdn.segmind.test/a.mp4"}
    rig.vendor.sandbox.faults.add(Fault(action="respond", on=("result",), status=200, body=silent))
    assert await replica.poller.poll(entry(job)) is None
    seen, [accepted] = await rig.find(job), rig.vendor.sandbox.jobs
    assert (seen.state, seen.estimated, seen.has_result) == (JobState.COMPLETED, False, True)
    assert abs((seen.cost or 0) - int(accepted.billed * CREDIT)) <= 1


async def test_a_result_that_can_not_be_fetched_is_asked_for_until_the_hour_ends(rig: Rig, replica: Replica) -> None:
    """While the vendor has the result the job waits for it; a minute before it is dropped, the cost is charged."""
    job = await rig.start()
    await rig.pass_time(LONG_S)
    rig.vendor.sandbox.faults.add(Fault(action="drop", on=("result",)))
    assert await replica.poller.poll(entry(job)) is not None
    await rig.pass_time(VENDOR_TTL_S - 100 - LONG_S)
    assert await replica.poller.poll(entry(job)) is not None
    assert (await rig.find(job)).state is JobState.ACCEPTED
    await rig.pass_time(50)
    assert await replica.poller.poll(entry(job)) is None
    seen = await rig.find(job)
    assert (seen.state, seen.estimated, seen.has_result) == (JobState.COMPLETED, False, False)
    assert rig.alerts() == ["job.result_lost"]


async def test_polls_that_fail_back_off(rig: Rig, replica: Replica) -> None:
    """The longer nothing was heard of a job, the longer until it is asked for again."""
    job = await rig.start()
    rig.vendor.sandbox.faults.add(Fault(action="drop", on=("status",)))
    waits = []
    for seconds in (10, 20, 40, 1000):
        await rig.pass_time(seconds)
        waits.append(await replica.poller.poll(entry(job)))
    assert waits == [pytest.approx(wait_s, abs=1, rel=0.11) for wait_s in (5, 15, 35, 60)]
    assert await rig.money() == (0, HOLD)


async def test_a_job_without_a_vendors_id_is_left_alone(rig: Rig, replica: Replica) -> None:
    """Nothing is asked of the vendor for a job that is being sent or whose outcome is unknown; it keeps its slot."""
    job = await rig.start()
    name = f"{{{TENANT}}}:job:{job.id}"
    waits = []
    for state in ("SENDING", "UNKNOWN"):
        await rig.store.client.hset(name, "state", state)
        waits.append(await replica.poller.poll(entry(job)))
    assert waits == [SENDING_RETRY_S, UNKNOWN_RETRY_S]
    assert rig.polls(job) == (0, 0)
    await rig.store.client.hset(name, "state", "ACCEPTED")
