from __future__ import annotations

import pytest
from support.shared_pace import SharedPace
from support.tracking import Replica, Rig
from support.vendor import HandClock

from gateway.catalogue.loader import load_catalogue
from gateway.core.policy import Policy
from gateway.errors import UpstreamHeldBack
from gateway.sandbox import Fault
from gateway.service.pace import Pace
from gateway.service.rules import Rules
from gateway.service.track import LOOK_S


def paced(shared: SharedPace, clock: HandClock, limit: int | None = 60) -> Pace:
    """Make what a process knows of the pace."""
    return Pace(shared, Rules(Policy(upstream_rpm=limit), load_catalogue()), clock)


async def test_without_a_limit_nobody_is_asked() -> None:
    """A submit costs no trip for a limit that is not set."""
    shared = SharedPace()
    await paced(shared, HandClock(), limit=None).take("team")
    assert shared.taken == []


async def test_who_was_refused_is_not_asked_for_again() -> None:
    """Until the time that a tenant was told, its submits are refused without a trip; the other tenants go on."""
    shared, clock = SharedPace(wait_s=2), HandClock()
    pace = paced(shared, clock)
    with pytest.raises(UpstreamHeldBack) as caught:
        await pace.take("team")
    assert (caught.value.code, caught.value.limited_by) == ("upstream_rate_limited", "gateway")
    held_back = pace.held_back("team")
    assert held_back is not None
    assert (held_back.retry_after_s, pace.held_back("other")) == (2, None)
    clock.now += 2
    await pace.refresh()
    assert pace.held_back("team") is None


async def test_a_store_that_is_away_lets_nothing_out() -> None:
    """Whether there is a place can't be known: the job is not sent. A 429 still holds this process back."""
    shared, clock = SharedPace(away=True), HandClock()
    pace = paced(shared, clock)
    with pytest.raises(UpstreamHeldBack) as caught:
        await pace.take("team")
    assert caught.value.code == "store_unavailable"
    await pace.limited("jobs", 30)
    assert pace.wait_s("jobs") == 30


async def test_refused_jobs_stop_no_polls() -> None:
    """A 429 to a poll stops jobs as well; one to a job stops jobs only: results must be fetched in time."""
    shared, clock = SharedPace(), HandClock()
    pace = paced(shared, clock)
    await pace.limited("jobs", 30)
    assert (pace.wait_s("jobs"), pace.wait_s("polls")) == (30, 0)
    await pace.limited("polls", 60)
    assert (pace.wait_s("jobs"), pace.wait_s("polls")) == (60, 60)
    assert shared.blocks == [("jobs", 30), ("polls", 60)]


async def test_one_tracker_is_refused_and_all_pause(rig: Rig, replica: Replica) -> None:
    """A 429 to one process's poll pauses the polls of the others, once they have looked, before they see one."""
    other = rig.replica()
    job = await rig.start()
    rig.vendor.sandbox.faults.add(Fault(action="respond", on=("status",), status=429, body={"error": "x"}))
    await replica.turn()
    assert rig.polls(job) == (1, 0)
    await rig.pass_time(600)
    assert other.pace.wait_s("polls") == 0
    await other.pace.refresh()
    assert other.pace.wait_s("polls") > 0
    assert await other.tracker.round() <= LOOK_S
    await other.tracker.close(5)
    assert rig.polls(job) == (1, 0)
