"""Clients of the store for tests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from gateway.store.connect import RedisClient, open_redis
from gateway.store.scripts import Scripts


@asynccontextmanager
async def opened(
    url: str, *, read_timeout_s: float = 5, max_connections: int = 8, pool_wait_s: float = 5
) -> AsyncIterator[RedisClient]:
    """Open a client that is patient unless a test says otherwise."""
    client = open_redis(
        url,
        connect_timeout_s=2,
        read_timeout_s=read_timeout_s,
        max_connections=max_connections,
        pool_wait_s=pool_wait_s,
    )
    try:
        yield client
    finally:
        await client.aclose()


def scripts_on(client: RedisClient) -> Scripts:
    """Give the scripts more time than a busy machine ever takes."""
    return Scripts(client, deadline_s=20)
