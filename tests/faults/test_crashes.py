"""One crash at a time: what a process leaves behind when it dies in the middle, and what another makes of it."""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import pytest
from support.gateway import TENANT, eventually
from support.ledger import CREDIT, entries
from support.proxy import Fault, tcp_proxy
from support.stage import Piece, Stage, stage_on
from support.valkey import HOST

from gateway.core.faultpoints import FaultPoint
from gateway.core.job import Job, JobState
from gateway.core.movements import Settlement
from gateway.service.sweep import BEAT_TTL_S, ORPHANS_S
from gateway.store import keys

PATH: Final = "/v2/flux-2-pro"
WITHIN_S: Final = 15


@pytest.fixture
async def stage(redis_url: str, tmp_path: Path) -> AsyncIterator[Stage]:
    """Set the stage, with one job that has ended well, so that the vendor's history knows the model."""
    async with stage_on(redis_url, tmp_path, failure_rate=0) as ready:
        await _sent(ready, Piece("earlier", PATH))
        await ready.recover()
        await ready.bury()
        yield ready


async def _sent(stage: Stage, piece: Piece) -> str:
    """Send a piece of work; return the job's id."""
    answer = await stage.send(piece, await stage.start("api"))
    assert answer is not None
    return str(answer.json()["request_id"])


async def _crash(stage: Stage, point: FaultPoint) -> Job | None:
    """Have a process die while it takes in a piece of work; return what is on record of it."""
    victim = await stage.start("api", (point, 1, "kill"))
    assert await stage.send(Piece("lost", PATH), victim) is None
    assert await victim.child.end() == -signal.SIGKILL
    ids = {entry["job"] for entry in await entries(stage.store.client, TENANT) if entry["kind"] == "hold"}
    jobs = [await stage.store.jobs.find(TENANT, job_id) for job_id in ids]
    return next((job for job in jobs if job is not None and job.state is not JobState.COMPLETED), None)


async def _doubted_in_time(stage: Stage) -> None:
    """Check that a dead process is noticed in time: its last heartbeat ends, and somebody looks."""
    beats = await stage.store.client.keys(keys.beat("*"))
    assert beats
    assert max([await stage.store.client.pttl(beat) for beat in beats]) <= BEAT_TTL_S * 1000
    assert BEAT_TTL_S + ORPHANS_S < WITHIN_S


async def _after(stage: Stage, job: Job) -> tuple[Job, Counter[str]]:
    """Let another process put it right; return the record and what that process told of the job."""
    heir = await stage.recover()
    heir.child.signal(signal.SIGTERM)
    await heir.child.end()
    found = await stage.store.jobs.find(TENANT, job.id)
    assert found is not None
    return found, Counter(line["event"] for line in heir.child.lines() if line.get("job_id") == job.id)


async def test_r01_crash_before_the_hold(stage: Stage) -> None:
    """Nothing is held and nothing is sent; the same key then starts the job."""
    assert await _crash(stage, FaultPoint.BEFORE_ADMISSION) is None
    assert (await stage.store.jobs.windows(TENANT))[-1].held == 0
    assert stage.accepted() == 1
    await stage.recover()
    assert stage.accepted() == 2


async def test_r02_crash_after_admission_before_the_bytes_left(stage: Stage) -> None:
    """The job is UNKNOWN in time, is not sent again, and is released once the history shows that it never ran."""
    job = await _crash(stage, FaultPoint.ADMITTED)
    assert job is not None
    assert (job.state, stage.accepted()) == (JobState.SENDING, 1)
    await _doubted_in_time(stage)
    after, told = await _after(stage, job)
    assert (told["job.unknown"], told["job.released"]) == (1, 1)
    assert (after.state, stage.accepted()) == (JobState.REJECTED, 1)
    assert "not in its request history" in (after.reason or "")


async def test_r03_crash_after_the_bytes_left(stage: Stage) -> None:
    """The hold stands, nothing is sent again, and the job is adopted from the vendor's history."""
    await _adopted(stage, FaultPoint.SENT)


async def test_r04_crash_after_the_answer_before_the_record(stage: Stage) -> None:
    """As before an answer: the job is adopted from the vendor's history."""
    await _adopted(stage, FaultPoint.ANSWERED)


async def _adopted(stage: Stage, point: FaultPoint) -> None:
    job = await _crash(stage, point)
    assert job is not None
    assert (job.state, job.upstream_id, (await stage.store.jobs.windows(TENANT))[-1].held) == (
        JobState.SENDING, None, job.hold,
    )  # fmt: skip
    await _doubted_in_time(stage)
    after, told = await _after(stage, job)
    assert (told["job.unknown"], told["job.adopted"], told["job.ended"]) == (1, 1, 1)
    assert (after.state, after.has_result, stage.accepted()) == (JobState.COMPLETED, True, 2)


async def test_r05_crash_after_the_record_before_our_answer(stage: Stage) -> None:
    """The same key gets the same job at once, from another process."""
    job = await _crash(stage, FaultPoint.RECORDED)
    assert job is not None
    assert job.state is JobState.ACCEPTED
    assert await _sent(stage, Piece("lost", PATH)) == job.id
    after, _ = await _after(stage, job)
    assert (after.state, stage.accepted()) == (JobState.COMPLETED, 2)


async def test_r23_crash_while_redis_is_away(stage: Stage, redis_url: str) -> None:
    """The vendor has accepted, Redis is gone, the caller has 504 with the id; then the process dies: it is adopted."""
    async with tcp_proxy(HOST, urlsplit(redis_url).port or 0) as proxy:
        victim = await stage.start("api", GATEWAY_REDIS_URL=f"redis://{HOST}:{proxy.port}/0")
        before = stage.accepted()
        await stage.knobs(faults=[{"action": "delay", "on": ["submit"], "after": True, "delay_s": 2, "times": 1}])
        sending = asyncio.create_task(stage.send(Piece("lost", PATH), victim))
        await eventually(lambda: _reached(stage, before + 1))
        proxy.fault = Fault.CUT
        answer = await sending
        assert answer is not None
        said = answer.json()
        assert (answer.status_code, said["code"]) == (504, "outcome_unknown")
        await victim.child.kill()
    job = await stage.store.jobs.find(TENANT, said["request_id"])
    assert job is not None
    assert (job.state, job.upstream_id) == (JobState.SENDING, None)
    after, told = await _after(stage, job)
    assert (told["job.unknown"], told["job.adopted"], told["job.ended"]) == (1, 1, 1)
    assert (after.state, after.has_result, stage.accepted()) == (JobState.COMPLETED, True, before + 1)


async def _reached(stage: Stage, count: int) -> bool:
    return stage.accepted() >= count


@pytest.mark.parametrize("point", [FaultPoint.BEFORE_END, FaultPoint.ENDED])
async def test_r06_crash_during_settlement(stage: Stage, point: FaultPoint) -> None:
    """All of a settlement is there or nothing of it, and there is one, whoever settles again."""
    job_id = await _sent(stage, Piece("lost", PATH))
    await stage.hasten()
    victim = await stage.fork("tracker", (point, 1, "kill"))
    assert await victim.end() == -signal.SIGKILL
    job, total = await stage.store.jobs.find(TENANT, job_id), (await stage.store.jobs.windows(TENANT))[-1]
    assert job is not None
    settled = point is FaultPoint.ENDED
    assert (job.state is JobState.COMPLETED, job.has_result, total.held == 0) == (settled, settled, settled)
    after, told = await _after(stage, job)
    assert (after.state, told["job.ended"]) == (JobState.COMPLETED, 0 if settled else 1)
    before = await _money(stage)
    again = Settlement(tenant=TENANT, job_id=job_id, state=JobState.COMPLETED, cost=2 * CREDIT)
    assert (await stage.store.ledger.settle(again)).changed is False
    assert await _money(stage) == before
    assert [entry["kind"] for entry in before[1] if entry["job"] == job_id].count("settle") == 1


async def _money(stage: Stage) -> tuple[object, list[dict[str, str]]]:
    return await stage.store.jobs.windows(TENANT), await entries(stage.store.client, TENANT)
