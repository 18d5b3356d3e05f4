"""The store as `service.storewatch` looks at it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gateway.store.connect import RedisClient, store_errors
from gateway.store.pool import FairSentinelPool
from gateway.store.readiness import check_store, note_rewound, read_epoch
from gateway.store.sweeper import RedisSweeper


class RedisWatched:
    """`service.storewatch.Watched`.

    Args:
        client: From `store.connect.open_redis`.
        sweeper: Walks the tenants.
        allow_volatile: Accept a server that may lose or evict data; for trials.
    """

    def __init__(self, client: RedisClient, sweeper: RedisSweeper, *, allow_volatile: bool) -> None:
        self._client = client
        self._sweeper = sweeper
        self._allow_volatile = allow_volatile

    async def epoch(self) -> str | None:
        """See `Watched.epoch`; of the primary that the sentinels name now."""
        pool = getattr(self._client, "connection_pool", None)
        if isinstance(pool, FairSentinelPool):
            with store_errors():
                await pool.follow()
        return await read_epoch(self._client)

    async def problems(self) -> Sequence[str]:
        """See `Watched.problems`."""
        return await check_store(self._client, allow_volatile=self._allow_volatile)

    async def positions(self) -> Mapping[str, int]:
        """See `Watched.positions`."""
        return await self._sweeper.positions()

    async def note_rewound(self, detail: str) -> None:
        """See `Watched.note_rewound`."""
        await note_rewound(self._client, detail)
