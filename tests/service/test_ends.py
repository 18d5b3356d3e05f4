from __future__ import annotations

from collections import deque
from contextlib import closing

import pytest
from support.memory_vendor import Plan
from support.memory_world import ROUND, World

from gateway.core.events import Alert, JobEnded
from gateway.core.job import JobKind, JobState
from gateway.core.policy import Policy


def taken_late(world: World) -> list[Alert]:
    """List the alerts of jobs that the vendor took after they had ended."""
    return [event for event in world.events if isinstance(event, Alert) and event.event == "job.taken_late"]


def test_the_end_of_a_job_is_told_once() -> None:
    """A refusal that comes after the job was given up on and released changes nothing, and tells nothing again."""
    with closing(World(Policy(unknown_after_s=15), budget=1000, slots=9)) as world:
        world.vendor.plans = deque([Plan(answer=500, parked=True)])
        world.ask(world.processes[0], "one", "async", None)
        for _ in range(4):
            world.pass_time(10)
            world.work(world.processes[1], *ROUND)
        assert [job.state for job in world.jobs()] == [JobState.REJECTED]
        world.release(0)
        assert len([event for event in world.events if isinstance(event, JobEnded)]) == 1


@pytest.mark.parametrize("kind", ["async", "sync"])
def test_a_job_that_the_vendor_takes_after_all(kind: JobKind) -> None:
    """An answer that comes when the job has been released, for want of any trace, is told with the vendor's id."""
    with closing(World(Policy(unknown_after_s=15), budget=1000, slots=9)) as world:
        world.vendor.plans = deque([Plan(parked=True, listed_s=600)])
        world.ask(world.processes[0], "one", kind, None)
        for _ in range(4):
            world.pass_time(10)
            world.work(world.processes[1], *ROUND)
        assert [job.state for job in world.jobs()] == [JobState.REJECTED]
        world.release(0)
        [taken] = world.vendor.jobs
        assert [alert.upstream_id for alert in taken_late(world)] == [taken.id]
        assert [job.state for job in world.jobs()] == [JobState.REJECTED]


@pytest.mark.parametrize("kind", ["async", "sync"])
def test_equal_jobs_that_have_each_others_ids_are_no_loss(kind: JobKind) -> None:
    """Which of two equal jobs the adopter gives which id is not known; the late answers change nothing."""
    with closing(World(Policy(unknown_after_s=120), budget=1000, slots=9)) as world:
        world.vendor.plans = deque([Plan(parked=True, runs_s=1), Plan(parked=True, runs_s=1)])
        for _ in range(2):
            world.ask(world.processes[0], "one", kind, None)
        for _ in range(5):
            world.pass_time(10)
            world.work(world.processes[1], *ROUND)
        assert {job.state for job in world.jobs()} == {JobState.COMPLETED}
        theirs = {job.job_id: job.id for job in world.vendor.jobs}
        assert any(theirs[job.id] != job.upstream_id for job in world.jobs())
        for number in range(2):
            world.release(number)
        assert taken_late(world) == []
