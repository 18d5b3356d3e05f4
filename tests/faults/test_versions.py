"""Two versions of the gateway side by side on one store, as in every rolling restart."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, Final

import pytest
from support.gateway import TENANT, gateway_on
from support.ledger import CREDIT, Store, admission, assert_audited, empty_store

from gateway.core.job import JobState
from gateway.core.movements import Admitted, Finished, Release, Settlement, StoredResult
from gateway.core.policy import Policy
from gateway.core.tenant import Credential
from gateway.store import keys
from gateway.store.epoch import EpochGuard
from gateway.store.ledger import RedisLedger
from gateway.store.scripts import Script, load_scripts

TEAM: Final = "team"
RESULT: Final = StoredResult(body=b"{}", content_type="application/json")
END: Final = "redis.call('HSET', keys.job, 'state', state,"
ACCEPT: Final = "redis.call('HSET', KEYS[1], 'state', 'ACCEPTED',"
Step = Callable[[RedisLedger, str], Awaitable[Finished | bool]]
STEPS: Final[Mapping[str, tuple[Step, ...]]] = {
    "settled": (
        lambda ledger, job: ledger.accept(TEAM, job, f"v-{job}"),
        lambda ledger, job: ledger.progress(TEAM, job, "PROCESSING"),
        lambda ledger, job: ledger.note_overdue(TEAM, job, 1),
        lambda ledger, job: ledger.settle(
            Settlement(tenant=TEAM, job_id=job, state=JobState.COMPLETED, cost=CREDIT // 2, result=RESULT)
        ),
    ),
    "adopted, then failed": (
        lambda ledger, job: ledger.doubt(TEAM, job, "reset"),
        lambda ledger, job: ledger.adopt(TEAM, job, f"v-{job}"),
        lambda ledger, job: ledger.progress(TEAM, job, None),
        lambda ledger, job: ledger.release(Release(tenant=TEAM, job_id=job, state=JobState.FAILED, reason="blocked")),
    ),
}


@pytest.fixture
async def store(valkey_url: str) -> AsyncIterator[Store]:
    """Open a store that holds nothing; its ledger must add up at the end."""
    async with empty_store(valkey_url) as opened:
        yield opened
        await assert_audited(opened.client)


def newer_scripts() -> Mapping[str, Script]:
    """Make the scripts of a version that keeps more of a job than this one knows."""

    def newer(source: str) -> str:
        source = source.replace(END, f"{END} 'ended_by', 'v2',")
        return source.replace(ACCEPT, f"{ACCEPT} 'accepted_by', 'v2',")

    library = {name: Script(name, newer(script.source)) for name, script in load_scripts().items()}
    changed = [name for name, script in load_scripts().items() if library[name].source != script.source]
    assert {"accept", "settle", "release"} <= set(changed)
    return library


def ledgers(store: Store) -> tuple[RedisLedger, RedisLedger]:
    """Make the ledger of this version and that of a newer one."""
    epoch = EpochGuard(store.client)
    return store.ledger, RedisLedger(store.scripts, newer_scripts(), Policy, epoch)


async def record(store: Store, tenant: str, job_id: str) -> dict[str, str]:
    """Read all that is kept of a job, known or not."""
    fields: dict[Any, Any] = await store.client.hgetall(keys.job(tenant, job_id))
    return {name.decode(): value.decode() for name, value in fields.items()}


async def admitted(store: Store, ledger: RedisLedger, caller: Credential) -> str:
    """Admit a job by one version, which notes something that the other does not know."""
    request = admission(caller)
    assert isinstance(await ledger.admit(request), Admitted)
    await store.client.hset(keys.job(TEAM, request.job_id), mapping={"future": "42", "shape": '{"a": [1]}'})
    return request.job_id


@pytest.mark.parametrize("path", STEPS)
async def test_r33_two_versions_side_by_side(store: Store, path: str) -> None:
    """Whichever version takes which step, the job ends as one would end it, and what the other knows stays."""
    versions = ledgers(store)
    caller = await store.caller(TEAM)
    ends = set()
    for turns in itertools.product(versions, repeat=1 + len(STEPS[path])):
        job = await admitted(store, turns[0], caller)
        noted = {"future": "42", "shape": '{"a": [1]}'}
        for step, ledger in zip(STEPS[path], turns[1:], strict=True):
            done = await step(ledger, job)
            assert done is True or (isinstance(done, Finished) and done.changed)
            kept = await record(store, TEAM, job)
            assert noted.items() <= kept.items()
            noted |= {name: kept[name] for name in ("accepted_by", "ended_by") if name in kept}
        assert ("ended_by" in noted) is (turns[-1] is versions[1])
        ended = await store.jobs.find(TEAM, job)
        assert ended is not None
        ends.add((ended.state, ended.cost, ended.vendor_status, ended.has_result))
        for step, ledger in zip(STEPS[path] * 2, versions * len(STEPS[path]), strict=False):
            again = await step(ledger, job)
            assert again is False or (isinstance(again, Finished) and not again.changed)
    assert len(ends) == 1


async def test_r33_unknown_fields_pass_the_whole_gateway(redis_url: str) -> None:
    """What a newer version noted of a job is still there when this one has tracked it to its end and served it."""
    async with gateway_on(redis_url) as gateway:
        job_id = (await gateway.post()).json()["request_id"]
        await gateway.store.client.hset(keys.job(TENANT, job_id), "future", "42")
        gateway.end_all()
        assert (await gateway.ended(job_id)).state is JobState.COMPLETED
        answer = await gateway.http.get(f"/v2/requests/{job_id}")
        assert answer.json()["status"] == "COMPLETED"
        assert (await record(gateway.store, TENANT, job_id))["future"] == "42"
