"""Adjusting entries on Redis: one script, so that the same adjustment is booked once."""

from __future__ import annotations

from collections.abc import Mapping

from gateway.core.job import Job, JobState
from gateway.core.reconcile import Booked
from gateway.service.reconcile import ACTOR
from gateway.store import keys
from gateway.store.doubts import RedisDoubts
from gateway.store.records import encode_labels
from gateway.store.scripts import Script, Scripts


class RedisAdjustments:
    """`service.reconcile.Adjustments`. Raises `StoreUnavailable`."""

    def __init__(self, scripts: Scripts, library: Mapping[str, Script], doubts: RedisDoubts) -> None:
        self._scripts = scripts
        self._adjust = library["adjust"]
        self._doubts = doubts

    async def adjust(self, booked: Booked, target: int, *, at_ms: int = 0) -> bool:
        """See `Adjustments.adjust`."""
        t = booked.tenant
        names = [
            keys.job(t, booked.id), keys.budget(t), keys.ledger(t), keys.usage(t), keys.adjusted(t, booked.id),
            keys.upstream(t, booked.upstream_id or "-"), keys.tenant(t), keys.alerts(t),
        ]  # fmt: skip
        args: list[str | int] = [
            booked.id, booked.charged, target, booked.upstream_id, booked.model, booked.key_id, booked.state,
            ",".join(booked.windows), at_ms, ACTOR, encode_labels(booked.labels),
        ]  # fmt: skip
        return bool(await self._scripts.run(self._adjust, names, args))

    async def claim(self, booked: Booked) -> bool:
        """See `Adjustments.claim`."""
        owner = Job(
            id=booked.id,
            tenant=booked.tenant,
            key_id="",
            model=booked.model,
            kind="async",
            state=JobState.COMPLETED,
            hold=0,
            created_ms=0,
        )
        return await self._doubts.claim(booked.upstream_id, owner)
