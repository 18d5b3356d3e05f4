"""An upstream client on a real pool, its events, and the raw server that it talks to."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest
from support.raw_upstream import RawUpstream, answers, raw_upstream
from support.upstream_client import Bench, bench


@pytest.fixture
async def vendor() -> AsyncIterator[RawUpstream]:
    """Listen; accepts each submit until told otherwise."""
    async with raw_upstream(answers(200, {"request_id": "v-1", "status": "QUEUED"})) as upstream:
        yield upstream


@pytest.fixture
async def opened() -> AsyncIterator[Callable[..., Bench]]:
    """Open clients with the settings that a test wants; all are closed after it."""
    async with AsyncExitStack() as stack:

        def build(url: str, **settings: Any) -> Bench:  # noqa: ANN401 passed on as they are
            made = bench(url, **settings)
            stack.push_async_callback(made.client.aclose)
            return made

        yield build


@pytest.fixture
def made(vendor: RawUpstream, opened: Callable[..., Bench]) -> Bench:
    """Open a client of the raw server."""
    return opened(vendor.url)
