from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import pytest
from redis import Redis
from redis.asyncio import RedisCluster
from redis.crc import key_slot
from support.clients import opened, scripts_on
from support.valkey import HOST, client_of, command

from gateway.store.scripts import Script

COUNT = Script("count", "return redis.call('INCRBY', KEYS[1], ARGV[1])")


@contextmanager
def moving_slot(url: str, key: str) -> Iterator[tuple[Redis, Redis]]:
    """Leave the slot of a key half-way between its owner and another primary; put all back afterwards."""
    nodes = [client_of(int(address.rpartition(":")[2])) for address in urlsplit(url).netloc.split(",")]
    slot = key_slot(key.encode())
    owner = nodes[slot * len(nodes) // 16384]
    taker = nodes[(nodes.index(owner) + 1) % len(nodes)]
    owner_id, taker_id = (command(node, "CLUSTER MYID").decode() for node in (owner, taker))
    command(taker, "CLUSTER SETSLOT", slot, "IMPORTING", owner_id)
    command(owner, "CLUSTER SETSLOT", slot, "MIGRATING", taker_id)
    try:
        yield owner, taker
    finally:
        taker.flushall()
        for node in nodes:
            command(node, "CLUSTER SETSLOT", slot, "NODE", owner_id)
            node.close()


async def test_redirects_of_a_cluster_are_followed(cluster_url: str) -> None:
    """While a slot moves (ASK) and after it has moved (MOVED) calls reach its new owner, on any of the connections."""
    async with opened(cluster_url) as client:
        scripts = scripts_on(client)
        with moving_slot(cluster_url, "{moving}") as (owner, taker):
            # Two connections to each node: ASKING and the command that follows must share one.
            await asyncio.gather(*(client.ping(target_nodes=RedisCluster.PRIMARIES) for _ in range(2)))
            assert [await scripts.run(COUNT, ["{moving}"], [1]) for _ in range(4)] == [1, 2, 3, 4]
            at_once = await asyncio.gather(*(scripts.run(COUNT, ["{moving}"], [1]) for _ in range(4)))
            assert sorted(at_once) == [5, 6, 7, 8]
            slot, taker_id = key_slot(b"moving"), command(taker, "CLUSTER MYID")
            for node in (taker, owner):
                command(node, "CLUSTER SETSLOT", slot, "NODE", taker_id)
            assert await scripts.run(COUNT, ["{moving}"], [1]) == 9


async def test_a_node_that_joined_later_is_found(cluster_url: str) -> None:
    """A slot may move to a node that had none, and so was unknown, when the client learned the cluster's layout."""
    async with opened(cluster_url) as client:
        assert isinstance(client, RedisCluster)
        await client.initialize()
        with moving_slot(cluster_url, "{moving}") as (_, taker):
            port = taker.connection_pool.connection_kwargs["port"]
            await client.nodes_manager.nodes_cache.pop(f"{HOST}:{port}").disconnect()
            assert await scripts_on(client).run(COUNT, ["{moving}"], [1]) == 1


async def test_keys_of_two_slots_are_a_mistake_of_ours(cluster_url: str) -> None:
    """A call whose keys do not share a slot is not taken for an outage."""
    async with opened(cluster_url) as client:
        with pytest.raises(Exception, match="to the same slot"):
            await scripts_on(client).run(COUNT, ["a", "b"], [1])
