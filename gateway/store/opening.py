"""Opens the store that the settings name: Redis by URL, or the embedded one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from gateway.config import Settings
from gateway.errors import StoreNotReady, StoreUnavailable
from gateway.store.connect import RedisClient, open_redis
from gateway.store.embedded import embedded_store, is_new
from gateway.store.readiness import check_store, ensure_epoch


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to wait for Redis, seconds, and on how many connections."""

    connect_s: float
    read_s: float
    connections: int


@asynccontextmanager
async def open_store(settings: Settings, patience: Patience | None = None) -> AsyncIterator[RedisClient]:
    """Open the store; a new embedded one is marked as a ledger, else it would be taken for one that was lost.

    Args:
        settings: Name the store.
        patience: Of a command, which waits longer than admission may; by default the settings' own.

    Raises:
        ConfigError: The URL or the data directory can't be used.
        StoreUnavailable: The embedded store did not start.
    """
    patience = patience or Patience(
        connect_s=settings.redis_connect_timeout_ms / 1000,
        read_s=settings.redis_timeout_ms / 1000,
        connections=settings.redis_connections,
    )
    async with AsyncExitStack() as stack:
        if settings.redis_url is not None:
            url, fresh = settings.redis_url.reveal(), False
        else:
            fresh = is_new(settings.data_dir)
            url = await stack.enter_async_context(embedded_store(settings.data_dir))
        client = open_redis(
            url,
            connect_timeout_s=patience.connect_s,
            read_timeout_s=patience.read_s,
            max_connections=patience.connections,
        )
        stack.push_async_callback(client.aclose)
        if fresh:
            await ensure_epoch(client)
        yield client


async def refuse_unfit(client: RedisClient, settings: Settings) -> None:
    """Refuse a Redis that would lose money; one that does not answer yet is waited for, unready.

    Raises:
        StoreNotReady: It may evict or forget; `GATEWAY_ALLOW_VOLATILE_REDIS` accepts that, for trials.
    """
    try:
        problems = await check_store(client, allow_volatile=settings.allow_volatile_redis)
    except StoreUnavailable:
        return
    if problems:
        raise StoreNotReady("; ".join(problems))
