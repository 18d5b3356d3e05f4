"""A store whose scripts read the time that a test sets, and receivers."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from support.ledger import CLOCK_START_US, Store, clocked, open_store, set_clock
from support.raw_upstream import RawUpstream
from support.receiver import receiving

from gateway.store.readiness import ensure_epoch
from gateway.store.scripts import load_scripts


@pytest.fixture
async def store(redis_url: str) -> AsyncIterator[Store]:
    """Open a store that holds nothing, whose scripts read the time that `set_clock` sets."""
    async with open_store(redis_url, library=clocked(load_scripts())) as opened:
        await ensure_epoch(opened.client)
        await set_clock(opened.client, CLOCK_START_US)
        yield opened


@pytest.fixture
async def receiver() -> AsyncIterator[RawUpstream]:
    """Run a receiver that takes everything."""
    async with receiving() as running:
        yield running
