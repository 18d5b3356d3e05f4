"""Confirmation that a write is kept beyond the primary's memory, as ``policy.durability`` wants it before a POST.

WAIT and WAITAOF speak of what their own connection has written. So a mark is written on one first: all that was
answered before that lies before it in the stream of writes. Callers who come while a round is under way share the next.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any, Final

from redis.asyncio import RedisCluster
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ResponseError

from gateway.errors import StoreUnavailable
from gateway.store import keys
from gateway.store.connect import RedisClient, store_errors

WAIT_MS: Final = 500
"""For the replicas: a trip there and back."""
WAITAOF_MS: Final = 2500
"""For the primary's own file: with ``appendfsync everysec`` it is synced every second, a busy disk may need two."""
_GRACE_S: Final = 0.45


class Confirmations:
    """Asks whether what was written is kept.

    Args:
        client: From `gateway.store.connect.open_redis`.
    """

    def __init__(self, client: RedisClient) -> None:
        self._client = client
        self._rounds: dict[str, _Rounds] = {}

    async def confirm(self, tenant: str, wanted: str) -> None:
        """Wait until everything that was answered so far, on the tenant's server, is kept as ``wanted`` says.

        Takes one round of `WAIT_MS` or `WAITAOF_MS` at most, two where one was under way.

        Raises:
            StoreUnavailable: It is not, or nobody knows.
        """
        with store_errors():
            place = await self._place(tenant)
        rounds = self._rounds.setdefault(f"{wanted} {place}", _Rounds())
        await rounds.join(lambda: self._ask(tenant, wanted))

    async def _place(self, tenant: str) -> str:
        """Name the server that has a tenant's keys."""
        client = self._client
        if not isinstance(client, RedisCluster):
            return ""
        await client.initialize()
        node = client.get_node_from_key(keys.mark(tenant))
        return "" if node is None else node.name

    async def _ask(self, tenant: str, wanted: str) -> None:
        command, needed, within_ms = _command(wanted)
        deadline_s = within_ms / 1000 + _GRACE_S
        with store_errors():
            async with asyncio.timeout(deadline_s), AsyncExitStack() as stack:
                connection = await self._lend(tenant, stack)
                try:
                    words = connection.pack_commands([("SET", keys.mark(tenant), 1), command])
                    await connection.send_packed_command(words)
                    await connection.read_response()
                    reply: Any = await connection.read_response(timeout=deadline_s)
                except BaseException as exc:
                    await connection.disconnect(nowait=True)  # a reply may be outstanding
                    if isinstance(exc, ResponseError):  # WAITAOF came with Redis 7.2, and wants an AOF
                        raise StoreUnavailable(f"durability {wanted}: {exc}") from exc
                    raise
        kept = reply[0] if isinstance(reply, list) else reply
        if kept < needed:
            raise StoreUnavailable(f"durability {wanted}: {kept} of {needed} confirmed within {within_ms} ms")

    async def _lend(self, tenant: str, stack: AsyncExitStack) -> AbstractConnection:
        """Take a connection to the tenant's server; the stack gives it back."""
        client = self._client
        if not isinstance(client, RedisCluster):
            connection: AbstractConnection = await client.connection_pool.get_connection()  # type: ignore[no-untyped-call]  # redis-py
            stack.push_async_callback(client.connection_pool.release, connection)
            return connection
        node = client.get_node_from_key(keys.mark(tenant))
        if node is None:
            raise StoreUnavailable("no node of the cluster has this tenant's slot")
        connection = node.acquire_connection()
        stack.callback(node.release, connection)
        return connection


class _Rounds:
    """One piece of work at a time, shared by all who ask before it begins."""

    def __init__(self) -> None:
        self._running: asyncio.Task[None] | None = None
        self._next: asyncio.Task[None] | None = None

    async def join(self, work: Callable[[], Awaitable[None]]) -> None:
        """Wait for the next round; raises what it raised."""
        if self._next is None:
            self._next = asyncio.get_running_loop().create_task(self._round(work, self._running))
            self._next.add_done_callback(_read)
        await asyncio.shield(self._next)

    async def _round(self, work: Callable[[], Awaitable[None]], before: asyncio.Task[None] | None) -> None:
        if before is not None:
            await asyncio.wait({before})
        self._running, self._next = self._next, None
        await work()


def _command(wanted: str) -> tuple[tuple[str | int, ...], int, int]:
    """Return the command, how many must confirm, and the milliseconds they have."""
    _, _, replicas = wanted.partition(":")
    if replicas:
        return ("WAIT", int(replicas), WAIT_MS), int(replicas), WAIT_MS
    return ("WAITAOF", 1, 0, WAITAOF_MS), 1, WAITAOF_MS


def _read(round_: asyncio.Task[None]) -> None:
    """Look at how a round ended, should every caller have left."""
    if not round_.cancelled():
        round_.exception()
