"""The app over fakes, through httpx, and on a real server for what only raw sockets can show."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest
from web.fakes import Services, build, client_of
from web.server import served


@pytest.fixture
def services() -> Services:
    """Make services that admit everything."""
    return Services()


@pytest.fixture
async def client(services: Services) -> AsyncIterator[httpx.AsyncClient]:
    """Talk to the app without a socket."""
    async with client_of(build(services)) as client:
        yield client


@pytest.fixture
async def port(services: Services) -> AsyncIterator[int]:
    """Serve the app with small limits."""
    async with served(services, max_body_bytes=1000, body_deadline_s=0.2, linger_s=5) as port:
        yield port
