"""Confirmation of writes, on servers that sync, that don't, and that have replicas or none."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import pytest
from support.clients import opened
from support.ledger import Store, admission, open_store
from support.proxy import tcp_proxy
from support.valkey import DURABLE, HOST, client_of, valkey_server, wait_until

from gateway.core.policy import Policy
from gateway.errors import StoreUnavailable
from gateway.store.connect import RedisClient
from gateway.store.durability import Confirmations

JOB: Final = "{team}:job"


async def confirm(client: RedisClient, wanted: str) -> None:
    """Write a record, and have it confirmed."""
    await client.set(JOB, "x")
    await Confirmations(client).confirm("team", wanted, JOB)


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
            await confirm(client, "waitaof")
            assert await calls_of(client, "waitaof") == 1


async def test_a_write_that_is_not_synced_is_not_confirmed(tmp_path: Path) -> None:
    """A server that leaves syncing to the operating system has answered and confirms nothing."""
    with valkey_server(tmp_path, *_aof("no")) as url:
        async with opened(url) as client:
            with pytest.raises(StoreUnavailable, match="0 of 1 confirmed within 2500 ms"):
                await confirm(client, "waitaof")


async def test_callers_who_come_together_share_a_round(redis: RedisClient) -> None:
    """However many submits wait for the disk, it is asked once for all, and once for those who came later."""
    confirmations = Confirmations(redis)
    await redis.set(JOB, "x")
    before = await calls_of(redis, "waitaof")
    await asyncio.gather(*(confirmations.confirm("team", "waitaof", JOB) for _ in range(100)))
    assert await calls_of(redis, "waitaof") - before <= 2


async def test_a_server_without_a_file_confirms_nothing(tmp_path: Path) -> None:
    """A server that has no AOF can't confirm that it is synced."""
    with valkey_server(tmp_path, "--appendonly", "no") as url:
        async with opened(url) as client:
            with pytest.raises(StoreUnavailable, match="durability waitaof"):
                await confirm(client, "waitaof")


async def test_replicas_confirm(redis_url: str, tmp_path: Path) -> None:
    """`wait:1` is confirmed while there is a replica that has it, and not before there is one."""
    async with opened(redis_url) as client:
        confirmations = Confirmations(client)
        with pytest.raises(StoreUnavailable, match="0 of 1 confirmed"):
            await confirmations.confirm("team", "wait:1", JOB)
        primary = f"{HOST} {urlsplit(redis_url).port}"
        with (
            valkey_server(tmp_path, *DURABLE, "--replicaof", primary) as url,
            client_of(urlsplit(url).port or 0) as replica,
        ):
            wait_until(lambda: replica.info("replication")["master_link_status"] == "up", tmp_path / "valkey.log")
            await client.set(JOB, "x")
            await confirmations.confirm("team", "wait:1", JOB)
            assert replica.get(JOB) == b"x"
            with pytest.raises(StoreUnavailable, match="1 of 2 confirmed"):
                await confirmations.confirm("team", "wait:2", JOB)


async def test_a_cluster_confirms_on_the_tenants_node(cluster_url: str) -> None:
    """Each tenant's own primary is asked, and a connection that it took comes back."""
    async with opened(cluster_url, max_connections=2) as client:
        confirmations = Confirmations(client)
        for n in range(30):
            await client.set(f"{{team-{n}}}:job", "x")
            await confirmations.confirm(f"team-{n}", "waitaof", f"{{team-{n}}}:job")
        with pytest.raises(StoreUnavailable, match="0 of 1 confirmed"):
            await confirmations.confirm("team-1", "wait:1", "{team-1}:job")
        await confirmations.confirm("team-1", "waitaof", "{team-1}:job")


async def test_no_answer_is_no_confirmation(tmp_path: Path) -> None:
    """A server that is gone confirms nothing, and the next caller is not left with its round."""
    with valkey_server(tmp_path) as url:
        pass
    async with opened(url) as client:
        confirmations = Confirmations(client)
        for _ in range(2):
            with pytest.raises(StoreUnavailable):
                await confirmations.confirm("team", "waitaof", JOB)
        with valkey_server(tmp_path, port=urlsplit(url).port):
            await client.set(JOB, "x")
            await confirmations.confirm("team", "waitaof", JOB)


async def test_a_server_without_the_record_confirms_nothing(redis: RedisClient) -> None:
    """Of those who share a round, only those are refused whose records the server does not have."""
    confirmations = Confirmations(redis)
    await redis.set(JOB, "x")
    there, lost = await asyncio.gather(
        confirmations.confirm("team", "waitaof", JOB),
        confirmations.confirm("team", "waitaof", "{team}:lost"),
        return_exceptions=True,
    )
    assert there is None
    assert isinstance(lost, StoreUnavailable)
    assert "failover" in str(lost)


async def test_a_failover_between_admission_and_confirmation(store: Store, valkey_url: str, tmp_path: Path) -> None:
    """A hold that the old primary took is not confirmed by the new one, which never had it."""
    credential = await store.caller()
    with valkey_server(tmp_path) as successor:
        async with (
            tcp_proxy(HOST, urlsplit(valkey_url).port or 0) as proxy,
            open_store(f"redis://{HOST}:{proxy.port}", policy=Policy(durability="waitaof")) as gateway,
        ):
            await gateway.scripts.look()  # its line stays with the old primary, which does not know that it is one
            proxy.lead_to(HOST, urlsplit(successor).port or 0)
            request = admission(credential)
            with pytest.raises(StoreUnavailable, match="failover"):
                await gateway.ledger.admit(request)
    assert await store.jobs.find(credential.tenant, request.job_id) is not None
