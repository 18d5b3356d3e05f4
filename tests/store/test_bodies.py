from __future__ import annotations

import json
import random
from typing import Final

import pytest
from support.ledger import Store, admission

from gateway.core.job import JobState
from gateway.core.movements import Reading, Settlement, StoredResult
from gateway.core.tenant import Credential
from gateway.store import keys
from gateway.store.bodies import PACK_FROM_BYTES, THREAD_FROM_BYTES, pack, unpack

TENANT: Final = "team"
MIB: Final = 2**20


def text(size: int) -> bytes:
    """Make a JSON text of about that size."""
    return json.dumps({"status": "COMPLETED", "output": "cats and dogs are dancing. " * (size // 27)}).encode()


def noise(size: int) -> bytes:
    """Make a body that does not shrink, like a picture."""
    return random.Random(1).randbytes(size)  # noqa: S311 the same in each run


async def keep(store: Store, credential: Credential, result: StoredResult) -> str:
    """Have a job completed with a result; return its id."""
    request = admission(credential)
    await store.ledger.admit(request)
    await store.ledger.settle(
        Settlement(tenant=TENANT, job_id=request.job_id, state=JobState.COMPLETED, cost=1, result=result)
    )
    return request.job_id


@pytest.mark.parametrize(
    ("body", "packed"),
    [
        (b"", False),
        (text(PACK_FROM_BYTES // 2), False),
        (text(PACK_FROM_BYTES * 2), True),
        (text(THREAD_FROM_BYTES * 2), True),
        (noise(PACK_FROM_BYTES * 2), False),
        (noise(THREAD_FROM_BYTES * 2), False),
        (noise(100_000) + text(1_000_000), False),
    ],
    ids=["empty", "small", "text", "long text", "picture", "large picture", "picture first"],
)
async def test_bodies_are_packed_where_it_pays(body: bytes, packed: bool) -> None:
    """A text is deflated from 4 KiB on, what does not shrink is stored as it is, and either comes back whole."""
    stored, how = await pack(body)
    assert (how != "") is packed
    assert len(stored) <= len(body) // 5 if packed else stored is body
    assert await unpack(stored, how.encode()) == body


@pytest.mark.parametrize(
    "result",
    [
        StoredResult(body=text(1000), content_type="application/json"),
        StoredResult(body=text(8 * MIB - 100), content_type="application/json; charset=utf-8"),
        StoredResult(body=noise(8 * MIB), content_type="image/jpeg"),
    ],
    ids=["usual", "8 MiB of text", "8 MiB picture"],
)
async def test_a_result_is_served_as_it_was_received(store: Store, result: StoredResult) -> None:
    """Its owner reads the bytes and the content type that were stored, up to 8 MiB, and a replay gets the same."""
    credential = await store.caller(TENANT)
    job_id = await keep(store, credential, result)
    reading = await store.jobs.read(credential, job_id, with_result=True)
    assert isinstance(reading, Reading)
    assert reading.result == result == await store.jobs.kept(TENANT, job_id)


async def test_what_shrinks_takes_less_room(store: Store) -> None:
    """A long text takes a fraction of its length in Redis."""
    body = text(2 * MIB)
    job_id = await keep(store, await store.caller(TENANT), StoredResult(body=body, content_type="application/json"))
    assert await store.client.hstrlen(keys.result(TENANT, job_id), "body") < len(body) // 50


async def test_a_result_ends_before_its_job(store: Store) -> None:
    """The body expires by itself; the job's summary is still read, without it."""
    credential = await store.caller(TENANT)
    job_id = await keep(store, credential, StoredResult(body=b"{}", content_type="application/json"))
    lives = [await store.client.ttl(name(TENANT, job_id)) for name in (keys.result, keys.job)]
    assert [round(life_s / 86_400) for life_s in lives] == [7, 90]
    await store.client.delete(keys.result(TENANT, job_id))
    reading = await store.jobs.read(credential, job_id, with_result=True)
    assert isinstance(reading, Reading)
    assert reading.result is None
    assert reading.job is not None
    assert (reading.job.state, reading.job.has_result) == (JobState.COMPLETED, True)
