"""What each test of a port runs on: stores in memory, on a server, on a cluster; vendors in memory, on the sandbox."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import support.ledger
from support.ledger import Store, empty_store
from support.memory_store import memory_store
from support.ports import Ports
from support.vendors import MemoryPlayed, PlayedVendor, sandbox_played


@pytest.fixture(params=["memory", "single", "cluster"])
async def store(request: pytest.FixtureRequest) -> AsyncIterator[Ports]:
    """Open a store that holds nothing."""
    if request.param == "memory":
        yield memory_store()
        return
    url = request.getfixturevalue("cluster_url" if request.param == "cluster" else "valkey_url")
    async with empty_store(url) as opened:
        yield opened


@pytest.fixture(params=["memory", "single"])
async def timed_store(request: pytest.FixtureRequest) -> AsyncIterator[Ports]:
    """Open a store that holds nothing, of which `pass_time` moves the clock and changes nothing else."""
    if request.param == "memory":
        yield memory_store()
        return
    async with support.ledger.clocked_store(request.getfixturevalue("valkey_url")) as opened:
        yield opened


@pytest.fixture
async def clocked_store(redis_url: str) -> AsyncIterator[Store]:
    """Open a store on a server that holds nothing, whose scripts read the time that `set_clock` sets."""
    async with support.ledger.clocked_store(redis_url) as opened:
        yield opened


@pytest.fixture(params=["memory", "sandbox"])
async def vendor(request: pytest.FixtureRequest) -> AsyncIterator[PlayedVendor]:
    """Play a vendor that has taken nothing yet: in memory, or on the sandbox by the real client."""
    if request.param == "memory":
        yield MemoryPlayed()
        return
    async with sandbox_played() as played:
        yield played
