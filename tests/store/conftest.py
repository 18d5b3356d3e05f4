"""A store for each test: the gateway's own adapters on a real server, or on a cluster where a test asks for both."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import support.ledger
from support.ledger import Store, empty_store


@pytest.fixture
async def store(request: pytest.FixtureRequest) -> AsyncIterator[Store]:
    """Open a store that holds nothing; indirect parameters are ``single`` (the default) and ``cluster``."""
    kind = getattr(request, "param", "single")
    async with empty_store(request.getfixturevalue("cluster_url" if kind == "cluster" else "valkey_url")) as opened:
        yield opened


@pytest.fixture
async def clocked_store(redis_url: str) -> AsyncIterator[Store]:
    """Open a store that holds nothing, whose scripts read the time that `set_clock` sets."""
    async with support.ledger.clocked_store(redis_url) as opened:
        yield opened
