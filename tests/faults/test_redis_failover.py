"""The primary changes under load: by sentinel, behind one address, or slot by slot in a cluster."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import httpx
from redis import Redis
from redis.crc import key_slot
from support.gateway import TENANT, Gateway, eventually, gateway_on
from support.ledger import assert_audited
from support.valkey import DURABLE, HOST, client_of, command, free_port, valkey_sentinel, valkey_server, wait_until

from gateway.core.policy import Policy
from gateway.store import keys
from gateway.store.connect import RedisClient

HELD_S = 30.0
STAYS = ("--rename-command", "SLAVEOF", "none-such")
"""Of a primary that the sentinels can't demote: whoever does not leave it by himself stays for ever."""


class Load:
    """Submits that go on through whatever happens: each key is asked for until it has its job.

    Attributes:
        jobs: The job of each key.
        refused: Answers of 503, none of which cost anything.
    """

    def __init__(self, gateway: Gateway) -> None:
        self.jobs: dict[str, str] = {}
        self.refused = 0
        self._gateway = gateway
        self._numbers = itertools.count()

    @asynccontextmanager
    async def going_on(self, callers: int = 4) -> AsyncIterator[None]:
        """Submit until the block ends; every key that was begun gets its job."""
        over = asyncio.Event()
        work = [asyncio.create_task(self._submit_until(over)) for _ in range(callers)]
        try:
            await eventually(self._some)
            yield
        finally:
            over.set()
            await asyncio.wait_for(asyncio.gather(*work), HELD_S)

    async def more(self) -> None:
        """Wait until further jobs were taken."""
        until = len(self.jobs) + 4

        async def enough() -> bool:
            return len(self.jobs) >= until

        await eventually(enough)

    async def _some(self) -> bool:
        return bool(self.jobs)

    async def _submit_until(self, over: asyncio.Event) -> None:
        while not over.is_set():
            await self._submit(f"key-{next(self._numbers)}")

    async def _submit(self, key: str) -> None:
        while True:
            answer = await self._gateway.post(idempotency_key=key)
            if answer.status_code == httpx.codes.OK:
                self.jobs[key] = answer.json()["request_id"]
                return
            # 504: the hold is kept, the job is known, and the same key gets it in the end; 409: it is being sent.
            assert answer.status_code in {503, 504, 409}, answer.text
            self.refused += answer.status_code == 503
            await asyncio.sleep(0.02)

    async def audited(self) -> None:
        """Check that each key was sent once, and that the books are right."""

        async def nothing_held() -> bool:
            return (await self._gateway.money())[1] == 0

        await eventually(nothing_held)
        assert len(set(self.jobs.values())) == len(self.jobs)
        assert len(self._gateway.accepted()) == len(self.jobs) == self._gateway.upstream_posts()
        await assert_audited(self._gateway.store.client)


async def test_r22_a_hold_that_no_replica_has_sends_nothing(redis_url: str, tmp_path: Path) -> None:
    """With `durability: wait:1` an unconfirmed hold is undone and answered 503; with a replica the same key goes on."""
    async with gateway_on(redis_url, rules=Policy(durability="wait:1")) as gateway:
        answer = await gateway.post(idempotency_key="mine")
        assert (answer.status_code, answer.json()["code"]) == (503, "store_unavailable")

        async def nothing_held() -> bool:
            return (await gateway.money())[1] == 0

        await eventually(nothing_held)
        assert gateway.upstream_posts() == 0
        with replica_of(redis_url, tmp_path):

            async def taken() -> bool:
                return (await gateway.post(idempotency_key="mine")).status_code == httpx.codes.OK

            await eventually(taken)
            await eventually(nothing_held)
        assert len(gateway.accepted()) == 1
        await assert_audited(gateway.store.client)


@contextmanager
def replica_of(primary: str, directory: Path) -> Iterator[Redis]:
    """Run a replica that has all that its primary has."""
    address = f"{HOST} {urlsplit(primary).port}"
    with (
        valkey_server(directory, *DURABLE, "--replicaof", address) as url,
        client_of(urlsplit(url).port or 0) as replica,
    ):
        wait_until(lambda: replica.info("replication")["master_link_status"] == "up", directory / "valkey.log")
        yield replica


async def test_r22_sentinel_failover(tmp_path: Path) -> None:
    """After a failover by sentinel the gateway leaves the old primary, though that still takes writes."""
    with (
        valkey_server(tmp_path / "primary", *DURABLE, *STAYS) as primary,
        replica_of(primary, tmp_path / "replica") as replica,
        valkey_sentinel(tmp_path / "sentinel", urlsplit(primary).port or 0, "main") as url,
        client_of(urlsplit(url).port or 0) as sentinel,
    ):
        wait_until(lambda: len(sentinel.sentinel_slaves("main")) == 1, tmp_path / "sentinel" / "valkey.log")
        async with gateway_on(primary, way=url) as gateway:
            answer = await gateway.post(idempotency_key="before")
            job_id = answer.json()["request_id"]
            await gateway.ended(job_id)
            await eventually(lambda: _same(gateway.store.client, replica))
            # Refused until the sentinel has heard how the replica does.
            wait_until(lambda: bool(command(sentinel, "SENTINEL FAILOVER main")), tmp_path / "sentinel" / "valkey.log")
            await eventually(lambda: _is_primary(replica))
            began = time.perf_counter()

            async def arrived() -> bool:
                more = await gateway.post()
                return more.is_success and replica.exists(keys.job(TENANT, more.json()["request_id"])) == 1

            await eventually(arrived)
            print(f"\nr22 sentinel: at the new primary in {time.perf_counter() - began:.1f} s")  # noqa: T201 a figure
            replay = await gateway.post(idempotency_key="before")
            assert (replay.status_code, replay.json()["request_id"]) == (200, job_id)


async def _same(primary: RedisClient, replica: Redis) -> bool:
    offset = (await primary.info("replication"))["master_repl_offset"]
    return bool(replica.info("replication")["slave_repl_offset"] >= offset)


async def test_r22_a_primary_that_became_a_replica(redis_url: str, tmp_path: Path) -> None:
    """READONLY and MASTERDOWN behind the same address: 503 and nothing sent; with a primary there again all goes on."""
    async with gateway_on(redis_url) as gateway:
        with client_of(urlsplit(redis_url).port or 0) as server:
            load = Load(gateway)
            async with load.going_on():
                await load.more()
                server.config_set("replica-serve-stale-data", "no")
                server.replicaof(HOST, free_port())
                try:
                    before = load.refused

                    async def refused() -> bool:
                        return load.refused > before + 4

                    await eventually(refused)
                    sent = gateway.upstream_posts()
                    await eventually(refused)
                    server.config_set("replica-serve-stale-data", "yes")  # READONLY from now on, not MASTERDOWN
                    before = load.refused
                    await eventually(refused)
                    assert gateway.upstream_posts() == sent
                finally:
                    server.config_set("replica-serve-stale-data", "yes")
                    server.replicaof("NO", "ONE")
                await load.more()
            await load.audited()


async def test_r22_a_slot_moves_in_a_cluster(cluster_url: str) -> None:
    """A tenant's slot moves to another primary, key by key, under load: nothing is lost, nothing is sent twice."""
    nodes = [client_of(int(address.rpartition(":")[2])) for address in urlsplit(cluster_url).netloc.split(",")]
    for node in nodes:
        node.flushall()
    slot = key_slot(TENANT.encode())
    owner = nodes[slot * len(nodes) // 16384]
    taker = nodes[(nodes.index(owner) + 1) % len(nodes)]
    async with gateway_on(cluster_url) as gateway:
        load = Load(gateway)
        try:
            async with load.going_on():
                await load.more()
                await asyncio.to_thread(_move, slot, owner, taker, nodes)
                await load.more()
                assert taker.exists(keys.budget(TENANT)) == 1
            await load.audited()
        finally:
            await asyncio.to_thread(_move, slot, taker, owner, nodes)
            for node in nodes:
                node.close()


def _move(slot: int, owner: Redis, taker: Redis, nodes: list[Redis]) -> None:
    """Move a slot as `valkey-cli --cluster reshard` does."""
    owner_id, taker_id = (command(node, "CLUSTER MYID").decode() for node in (owner, taker))
    port = taker.connection_pool.connection_kwargs["port"]
    command(taker, "CLUSTER SETSLOT", slot, "IMPORTING", owner_id)
    command(owner, "CLUSTER SETSLOT", slot, "MIGRATING", taker_id)
    while names := command(owner, "CLUSTER GETKEYSINSLOT", slot, 10):
        command(owner, "MIGRATE", HOST, port, "", 0, 5000, "KEYS", *names)
    for node in (taker, owner, *nodes):
        command(node, "CLUSTER SETSLOT", slot, "NODE", taker_id)


async def _is_primary(server: Redis) -> bool:
    return bool(server.info("replication")["role"] == "master")
