"""Questions that go to every tenant, whose keys may lie on any node."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from gateway.store import keys
from gateway.store.connect import RedisClient, store_errors

T = TypeVar("T")
_AT_ONCE: Final = 100


async def ask_tenants(client: RedisClient, ask: Callable[[str], Awaitable[T]]) -> list[tuple[str, T]]:
    """Ask something of every tenant, a hundred at once; return the answers in the order of the tenants' ids.

    Raises:
        StoreUnavailable: One answer is missing.
    """
    with store_errors():
        tenants = sorted(text(t) for t in await client.smembers(keys.TENANTS))
    found: list[tuple[str, T]] = []
    for at in range(0, len(tenants), _AT_ONCE):
        some = tenants[at : at + _AT_ONCE]
        found += zip(some, await asyncio.gather(*map(ask, some)), strict=True)
    return found


def text(value: bytes | str) -> str:
    """Read a reply of redis-py, which types it as either, though ours are always bytes."""
    return value.decode() if isinstance(value, bytes) else value
