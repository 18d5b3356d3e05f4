"""What keeps promises when a process dies: heartbeats, orphaned sends, and the walk over all active jobs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any

from gateway.core.queue import ActiveJob, DueEntry, Standing
from gateway.store import keys
from gateway.store.connect import RedisClient, store_errors

_TENANTS_A_TRIP = 100
SENDING_MAX_S = 3600.0
"""No call takes this long unless the settings allow it, and one that does is still settled by its own process."""


class RedisSweeper:
    """`core.ports.Sweeper`. Raises `StoreUnavailable`.

    Args:
        client: From `store.connect.open_redis`.
        sending_max_s: Seconds for which a living process may be sending a job.
    """

    def __init__(self, client: RedisClient, *, sending_max_s: float = SENDING_MAX_S) -> None:
        self._client = client
        self._sending_max_s = sending_max_s

    async def beat(self, owner: str, *, ttl_s: float) -> None:
        """See `Sweeper.beat`."""
        with store_errors():
            await self._client.set(keys.beat(owner), b"1", px=round(ttl_s * 1000))

    async def turn(self, name: str, *, ttl_s: float) -> bool:
        """See `Sweeper.turn`."""
        # A little shorter than the period, so that the process that had the last turn may have the next.
        turn, for_ms = keys.turn(name), round(ttl_s * 900)
        with store_errors():
            if await self._client.set(turn, b"1", nx=True, px=for_ms):
                return True
            # A turn that has longer to go than any was taken before Redis's clock was set back.
            if await self._client.pttl(turn) <= for_ms:
                return False
            return bool(await self._client.set(turn, b"1", xx=True, px=for_ms))

    async def orphans(self) -> list[DueEntry]:
        """See `Sweeper.orphans`."""
        sends = [
            (tenant, job_id.decode(), owner.decode())
            async for tenants, replies in self._walk(lambda trip, tenant: trip.hgetall(keys.sending(tenant)))
            for tenant, reply in zip(tenants, replies, strict=True)
            for job_id, owner in reply.items()
        ]
        owners = {owner for *_, owner in sends} - {keys.UNKNOWN_OWNER}
        with store_errors():
            dead = {owner for owner in owners if not await self._client.exists(keys.beat(owner))}
        found = [DueEntry(tenant, job_id) for tenant, job_id, owner in sends if owner in dead]
        living = [DueEntry(tenant, job_id) for tenant, job_id, owner in sends if owner in owners - dead]
        return [*found, *await self._sent_for_too_long(living)]

    async def _sent_for_too_long(self, sends: Sequence[DueEntry]) -> list[DueEntry]:
        """Go by Redis's clock alone: by that of one machine a send of another would be old as soon as it begins."""
        if not sends:
            return []
        with store_errors():
            seconds, _ = await self._client.time()
            pipeline = self._client.pipeline(transaction=False)
            for entry in sends:
                pipeline.zscore(keys.active(entry.tenant), entry.job_id)
            created = await pipeline.execute()
        before_ms = (seconds - self._sending_max_s) * 1000
        return [entry for entry, at_ms in zip(sends, created, strict=True) if at_ms is not None and at_ms < before_ms]

    async def active(self) -> AsyncIterator[Sequence[ActiveJob]]:
        """See `Sweeper.active`."""
        walk = self._walk(lambda trip, tenant: trip.zrange(keys.active(tenant), 0, -1, withscores=True))
        async for tenants, replies in walk:
            yield [
                ActiveJob(tenant, job_id.decode(), int(created_ms))
                for tenant, reply in zip(tenants, replies, strict=True)
                for job_id, created_ms in reply
            ]

    async def standings(self) -> AsyncIterator[Sequence[Standing]]:
        """See `Sweeper.standings`."""

        def ask(trip: Any, tenant: str) -> None:  # noqa: ANN401  # one pipeline or the other of redis-py
            trip.zcard(keys.active(tenant))
            trip.hvals(keys.sending(tenant))

        async for tenants, replies in self._walk(ask):
            yield [
                _standing(tenant, active, [_text(owner) for owner in owners])
                for tenant, active, owners in zip(tenants, replies[::2], replies[1::2], strict=True)
            ]

    async def positions(self) -> Mapping[str, int]:
        """Read the number of each tenant's last ledger entry."""
        walk = self._walk(lambda trip, tenant: trip.hget(keys.budget(tenant), "seq"))
        found: dict[str, int] = {}
        async for tenants, replies in walk:
            found |= {tenant: int(seq) for tenant, seq in zip(tenants, replies, strict=True) if seq}
        return found

    async def owing(self) -> AsyncIterator[Sequence[str]]:
        """See `Sweeper.owing`."""
        async for tenants, counts in self._walk(lambda trip, tenant: trip.zcard(keys.owed(tenant))):
            yield [tenant for tenant, count in zip(tenants, counts, strict=True) if count]

    async def _walk(self, ask: Callable[[Any, str], object]) -> AsyncIterator[tuple[list[str], list[Any]]]:
        """Ask something of every tenant, many tenants a trip."""
        with store_errors():
            tenants = sorted(_text(t) for t in await self._client.smembers(keys.TENANTS))
            for at in range(0, len(tenants), _TENANTS_A_TRIP):
                some = tenants[at : at + _TENANTS_A_TRIP]
                pipeline = self._client.pipeline(transaction=False)
                for tenant in some:
                    ask(pipeline, tenant)
                yield some, await pipeline.execute()


def _standing(tenant: str, active: int, owners: Sequence[str]) -> Standing:
    unknown = owners.count(keys.UNKNOWN_OWNER)
    return Standing(tenant, active, len(owners) - unknown, unknown)


def _text(value: bytes | str) -> str:
    """Read a reply; redis-py types it as either, though ours are always bytes."""
    return value.decode() if isinstance(value, bytes) else value
