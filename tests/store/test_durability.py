"""Confirmation of writes, on servers that sync, that don't, and that have replicas or none."""

from __future__ import annotations

import asyncio
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from support.clients import opened
from support.valkey import DURABLE, HOST, client_of, valkey_server, wait_until

from gateway.errors import StoreUnavailable
from gateway.store.connect import RedisClient
from gateway.store.durability import Confirmations


def _aof(fsync: str) -> tuple[str, ...]:
    return ("--appendonly", "yes", "--appendfsync", fsync, "--maxmemory-policy", "noeviction")


async def calls_of(client: RedisClient, command: str) -> int:
    """Count a command's runs."""
    stats = await client.info("commandstats")
    return int(stats.get(f"cmdstat_{command}", {"calls": 0})["calls"])


@pytest.mark.parametrize("fsync", ["always", "everysec"])
async def test_a_server_that_syncs_confirms(tmp_path: Path, fsync: str) -> None:
    """A file that is synced at each write, or each second, is confirmed as soon as it is."""
    with valkey_server(tmp_path, *_aof(fsync)) as url:
        async with opened(url) as client:
            await Confirmations(client).confirm("team", "waitaof")
            assert await calls_of(client, "waitaof") == 1


async def test_a_write_that_is_not_synced_is_not_confirmed(tmp_path: Path) -> None:
    """A server that leaves syncing to the operating system has answered and confirms nothing."""
    with valkey_server(tmp_path, *_aof("no")) as url:
        async with opened(url) as client:
            with pytest.raises(StoreUnavailable, match="0 of 1 confirmed within 2500 ms"):
                await Confirmations(client).confirm("team", "waitaof")


async def test_callers_who_come_together_share_a_round(redis: RedisClient) -> None:
    """However many submits wait for the disk, it is asked once for all, and once for those who came later."""
    confirmations = Confirmations(redis)
    before = await calls_of(redis, "waitaof")
    await asyncio.gather(*(confirmations.confirm("team", "waitaof") for _ in range(100)))
    assert await calls_of(redis, "waitaof") - before <= 2


async def test_a_server_without_a_file_confirms_nothing(tmp_path: Path) -> None:
    """A server that has no AOF can't confirm that it is synced."""
    with valkey_server(tmp_path, "--appendonly", "no") as url:
        async with opened(url) as client:
            with pytest.raises(StoreUnavailable, match="durability waitaof"):
                await Confirmations(client).confirm("team", "waitaof")


async def test_replicas_confirm(redis_url: str, tmp_path: Path) -> None:
    """`wait:1` is confirmed while there is a replica that has it, and not before there is one."""
    async with opened(redis_url) as client:
        confirmations = Confirmations(client)
        with pytest.raises(StoreUnavailable, match="0 of 1 confirmed"):
            await confirmations.confirm("team", "wait:1")
        primary = f"{HOST} {urlsplit(redis_url).port}"
        with (
            valkey_server(tmp_path, *DURABLE, "--replicaof", primary) as url,
            client_of(urlsplit(url).port or 0) as replica,
        ):
            wait_until(lambda: replica.info("replication")["master_link_status"] == "up", tmp_path / "valkey.log")
            await client.set("{team}:job", "x")
            await confirmations.confirm("team", "wait:1")
            assert replica.get("{team}:job") == b"x"
            with pytest.raises(StoreUnavailable, match="1 of 2 confirmed"):
                await confirmations.confirm("team", "wait:2")


async def test_a_cluster_confirms_on_the_tenants_node(cluster_url: str) -> None:
    """Each tenant's own primary is asked, and a connection that it took comes back."""
    async with opened(cluster_url, max_connections=2) as client:
        confirmations = Confirmations(client)
        for n in range(30):
            await confirmations.confirm(f"team-{n}", "waitaof")
        with pytest.raises(StoreUnavailable, match="0 of 1 confirmed"):
            await confirmations.confirm("team-1", "wait:1")
        await confirmations.confirm("team-1", "waitaof")


async def test_no_answer_is_no_confirmation(tmp_path: Path) -> None:
    """A server that is gone confirms nothing, and the next caller is not left with its round."""
    with valkey_server(tmp_path) as url:
        pass
    async with opened(url) as client:
        confirmations = Confirmations(client)
        for _ in range(2):
            with pytest.raises(StoreUnavailable):
                await confirmations.confirm("team", "waitaof")
        with valkey_server(tmp_path, port=urlsplit(url).port):
            await confirmations.confirm("team", "waitaof")
