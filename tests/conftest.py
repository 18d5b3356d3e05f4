"""Fixtures that many tests share: a real store, one server for each test process."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from hypothesis import settings
from redis.asyncio import Redis
from support.gateway import TENANT, Gateway, eventually, gateway_on
from support.ledger import counters, entries, replayed
from support.valkey import valkey_cluster, valkey_server

from gateway.store.connect import RedisClient, open_redis

# The same examples each time, however long one takes; `make faults` draws others.
settings.register_profile("repeatable", derandomize="FAULTS_EXAMPLES" not in os.environ, deadline=None)
settings.load_profile("repeatable")


@pytest.fixture(scope="session")
def valkey_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Run one server for all tests of this process."""
    with valkey_server(tmp_path_factory.mktemp("valkey")) as url:
        yield url


@pytest.fixture(scope="session")
def cluster_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Run one cluster of three primaries for all tests of this process."""
    with valkey_cluster(tmp_path_factory.mktemp("cluster")) as url:
        yield url


@pytest.fixture
async def redis_url(valkey_url: str) -> str:
    """Name a store that holds nothing."""
    async with Redis.from_url(valkey_url) as client:
        await client.flushall()
    return valkey_url


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[RedisClient]:
    """Connect to a store that holds nothing."""
    client = open_redis(redis_url, connect_timeout_s=2, read_timeout_s=5, max_connections=32, pool_wait_s=5)
    yield client
    await client.aclose()


@pytest.fixture
async def gateway(redis_url: str, request: pytest.FixtureRequest) -> AsyncIterator[Gateway]:
    """Run a gateway, with the options given as an indirect parameter; its ledger must add up at the end."""
    options: dict[str, Any] = getattr(request, "param", {})
    async with gateway_on(redis_url, **options) as running:
        yield running
        await eventually(lambda: _adds_up(running))


async def _adds_up(gateway: Gateway) -> bool:
    """Replay the ledger; a sync call may still be settling when its caller has the answer."""
    client = gateway.store.client
    return replayed(await entries(client, TENANT)) == await counters(client, TENANT)
