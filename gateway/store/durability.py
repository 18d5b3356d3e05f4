"""Confirmation that a write is kept beyond the primary's memory, as ``policy.durability`` wants it before a POST.

WAIT and WAITAOF speak of what their own connection has written. So a mark is written on one first: all that was
answered before that lies before it in the stream of writes. Callers who come while a round is under way share the next.

That connection is not the one that wrote, and after a failover in between its server need not have what was written.
So each round first asks it for every record that it is about.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
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

    async def confirm(self, tenant: str, wanted: str, record: str) -> None:
        """Wait until a record that was written, and all before it on the tenant's server, is kept as ``wanted`` says.

        Takes one round of `WAIT_MS` or `WAITAOF_MS` at most, two where one was under way.

        Raises:
            StoreUnavailable: It is not, or nobody knows.
        """
        with store_errors():
            place = await self._place(tenant)
        rounds = self._rounds.setdefault(f"{wanted} {place}", _Rounds())
        await rounds.join(record, lambda records: self._ask(tenant, wanted, records))

    async def _place(self, tenant: str) -> str:
        """Name the server that has a tenant's keys."""
        client = self._client
        if not isinstance(client, RedisCluster):
            return ""
        await client.initialize()
        node = client.get_node_from_key(keys.mark(tenant))
        return "" if node is None else node.name

    async def _ask(self, tenant: str, wanted: str, records: Sequence[str]) -> Collection[str]:
        """Make a round; return those records that the server which confirms has."""
        command, needed, within_ms = _command(wanted)
        deadline_s = within_ms / 1000 + _GRACE_S
        with store_errors():
            async with asyncio.timeout(deadline_s), AsyncExitStack() as stack:
                connection = await self._lend(tenant, stack)
                try:
                    asked = [("EXISTS", record) for record in records]
                    words = connection.pack_commands([*asked, ("SET", keys.mark(tenant), 1), command])
                    await connection.send_packed_command(words)
                    found = [record for record in records if await connection.read_response()]
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
        return found

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


_Round = asyncio.Task[Collection[str]]


class _Rounds:
    """One piece of work at a time, shared by all who ask before it begins."""

    def __init__(self) -> None:
        self._running: _Round | None = None
        self._next: _Round | None = None
        self._records: list[str] = []

    async def join(self, record: str, work: Callable[[Sequence[str]], Awaitable[Collection[str]]]) -> None:
        """Wait for the next round; raises what it raised, and `StoreUnavailable` where it did not find the record."""
        if self._next is None:
            self._next = asyncio.get_running_loop().create_task(self._round(work, self._running))
            self._next.add_done_callback(_read)
        self._records.append(record)
        if record not in await asyncio.shield(self._next):
            raise StoreUnavailable("the server that confirms does not have what was written: a failover came between")

    async def _round(
        self, work: Callable[[Sequence[str]], Awaitable[Collection[str]]], before: _Round | None
    ) -> Collection[str]:
        if before is not None:
            await asyncio.wait({before})
        self._running, self._next = self._next, None
        records, self._records = self._records, []
        return await work(records)


def _command(wanted: str) -> tuple[tuple[str | int, ...], int, int]:
    """Return the command, how many must confirm, and the milliseconds they have."""
    _, _, replicas = wanted.partition(":")
    if replicas:
        return ("WAIT", int(replicas), WAIT_MS), int(replicas), WAIT_MS
    return ("WAITAOF", 1, 0, WAITAOF_MS), 1, WAITAOF_MS


def _read(round_: _Round) -> None:
    """Look at how a round ended, should every caller have left."""
    if not round_.cancelled():
        round_.exception()
