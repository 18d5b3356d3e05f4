from __future__ import annotations

from pathlib import Path

import pytest
from support.clients import opened
from support.valkey import DURABLE, free_port, valkey_server

from gateway.errors import StoreUnavailable
from gateway.store.connect import RedisClient
from gateway.store.readiness import (
    NO_INFO,
    REWOUND_S,
    check_store,
    ensure_epoch,
    note_rewound,
    read_epoch,
    read_rewound,
)


async def test_a_durable_server_is_ready(redis: RedisClient, cluster_url: str) -> None:
    """A primary with AOF that never evicts has no problems, and neither has a cluster of them."""
    assert await check_store(redis, allow_volatile=False) == []
    async with opened(cluster_url) as cluster:
        assert await check_store(cluster, allow_volatile=False) == []


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (("--appendonly", "yes", "--maxmemory-policy", "allkeys-lru"), "maxmemory-policy is allkeys-lru"),
        (("--appendonly", "no", "--maxmemory-policy", "noeviction"), "appendonly is not yes"),
    ],
)
async def test_a_server_that_may_lose_holds_is_refused(tmp_path: Path, options: tuple[str, ...], problem: str) -> None:
    """Eviction or a missing AOF is a problem, named with its setting, unless volatile stores are allowed."""
    with valkey_server(tmp_path, *options) as url:
        async with opened(url) as client:
            (found,) = await check_store(client, allow_volatile=False)
            assert problem in found
            assert await check_store(client, allow_volatile=True) == []


@pytest.mark.parametrize(("options", "count"), [(DURABLE, 0), (("--appendonly", "no"), 1)])
async def test_a_server_that_hides_its_configuration_is_checked(
    tmp_path: Path, options: tuple[str, ...], count: int
) -> None:
    """A user that may not run CONFIG, as with managed services, gets the same answer."""
    with valkey_server(tmp_path, *options) as url:
        async with opened(url) as client:
            await client.acl_setuser("limited", enabled=True, passwords=["+pw"], commands=["+info"])
        async with opened(url.replace("//", "//limited:pw@")) as client:
            assert len(await check_store(client, allow_volatile=False)) == count


async def test_every_primary_of_a_cluster_is_checked(cluster_url: str) -> None:
    """One primary that evicts makes the cluster unfit, and the problem names it."""
    async with opened(cluster_url) as client:
        await client.ping()
        victim = client.get_primaries()[-1]  # type: ignore[union-attr]  # a cluster's client
        await victim.execute_command("CONFIG", "SET", "maxmemory-policy", "volatile-ttl")
        try:
            (found,) = await check_store(client, allow_volatile=False)
        finally:
            await victim.execute_command("CONFIG", "SET", "maxmemory-policy", "noeviction")
    assert found.startswith(f"{victim.name}: maxmemory-policy is volatile-ttl")


async def test_a_replica_is_refused(redis_url: str, tmp_path: Path) -> None:
    """A replica can't take writes: a problem even where volatile stores are allowed."""
    host, port = redis_url.removeprefix("redis://").removesuffix("/0").split(":")
    with valkey_server(tmp_path, *DURABLE, "--replicaof", f"{host} {port}") as url:
        async with opened(url) as client:
            (found,) = await check_store(client, allow_volatile=True)
    assert "role is slave" in found


async def test_a_node_of_a_cluster_alone_is_refused(cluster_url: str) -> None:
    """A plain URL to a node of a cluster is a problem, since most keys are elsewhere."""
    async with opened(cluster_url.replace("+cluster", "").split(",", maxsplit=1)[0]) as client:
        (found,) = await check_store(client, allow_volatile=True)
    assert "redis+cluster://" in found


async def test_the_epoch_is_set_once(redis: RedisClient) -> None:
    """A fresh store has no epoch; the first to mark it decides, and everyone reads the same; a flush shows."""
    assert await read_epoch(redis) is None
    epoch = await ensure_epoch(redis)
    assert await ensure_epoch(redis) == epoch == await read_epoch(redis)
    assert await redis.get("ledger:epoch") == epoch.encode()
    await redis.flushall()
    assert await read_epoch(redis) is None
    assert await ensure_epoch(redis) != epoch


async def test_an_epoch_works_on_a_cluster(cluster_url: str) -> None:
    """The mark is found on a cluster too."""
    async with opened(cluster_url) as client:
        await client.flushall()
        assert await ensure_epoch(client) == await read_epoch(client)


async def test_a_store_that_is_down_is_unavailable_not_unfit() -> None:
    """No answer is StoreUnavailable from each of the questions."""
    async with opened(f"redis://127.0.0.1:{free_port()}") as client:
        for question in (check_store(client, allow_volatile=False), read_epoch(client), ensure_epoch(client)):
            with pytest.raises(StoreUnavailable):
                await question


async def test_a_user_who_may_not_ask_is_told_so(tmp_path: Path) -> None:
    """Without INFO nothing is known of durability: a problem with what to do, unless volatile stores are allowed."""
    with valkey_server(tmp_path) as url:
        async with opened(url) as client:
            await client.acl_setuser("limited", enabled=True, passwords=["+pw"], commands=["+ping"])
        async with opened(url.replace("//", "//limited:pw@")) as client:
            assert await check_store(client, allow_volatile=False) == [NO_INFO]
            assert await check_store(client, allow_volatile=True) == []


async def test_a_rewound_store_says_so(redis: RedisClient) -> None:
    """What a process saw is kept in the store with its time, for a week."""
    assert await read_rewound(redis) is None
    await note_rewound(redis, "the ledger went back")
    said = await read_rewound(redis)
    assert said is not None
    assert said.endswith(" UTC: the ledger went back")
    assert 0 < await redis.ttl("ledger:rewound") <= REWOUND_S
