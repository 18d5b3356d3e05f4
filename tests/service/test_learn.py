from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from support.tracking import Replica, Rig
from support.vendor import KLING

from gateway.core.job import Job, JobState
from gateway.core.learning import LEAST_COSTS
from gateway.core.queue import DueEntry

PRICE = 941_500_000


async def note(rig: Rig, count: int = 1, **changes: Any) -> None:  # noqa: ANN401  # fields of Job
    """Note jobs of one and a half times the price that took 300 s, unless the changes say otherwise."""
    job = Job(
        id="j", tenant="team", key_id="k", model=KLING, kind="async", state=JobState.COMPLETED, hold=PRICE,
        created_ms=0, confirmed_ms=295_000, finished_ms=300_000, cost=PRICE * 3 // 2,
    )  # fmt: skip
    job = replace(job, **changes)
    for _ in range(count):
        await rig.learner.note(job, job)
    await rig.learner.refresh()


async def test_the_rules_go_by_what_was_learned(rig: Rig) -> None:
    """Once enough jobs cost more, holds do too, and the list of models shows price and latency as they are expected."""
    await note(rig, LEAST_COSTS)
    [listed] = [model for model in rig.rules.models() if model.slug == KLING]
    assert rig.rules.estimate(KLING) == listed.price_nano == PRICE * 3 // 2
    assert rig.rules.expected_latency_s(KLING) == listed.expected_latency_s == pytest.approx(402.67, abs=0.01)


async def test_a_model_without_a_price_is_held_at_what_it_costs(rig: Rig) -> None:
    """A model that the catalogue does not know starts at the policy's hold, and is raised likewise."""
    assert rig.rules.estimate("my-own") == 10**9
    await note(rig, LEAST_COSTS, model="my-own", cost=2 * 10**9)
    assert rig.rules.estimate("my-own") == 2 * 10**9


@pytest.mark.parametrize(
    ("changes", "teaches"),
    [
        ({}, (1, 1)),
        ({"estimated": True}, (0, 1)),
        ({"kind": "sync"}, (1, 0)),
        ({"confirmed_ms": 200_000}, (1, 0)),
        ({"confirmed_ms": None, "estimated": True}, (0, 0)),
    ],
    ids=["usual", "estimated", "sync", "nobody looked", "nothing"],
)
async def test_what_teaches(rig: Rig, changes: dict[str, Any], teaches: tuple[int, int]) -> None:
    """Only real costs, and durations of jobs whose end was seen soon after it came, are learned from."""
    await note(rig, **changes)
    seen = rig.rules._seen.get(KLING)
    assert (len(seen.costs), len(seen.durations_ms)) == teaches if seen else teaches == (0, 0)


async def test_jobs_that_complete_teach(rig: Rig, replica: Replica) -> None:
    """Each job that the tracker ends is noted, once; one that FAILED is not."""
    job = await rig.start()
    await replica.poller.poll(DueEntry(job.tenant, job.id))
    await rig.pass_time(15)
    rig.vendor_clock.now += 620
    for _ in range(2):
        await replica.poller.poll(DueEntry(job.tenant, job.id))
    await rig.learner.refresh()
    seen = rig.rules._seen[KLING]
    assert list(seen.costs) == [(await rig.find(job)).cost]
    assert [15 <= took_ms / 1000 < 30 for took_ms in seen.durations_ms] == [True]
