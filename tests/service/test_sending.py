from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Final

import orjson
import pytest
from support.memory_world import HOLD, MODEL, World

from gateway.catalogue.loader import load_catalogue
from gateway.core.events import Alert
from gateway.core.faultpoints import parse_faults
from gateway.core.job import JobState
from gateway.core.movements import Admitted
from gateway.core.policy import Policy
from gateway.service.outcomes import JobRequest, Rejected, Submitted, Uncertain
from gateway.service.sending import STALE_AFTER_S

SENDING: Final = 2
"""The call by which a job is sent, of those that a process makes for it; the first admits it."""
KINDS: Final = pytest.mark.parametrize("prompt", ["async", "sync"])


@pytest.fixture
def world() -> Iterator[World]:
    """Give two processes and a vendor, in memory."""
    with closing(World(Policy(), budget=1000, slots=9)) as world:
        yield world


def request(world: World) -> JobRequest:
    """Make a request of the first tenant."""
    params = {"prompt": "a lighthouse"}
    return JobRequest(
        credential=world.keys["one"], model=MODEL, body=orjson.dumps(params), params=params, headers={}, request_id="r"
    )


def test_a_quote_tells_what_a_submit_would_be_told(world: World) -> None:
    """A process that drains takes no submit, and its quotes say so; before that they tell the hold."""
    process = world.processes[0]
    quoted = world.do(process.submits.quote(request(world)))
    assert (isinstance(quoted, Admitted), quoted.job.hold) == (True, HOLD)
    world.do(process.drain())
    refused = world.do(process.submits.quote(request(world)))
    assert (isinstance(refused, Rejected), refused.code, refused.retry_after_s) == (True, "draining", 1)
    assert not world.jobs()


def stands_still(world: World, prompt: str, seconds: float) -> None:
    """Have a process stand still between the admission of a job and its POST, while the other one does its work."""
    process, other = world.processes
    process.border.arm(SENDING, "leave late")
    world.ask(process, "one", prompt, "key")
    end_s = world.now_s() + seconds
    while world.now_s() < end_s:
        world.pass_time(min(15, end_s - world.now_s()))
        world.work(other, "beat", "orphans", "adopt")


@KINDS
def test_what_was_admitted_too_long_ago_does_not_leave(world: World, prompt: str) -> None:
    """A process that stood still for too long sends nothing: the hold is released, and the key may be used again."""
    stands_still(world, prompt, STALE_AFTER_S + 1)
    assert [job.state for job in world.jobs()] == [JobState.UNKNOWN]
    world.resume(world.processes[0])
    (ask,) = world.asks
    assert isinstance(ask.outcome, Rejected)
    assert (ask.outcome.code, ask.outcome.limited_by, ask.outcome.retry_after_s) == ("overloaded", "gateway", 1)
    assert (world.vendor.jobs, [job.state for job in world.jobs()]) == ([], [JobState.REJECTED])

    world.send(world.processes[0], ask)
    assert len(world.vendor.jobs) == 1


@KINDS
def test_a_short_pause_does_no_harm(world: World, prompt: str) -> None:
    """A job that was given up on, but can't have been ended by anybody, is sent, and is found by its own process."""
    stands_still(world, prompt, STALE_AFTER_S)
    world.resume(world.processes[0])
    ((made,), (job,)) = world.vendor.jobs, world.jobs()
    assert job.upstream_id == made.id
    assert job.state is (JobState.COMPLETED if prompt == "sync" else JobState.ACCEPTED)


@KINDS
@pytest.mark.parametrize("readable", [True, False], ids=["by the evidence", "by policy"])
def test_a_job_that_was_ended_meanwhile_is_never_sent(world: World, prompt: str, readable: bool) -> None:
    """Whatever the fleet made of the job stays, once, and its caller hears of it; who is told to retry may do so."""
    world.vendor.readable = readable
    stands_still(world, prompt, 2 * world.policy.unknown_after_s)
    (ended,) = world.jobs()
    assert ended.state is (JobState.REJECTED if readable else JobState.EXPIRED)
    world.resume(world.processes[0])
    assert (world.vendor.jobs, world.jobs()) == ([], [ended])
    (ask,) = world.asks
    assert isinstance(ask.outcome, Rejected if readable else Submitted)
    world.send(world.processes[0], ask)
    assert len(world.vendor.jobs) == (1 if readable else 0)


@pytest.mark.parametrize("store", ["there", "away"])
def test_an_answer_that_can_not_be_recorded(store: str) -> None:
    """By a mistake of ours: the job is UNKNOWN at once, with its vendor's id in the alert, and is found and kept."""
    faults = parse_faults(f"submit.answered:{1 if store == 'there' else 2}:raise")
    with closing(World(Policy(), budget=1000, slots=9, faults=faults)) as world:
        process = world.processes[0]
        if store == "away":
            process.border.arm(SENDING + 1, "refuse")  # recorded by the second attempt, which makes the mistake
        world.ask(process, "one", "async", "key")
        world.work(process, "outbox")
        (made,), (job,), (ask,) = world.vendor.jobs, world.jobs(), world.asks
        assert (job.state, isinstance(ask.outcome, Uncertain)) == (JobState.UNKNOWN, True)
        alerts = [event for event in world.events if isinstance(event, Alert)]
        assert [(alert.event, alert.job_id, alert.upstream_id) for alert in alerts] == [
            ("job.unknown", job.id, made.id)
        ]
        assert "InjectedFault" in alerts[0].detail
        assert "faultpoints" not in (job.reason or "")
        world.pass_time(15)
        world.work(process, "adopt")
        ((adopted),) = world.jobs()
        assert (adopted.state, adopted.upstream_id) == (JobState.ACCEPTED, made.id)


def test_a_shorter_search_leaves_less_time(world: World) -> None:
    """Where a job may be released sooner, it must have left sooner."""
    world.rules.replace(Policy(unknown_after_s=40), load_catalogue())
    stands_still(world, "async", 21)
    world.resume(world.processes[0])
    assert world.vendor.jobs == []
