from __future__ import annotations

import asyncio

import pytest
from support.ledger import Store
from support.ports import Ports

from gateway.core.learning import KEPT_JOBS, Observed
from gateway.store import keys
from gateway.store.learned import KEPT_MODELS

REAL = pytest.mark.parametrize("store", ["single", "cluster"], indirect=True)


async def test_what_was_noted_is_read(store: Ports) -> None:
    """Costs and durations come back by model, newest first; what was not known is left out."""
    assert await store.experience.read() == {}
    await store.experience.add("kling-2.6", cost=10**15, duration_ms=425_000)
    await store.experience.add("kling-2.6", cost=7, duration_ms=None)
    await store.experience.add("workflows/mine", cost=None, duration_ms=3_000)
    assert await store.experience.read() == {
        "kling-2.6": Observed([7, 10**15], [425_000]),
        "workflows/mine": Observed([], [3_000]),
    }


async def test_only_the_last_jobs_are_remembered(store: Ports) -> None:
    """Whoever notes them, the last hundred jobs of a model are kept."""
    await asyncio.gather(*(store.experience.add("m", cost=1, duration_ms=1) for _ in range(KEPT_JOBS)))
    for cost in range(10):
        await store.experience.add("m", cost=cost, duration_ms=None)
    seen = (await store.experience.read())["m"]
    assert list(seen.costs[:10]) == list(reversed(range(10)))
    assert (len(seen.costs), len(seen.durations_ms)) == (KEPT_JOBS, KEPT_JOBS - 10)


@REAL
async def test_only_so_many_models_are_remembered(store: Store) -> None:
    """Models beyond the bound teach nothing; those that are known go on."""
    for number in range(KEPT_MODELS):
        await store.client.hset(keys.LEARNED, f"model-{number}", "1:1")
    await store.experience.add("one-more", cost=1, duration_ms=1)
    await store.experience.add("model-0", cost=2, duration_ms=2)
    seen = await store.experience.read()
    assert len(seen) == KEPT_MODELS
    assert "one-more" not in seen
    assert list(seen["model-0"].costs) == [2, 1]
