"""Refusals counted: what admission turned away goes into the usage some seconds later, many in one write.

A refused call writes nothing, so that a flood of them costs the store nothing. Hence the counts are nearly exact: those
of the last seconds are lost with a process that is killed, and those of a write whose answer was lost may be too.
"""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Final, Protocol

from gateway.core.events import Event, HttpRequest
from gateway.core.ports import Sink
from gateway.errors import StoreUnavailable
from gateway.service.usage import Refused

FLUSH_S: Final = 5.0
MOST: Final = 10_000
"""Different refusals that are remembered between two writes."""
OTHER_MODELS: Final = "other"
"""As the store names the models of a period that has as many rows as it may have."""
_SERVER_ERROR: Final = 500


class RefusalStore(Protocol):
    """Where refusals are counted."""

    async def count_refused(self, tenant: str, refused: Mapping[Refused, int]) -> None:
        """Add to today's usage; not to be repeated. Raises `StoreUnavailable`."""


class RefusalCount:
    """A sink that hands every event on, and counts the requests for jobs that were refused before there was a job.

    Args:
        known_model: Tells whether the catalogue has a model. Made-up ones are counted together: else a caller could use
            up the rows that a tenant's usage may have, at no cost.
    """

    def __init__(
        self,
        store: RefusalStore,
        sink: Sink,
        known_model: Callable[[str], bool],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._store = store
        self._sink = sink
        self._known_model = known_model
        self._sleep = sleep
        self._counts: Counter[tuple[str, Refused]] = Counter()

    def __call__(self, event: Event) -> None:
        """Take one event."""
        self._sink(event)
        if isinstance(event, HttpRequest) and event.code and _is_refusal(event):
            model = event.model if self._known_model(event.model) else OTHER_MODELS
            what = (event.tenant, Refused(event.key_id, model, event.code))
            if what in self._counts or len(self._counts) < MOST:
                self._counts[what] += 1

    async def run(self) -> None:
        """Write until cancelled."""
        while True:
            await self._sleep(FLUSH_S)
            await self.flush()

    async def flush(self) -> None:
        """Write what was counted; what the store does not confirm is not written again."""
        counts, self._counts = self._counts, Counter()
        by_tenant: defaultdict[str, dict[Refused, int]] = defaultdict(dict)
        for (tenant, what), count in counts.items():
            by_tenant[tenant][what] = count
        with suppress(StoreUnavailable):
            for tenant, refused in by_tenant.items():
                await self._store.count_refused(tenant, refused)


def _is_refusal(event: HttpRequest) -> bool:
    """Tell a refused request for a job from those that got a job, and from those whose caller or model is not known."""
    named = event.tenant and event.model and event.method == "POST"
    return bool(named) and not event.job_id and event.status < _SERVER_ERROR
