from __future__ import annotations

import asyncio

import pytest
from support.ledger import Store

from gateway.core.learning import KEPT_JOBS, Observed
from gateway.store import keys
from gateway.store.learned import KEPT_MODELS, RedisExperience
from gateway.store.scripts import load_scripts

pytestmark = pytest.mark.parametrize("store", ["single", "cluster"], indirect=True)


@pytest.fixture
def experience(store: Store) -> RedisExperience:
    """Give the adapter on an empty store."""
    return RedisExperience(store.client, store.scripts, load_scripts())


async def test_what_was_noted_is_read(experience: RedisExperience) -> None:
    """Costs and durations come back by model, newest first; what was not known is left out."""
    assert await experience.read() == {}
    await experience.add("kling-2.6", cost=10**15, duration_ms=425_000)
    await experience.add("kling-2.6", cost=7, duration_ms=None)
    await experience.add("workflows/mine", cost=None, duration_ms=3_000)
    assert await experience.read() == {
        "kling-2.6": Observed([7, 10**15], [425_000]),
        "workflows/mine": Observed([], [3_000]),
    }


async def test_only_the_last_jobs_are_remembered(experience: RedisExperience) -> None:
    """Whoever notes them, the last hundred jobs of a model are kept."""
    await asyncio.gather(*(experience.add("m", cost=1, duration_ms=1) for _ in range(KEPT_JOBS)))
    for cost in range(10):
        await experience.add("m", cost=cost, duration_ms=None)
    seen = (await experience.read())["m"]
    assert list(seen.costs[:10]) == list(reversed(range(10)))
    assert (len(seen.costs), len(seen.durations_ms)) == (KEPT_JOBS, KEPT_JOBS - 10)


async def test_only_so_many_models_are_remembered(store: Store, experience: RedisExperience) -> None:
    """Models beyond the bound teach nothing; those that are known go on."""
    for number in range(KEPT_MODELS):
        await store.client.hset(keys.LEARNED, f"model-{number}", "1:1")
    await experience.add("one-more", cost=1, duration_ms=1)
    await experience.add("model-0", cost=2, duration_ms=2)
    seen = await experience.read()
    assert len(seen) == KEPT_MODELS
    assert "one-more" not in seen
    assert list(seen["model-0"].costs) == [2, 1]
