"""A store for each test of a port: in memory, on a server and on a cluster, unless the test asks for some of them."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import support.ledger
from support.ledger import Store, empty_store
from support.memory_store import memory_store
from support.ports import Ports


@pytest.fixture(params=["memory", "single", "cluster"])
async def store(request: pytest.FixtureRequest) -> AsyncIterator[Ports]:
    """Open a store that holds nothing."""
    if request.param == "memory":
        yield memory_store()
        return
    url = request.getfixturevalue("cluster_url" if request.param == "cluster" else "valkey_url")
    async with empty_store(url) as opened:
        yield opened


@pytest.fixture
async def clocked_store(redis_url: str) -> AsyncIterator[Store]:
    """Open a store on a server that holds nothing, whose scripts read the time that `set_clock` sets."""
    async with support.ledger.clocked_store(redis_url) as opened:
        yield opened
