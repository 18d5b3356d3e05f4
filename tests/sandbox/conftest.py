from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest
from support.vendor import KEY, HandClock

from gateway.sandbox import SandboxSettings
from gateway.sandbox.server import Running, running


@pytest.fixture
def clock() -> HandClock:
    """Give the clock that `vendor` runs by."""
    return HandClock()


@pytest.fixture
async def vendor(clock: HandClock) -> AsyncIterator[Running]:
    """Run a sandbox on loopback, by the hand-moved clock."""
    async with running(SandboxSettings(api_keys=(KEY,)), clock=clock) as handle:
        yield handle


@pytest.fixture
async def http(vendor: Running) -> AsyncIterator[httpx.AsyncClient]:
    """Give a client of `vendor` with a good key."""
    async with httpx.AsyncClient(base_url=vendor.url, headers={"x-api-key": KEY}, trust_env=False) as client:
        yield client
