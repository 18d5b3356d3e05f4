"""What the last jobs of each model cost and took, in one hash that all processes share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gateway.core.learning import KEPT_JOBS, Observed
from gateway.store import keys
from gateway.store.connect import RedisClient, store_errors
from gateway.store.scripts import Script, Scripts

KEPT_MODELS = 256
"""Models that are remembered; a job of a further one teaches nothing."""


class RedisExperience:
    """`core.ports.Experience`. Raises `StoreUnavailable`."""

    def __init__(self, client: RedisClient, scripts: Scripts, library: Mapping[str, Script]) -> None:
        self._client = client
        self._scripts = scripts
        self._learn = library["learn"]

    async def add(self, model: str, *, cost: int | None, duration_ms: int | None) -> None:
        """See `Experience.add`."""
        word = f"{_text(cost)}:{_text(duration_ms)}"
        await self._scripts.run(self._learn, [keys.LEARNED], [model, word, KEPT_JOBS, KEPT_MODELS])

    async def read(self) -> dict[str, Observed]:
        """See `Experience.read`."""
        with store_errors():
            learned: dict[Any, Any] = await self._client.hgetall(keys.LEARNED)
        return {model.decode(): _observed(jobs.decode()) for model, jobs in learned.items()}


def _text(amount: int | None) -> str:
    return "" if amount is None else str(amount)


def _observed(jobs: str) -> Observed:
    pairs = [job.partition(":") for job in jobs.split(",")]
    return Observed(
        costs=[int(cost) for cost, _, _ in pairs if cost],
        durations_ms=[int(took) for _, _, took in pairs if took],
    )
