"""A store for each test: the gateway's own adapters on a real server, or on a cluster where a test asks for both."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from redis.asyncio import RedisCluster
from support.ledger import CLOCK_START_US, Store, clocked, open_store, set_clock

from gateway.store.readiness import ensure_epoch
from gateway.store.scripts import load_scripts


@pytest.fixture
async def store(request: pytest.FixtureRequest) -> AsyncIterator[Store]:
    """Open a store that holds nothing; indirect parameters are ``single`` (the default) and ``cluster``."""
    kind = getattr(request, "param", "single")
    async with open_store(request.getfixturevalue("cluster_url" if kind == "cluster" else "valkey_url")) as opened:
        await _flush(opened)
        await ensure_epoch(opened.client)
        yield opened


@pytest.fixture
async def clocked_store(redis_url: str) -> AsyncIterator[Store]:
    """Open a store that holds nothing, whose scripts read the time that `set_clock` sets."""
    async with open_store(redis_url, library=clocked(load_scripts())) as opened:
        await ensure_epoch(opened.client)
        await set_clock(opened.client, CLOCK_START_US)
        yield opened


async def _flush(store: Store) -> None:
    if isinstance(store.client, RedisCluster):
        await store.client.flushall(target_nodes=RedisCluster.PRIMARIES)
    else:
        await store.client.flushall()
