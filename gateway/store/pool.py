"""Connection pools that queue fairly and for a bounded time.

In redis-py's own blocking pool a caller that comes back at once overtakes those that wait, so that with more callers
than connections some starve until they time out; its other pools do not queue at all.
"""

from __future__ import annotations

import asyncio
from typing import Any

from redis.asyncio import ConnectionPool
from redis.asyncio.connection import AbstractConnection, Connection
from redis.asyncio.sentinel import SentinelConnectionPool
from redis.exceptions import MasterDownError, MaxConnectionsError, ReadOnlyError


class Turns:
    """Let a number of callers in at a time, the others in the order in which they came.

    Args:
        count: Callers inside, at most.
        wait_s: Seconds for which a caller queues.
    """

    def __init__(self, count: int, wait_s: float) -> None:
        self._free = asyncio.Semaphore(count)
        self._wait_s = wait_s

    async def take(self) -> None:
        """Enter, or raise MaxConnectionsError (a ConnectionError) after the wait."""
        try:
            async with asyncio.timeout(self._wait_s if self._free.locked() else None):
                await self._free.acquire()
        except TimeoutError:
            raise MaxConnectionsError(f"no connection became free within {self._wait_s:g} s") from None

    def give(self) -> None:
        """Leave."""
        self._free.release()


def _leaving(kind: type[AbstractConnection]) -> type[AbstractConnection]:
    """Derive a connection that ends when its server says that it is no primary (any more).

    After a failover behind one address the old primary still answers, and refuses each write: redis-py would stay.
    """

    class Leaving(kind):  # type: ignore[misc,valid-type]  # a base that is known at run time only
        async def read_response(self, *args: Any, **options: Any) -> Any:  # noqa: ANN401  # redis-py's
            try:
                return await super().read_response(*args, **options)
            except (ReadOnlyError, MasterDownError):
                await self.disconnect(nowait=True)
                raise

    return Leaving


class FairPool(ConnectionPool):
    """Hold up to ``max_connections`` connections to one server; ``wait_s`` bounds the wait for one."""

    def __init__(self, *, max_connections: int, wait_s: float, **options: Any) -> None:  # noqa: ANN401  # redis-py's
        kind = _leaving(options.pop("connection_class", Connection))
        super().__init__(connection_class=kind, max_connections=max_connections, **options)
        self._turns = Turns(max_connections, wait_s)

    async def get_connection(self, *_: object, **__: object) -> AbstractConnection:
        """Take a connection, made anew if it was lost."""
        await self._turns.take()
        connection: AbstractConnection = self.get_available_connection()  # type: ignore[no-untyped-call]  # redis-py
        try:
            await self.ensure_connection(connection)
        except BaseException:
            await self.release(connection)
            raise
        return connection

    async def release(self, connection: AbstractConnection) -> None:
        """Give a connection back. Awaits nothing, so that it can't be cancelled halfway."""
        self._in_use_connections.remove(connection)
        self._available_connections.append(connection)
        self._turns.give()


class FairSentinelPool(SentinelConnectionPool, FairPool):
    """Hold connections to the primary that the sentinels name; closes their clients too."""

    async def follow(self) -> None:
        """Leave a primary that the sentinels no longer name.

        They need some ten seconds to make a replica of one that still runs. All that time it takes writes, and then
        it forgets them; so this is asked every second. Raises redis-py's errors.
        """
        left, named = self.master_address, await self.sentinel_manager.discover_master(self.service_name)
        if left is not None and left != named:
            self.master_address = named
            await self.disconnect(inuse_connections=True)

    async def aclose(self) -> None:
        """Close all connections."""
        await super().aclose()
        await self.sentinel_manager.aclose()
