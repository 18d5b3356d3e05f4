from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from support.gateway import TENANT, Gateway, eventually, gateway_on
from support.ledger import counters, entries, replayed


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
