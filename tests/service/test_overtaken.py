"""Decisions about an UNKNOWN job that another process has moved on between the look and the write."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from unittest.mock import patch

import pytest
from support.desk import Desk, desk_on
from support.ledger import CREDIT

from gateway.core.job import Job, JobState
from gateway.core.policy import Policy
from gateway.errors import Refused, UpstreamInvalidResponse
from gateway.store.doubts import RedisDoubts
from gateway.store.survey import RedisSurvey


@pytest.fixture
async def desk(redis_url: str) -> AsyncIterator[Desk]:
    """Put an adopter together; the ledger must add up at the end."""
    async with desk_on(redis_url, Policy(unknown_jobs="charge")) as ready:
        yield ready


async def test_policy_ends_no_job_that_was_adopted(desk: Desk) -> None:
    """What a slow look decides does not end a job that another process has found since."""
    job = await desk.doubted()
    desk.books.failure = UpstreamInvalidResponse("maintenance")
    await desk.at(900)
    desk.books.meanwhile = lambda: desk.store.ledger.adopt(job.tenant, job.id, "v1")
    await desk.at(1100)
    assert await desk.states(job) == [(JobState.ACCEPTED, "v1")]
    assert await desk.money() == (0, CREDIT)
    assert desk.alerts() == []


@pytest.mark.parametrize("work", ["charge", "release", "charge what runs"])
async def test_an_operator_ends_no_job_that_was_adopted(desk: Desk, work: str) -> None:
    """What an operator found out about an UNKNOWN job says nothing of one that is followed by now."""
    job = await desk.doubted()
    find = RedisSurvey.find

    async def overtaken(survey: RedisSurvey, job_id: str) -> Job | None:
        found = await find(survey, job_id)
        await desk.store.ledger.adopt(job.tenant, job.id, "v1")
        return found

    ways: dict[str, Any] = {
        "charge": lambda: desk.admin.charge(job.id, 1, "so"),
        "release": lambda: desk.admin.release(job.id, "so"),
        "charge what runs": lambda: desk.admin.charge(job.id, 1, "so", running=True),
    }
    with patch.object(RedisSurvey, "find", overtaken), pytest.raises(Refused, match="changed meanwhile"):
        await ways[work]()
    assert await desk.states(job) == [(JobState.ACCEPTED, "v1")]
    with pytest.raises(Refused, match="runs at the vendor as v1"):
        await desk.admin.release(job.id, "so")
    assert await desk.money() == (0, CREDIT)


async def test_a_row_that_was_claimed_is_adopted_once(desk: Desk) -> None:
    """Of two processes that both saw a row free, for equal jobs, the one that claimed it has it; the other waits."""
    one, two = await desk.doubted(), await desk.doubted(tenant="other")
    desk.row()
    traces = RedisDoubts.traces

    async def overtaken(doubts: RedisDoubts, *what: Any) -> Any:  # noqa: ANN401 what it takes and returns is passed on
        found = await traces(doubts, *what)
        assert await doubts.claim("v1", two)
        return found

    with patch.object(RedisDoubts, "traces", overtaken):
        await desk.at(10)
    assert await desk.states(one, two) == [(JobState.UNKNOWN, None), (JobState.UNKNOWN, None)]
    await desk.at(20)
    assert await desk.states(one, two) == [(JobState.UNKNOWN, None), (JobState.ACCEPTED, "v1")]
