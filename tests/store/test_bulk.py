"""Large results on their way to and from the store: nobody else waits behind them."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final
from urllib.parse import urlsplit

import pytest
from support.clients import opened, scripts_on
from support.ledger import Store, admission, open_store

from gateway.core.job import JobState
from gateway.core.movements import Admitted, Reading, Settlement, StoredResult
from gateway.core.tenant import Credential
from gateway.errors import StoreUnavailable
from gateway.store.scripts import Script

CHUNK_BYTES: Final = 65_536
HELD_FROM_BYTES: Final = 8 * CHUNK_BYTES


class _Narrow:
    """A way to the store on which a connection stands still once it has carried much, until it is opened."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self.open = asyncio.Event()
        self.standing = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry one connection."""
        other_reader, other_writer = await asyncio.open_connection(*self._target)
        try:
            await asyncio.gather(self._carry(reader, other_writer), self._carry(other_reader, writer))
        except OSError:
            pass
        finally:
            writer.close()
            other_writer.close()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        carried = 0
        while chunk := await reader.read(CHUNK_BYTES):
            carried += len(chunk)
            if carried >= HELD_FROM_BYTES:
                self.standing.set()
                await self.open.wait()
            writer.write(chunk)
            await writer.drain()
        writer.close()


@asynccontextmanager
async def narrow_way(url: str) -> AsyncIterator[tuple[_Narrow, Store]]:
    """Open a store at the end of a narrow way."""
    target = urlsplit(url)
    assert target.hostname is not None
    assert target.port is not None
    way = _Narrow(target.hostname, target.port)
    server = await asyncio.start_server(way.serve, "127.0.0.1", 0)
    async with server, open_store(f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}") as store:
        yield way, store


def noise() -> StoredResult:
    """Make a result that deflating does not make small."""
    return StoredResult(body=random.Random(1).randbytes(2 * HELD_FROM_BYTES), content_type="image/jpeg")  # noqa: S311 the same in each run


async def admitted(store: Store, credential: Credential) -> str:
    """Have a job admitted, which takes one trip on the shared line; return its id."""
    answer = await store.ledger.admit(admission(credential))
    assert isinstance(answer, Admitted)
    return answer.job.id


def settlement(job_id: str, result: StoredResult) -> Settlement:
    """Complete a job."""
    return Settlement(tenant="team", job_id=job_id, state=JobState.COMPLETED, cost=1, result=result)


async def test_admissions_do_not_wait_behind_a_large_result(store: Store, redis_url: str) -> None:
    """While a large result is stored, and while one is read, admissions go on; then either is whole."""
    credential, result = await store.caller(), noise()
    async with narrow_way(redis_url) as (way, narrow):
        job_id = await admitted(narrow, credential)
        storing = asyncio.create_task(narrow.ledger.settle(settlement(job_id, result)))
        await way.standing.wait()
        await admitted(narrow, credential)
        assert not storing.done()
        way.open.set()
        assert (await storing).changed
    async with narrow_way(redis_url) as (way, narrow):
        await admitted(narrow, credential)
        reading = asyncio.create_task(narrow.jobs.read(credential, job_id, with_result=True))
        await way.standing.wait()
        await admitted(narrow, credential)
        assert not reading.done()
        way.open.set()
        read = await reading
    assert isinstance(read, Reading)
    assert read.result == result


async def test_a_large_result_may_take_its_time_in_a_cluster(cluster_url: str) -> None:
    """The time-out that admission has in a cluster is not that of a large result; an admission keeps its own."""
    slow = Script("slow", "local from = os.clock() while os.clock() < from + 0.4 do end return KEYS[1]")
    async with opened(cluster_url, read_timeout_s=0.1) as client:
        scripts = scripts_on(client)
        with pytest.raises(StoreUnavailable):
            await scripts.run(slow, ["{team}"], [])
        assert await scripts.run_bulk(slow, ["{team}"], []) == b"{team}"
