from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from support.ledger import assert_audited
from support.tracking import Replica, Rig, rig_on


@pytest.fixture
async def rig(redis_url: str, request: pytest.FixtureRequest) -> AsyncIterator[Rig]:
    """Put a rig together, with the options given as an indirect parameter; its ledger must add up at the end."""
    options: dict[str, Any] = getattr(request, "param", {})
    async with rig_on(redis_url, **options) as ready:
        yield ready
        await assert_audited(ready.store.client)


@pytest.fixture
def replica(rig: Rig) -> Replica:
    """Give the tracker of one process."""
    return rig.replica()
