from __future__ import annotations

from collections.abc import Iterator

import orjson
import pytest
from support.memory_world import HOLD, MODEL, World

from gateway.core.movements import Admitted
from gateway.core.policy import Policy
from gateway.service.outcomes import JobRequest, Rejected


@pytest.fixture
def world() -> Iterator[World]:
    """Give two processes and a vendor, in memory."""
    world = World(Policy(), budget=1000, slots=9)
    yield world
    world.close()


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
