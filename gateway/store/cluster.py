"""The cluster's client: redis-py's, made to queue like the pools, and to follow ASK where redis-py does not.

While a slot moves, its old owner answers ASK for keys that it no longer has; ASKING and then the command must reach the
new owner on one connection. redis-py takes a connection from the node's pool for each of the two, so that with several
connections open the command is refused until the redirects are used up; and it fails on a node that owns no slot yet.
"""

from __future__ import annotations

from typing import Any, cast

from redis.asyncio import RedisCluster
from redis.asyncio.cluster import ClusterNode
from redis.exceptions import AskError, MovedError

from gateway.store.pool import Turns


class FairCluster(RedisCluster):
    """Run up to ``max_connections`` commands at a time; others queue for up to ``wait_s`` seconds.

    Pipelines and subscriptions take connections of the nodes' pools without queueing.
    """

    def __init__(self, *, max_connections: int, wait_s: float, **options: Any) -> None:  # noqa: ANN401  # redis-py's
        super().__init__(max_connections=max_connections, **options)
        self._turns = Turns(max_connections, wait_s)
        self._options = options
        self._patient: FairCluster | None = None

    def patient(self, *, read_timeout_s: float, max_connections: int) -> FairCluster:
        """Return a client of the same cluster, whose own connections wait longer; it closes with this one."""
        if self._patient is None:
            options = {**self._options, "socket_timeout": read_timeout_s}
            self._patient = FairCluster(max_connections=max_connections, wait_s=read_timeout_s, **options)
        return self._patient

    async def execute_command(self, *args: Any, **options: Any) -> Any:  # noqa: ANN401  # redis-py's
        """Send a command to the node that holds its keys."""
        await self._turns.take()
        try:
            return await super().execute_command(*args, **options)
        finally:
            self._turns.give()

    async def aclose(self) -> None:
        """Close all connections; after a failure redis-py would leave them, taking the client for one not yet open."""
        if self._patient is not None:
            await self._patient.aclose()
        await super().aclose()
        await self.nodes_manager.aclose()
        await self.nodes_manager.aclose("startup_nodes")

    async def _execute_command(self, target_node: ClusterNode, *args: Any, **options: Any) -> Any:  # noqa: ANN401  # redis-py's
        return await super()._execute_command(cast("ClusterNode", _FollowsAsk(self, target_node)), *args, **options)

    async def ask(self, redirect: AskError, *args: Any, **options: Any) -> Any:  # noqa: ANN401  # redis-py's
        """Send a command to the node that is taking the slot over."""
        manager = self.nodes_manager
        node = self.get_node(host=redirect.host, port=redirect.port)
        if node is None:
            node = ClusterNode(redirect.host, redirect.port, "primary", **manager.connection_kwargs)
            manager.set_nodes(manager.nodes_cache, {node.name: node})
        connection = node.acquire_connection()
        try:
            await connection.send_command("ASKING")
            await connection.read_response()
            await connection.send_command(*args)
            return await node.parse_response(connection, args[0], **options)
        finally:
            node.release(connection)


class _FollowsAsk:
    """Stand for a node, so that redis-py's loop sees the outcome of an ASK and not the redirect."""

    def __init__(self, cluster: FairCluster, node: ClusterNode) -> None:
        self._cluster = cluster
        self._node = node

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401  # whatever the node has
        return getattr(self._node, name)

    async def execute_command(self, *args: Any, **options: Any) -> Any:  # noqa: ANN401  # redis-py's
        try:
            return await self._node.execute_command(*args, **options)
        except MovedError:  # an AskError to redis-py
            raise
        except AskError as redirect:
            options.pop("asking", None)
            return await self._cluster.ask(redirect, *args, **options)
