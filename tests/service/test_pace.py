from __future__ import annotations

import pytest
from support.memory import Memory
from support.memory_pacing import MemoryPacing
from support.tracking import Replica, Rig

from gateway.catalogue.loader import load_catalogue
from gateway.core.pacing import CallKind, Share
from gateway.core.policy import Policy
from gateway.errors import StoreUnavailable, UpstreamHeldBack
from gateway.sandbox import Fault
from gateway.service.pace import Pace
from gateway.service.rules import Rules
from gateway.service.track import LOOK_S


class Away(MemoryPacing):
    """A pace whose store can't be reached."""

    async def block(self, kind: CallKind, wait_s: float) -> None:
        """See `Pacing.block`."""
        del kind, wait_s
        raise StoreUnavailable("away")

    async def take(self, tenant: str, share: Share) -> float:
        """See `Pacing.take`."""
        del tenant, share
        raise StoreUnavailable("away")


def paced(shared: MemoryPacing, memory: Memory, limit: int | None = 60) -> Pace:
    """Make what a process knows of the pace."""
    rules = Rules(Policy(upstream_rpm=limit), load_catalogue())
    return Pace(shared, rules, lambda: memory.now_us / 1_000_000)


async def refusal(pace: Pace, tenant: str) -> UpstreamHeldBack:
    """Take places until there is none."""
    for _ in range(60):
        try:
            await pace.take(tenant)
        except UpstreamHeldBack as held_back:
            return held_back
    pytest.fail("nothing was ever refused")


async def test_without_a_limit_nobody_is_asked() -> None:
    """A submit costs no trip for a limit that is not set."""
    memory = Memory()
    await paced(Away(memory), memory, limit=None).take("team")


async def test_who_was_refused_is_not_asked_for_again() -> None:
    """Until the time that a tenant was told, its submits are refused without a trip; the other tenants go on."""
    memory = Memory()
    shared = MemoryPacing(memory)
    pace = paced(shared, memory)
    refused = await refusal(pace, "team")
    assert (refused.code, refused.limited_by) == ("upstream_rate_limited", "gateway")
    held_back = pace.held_back("team")
    assert held_back is not None
    assert held_back.retry_after_s == pytest.approx(refused.retry_after_s)
    assert pace.held_back("other") is None
    memory.pass_time(refused.retry_after_s)
    await pace.refresh()
    assert pace.held_back("team") is None


async def test_a_store_that_is_away_lets_nothing_out() -> None:
    """Whether there is a place can't be known: the job is not sent. A 429 still holds this process back."""
    memory = Memory()
    pace = paced(Away(memory), memory)
    assert (await refusal(pace, "team")).code == "store_unavailable"
    await pace.limited("jobs", 30)
    assert pace.wait_s("jobs") == 30


async def test_refused_jobs_stop_no_polls() -> None:
    """A 429 to a poll stops jobs as well; one to a job stops jobs only: results must be fetched in time."""
    memory = Memory()
    shared = MemoryPacing(memory)
    pace = paced(shared, memory)
    await pace.limited("jobs", 30)
    assert (pace.wait_s("jobs"), pace.wait_s("polls")) == (30, 0)
    await pace.limited("polls", 60)
    assert (pace.wait_s("jobs"), pace.wait_s("polls")) == (60, 60)
    assert (await shared.pressure()).blocked_s == {"jobs": 30, "polls": 60}


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
