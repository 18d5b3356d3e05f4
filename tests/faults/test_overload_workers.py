"""Several workers (GATEWAY_WORKERS) are one gateway: counted once, replaced when they die, ended together."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from support.fleet import Fleet, Member, fleet_on, runs
from support.gateway import DEADLINE_S, eventually
from support.scrape import total
from support.vendor import KLING

from gateway.cli.workers import pause_s


@pytest.fixture
async def fleet(redis_url: str, tmp_path: Path) -> AsyncIterator[Fleet]:
    """Give a fleet whose member has two workers."""
    async with fleet_on(redis_url, tmp_path, time_scale=600.0) as ready:
        ready.env["GATEWAY_WORKERS"] = "2"
        yield ready


def workers(member: Member) -> list[int]:
    """List the workers that have started so far."""
    return [line["pid"] for line in member.lines() if line.get("event") == "worker.started"]


async def counted(fleet: Fleet, member: Member) -> float:
    """Return how many requests the metrics have counted."""
    return total(await fleet.scraped(member), "gateway_http_requests_total")


async def ask(member: Member, key: str, times: int) -> list[int]:
    """Ask for the models over a new connection each time."""
    async with httpx.AsyncClient(headers={"x-api-key": key, "connection": "close"}, trust_env=False) as http:
        return [(await http.get(f"{member.url}/v1/models", timeout=DEADLINE_S)).status_code for _ in range(times)]


async def test_two_workers_are_one_gateway(fleet: Fleet) -> None:
    """Each request is counted once, over both and over the death of one, which is replaced; SIGTERM ends all with 0."""
    member = await fleet.start()
    first = workers(member)
    assert len(first) == 2
    statuses = [
        status for part in await asyncio.gather(*(ask(member, fleet.key, 10) for _ in range(4))) for status in part
    ]
    assert statuses == [200] * 40
    assert await counted(fleet, member) == 40
    os.kill(first[0], signal.SIGKILL)
    assert await ask(member, fleet.key, 10) == [200] * 10
    await eventually(lambda: _are(len(workers(member)) == 3))
    await eventually(lambda: _ready(fleet, member))
    assert await ask(member, fleet.key, 10) == [200] * 10
    assert await counted(fleet, member) == 60
    assert (await fleet.http.post(f"{member.url}/v2/{KLING}", json={"prompt": "x"})).status_code == 200
    os.kill(member.pid, signal.SIGTERM)
    assert await asyncio.wait_for(member.shell.wait(), DEADLINE_S) == 0
    assert not any(runs(pid) for pid in workers(member))
    fleet.members.clear()


async def test_workers_do_not_outlive_their_supervisor(fleet: Fleet) -> None:
    """When the supervisor is killed, its workers drain and end by themselves."""
    member = await fleet.start()
    pids = workers(member)
    os.kill(member.pid, signal.SIGKILL)
    await eventually(lambda: _are(not any(runs(pid) for pid in pids)))
    drained = [line["event"] for line in member.lines() if line.get("event") == "gateway.draining"]
    assert len(drained) == 2


async def test_a_worker_that_can_not_be_replaced_now_takes_no_other_with_it(fleet: Fleet) -> None:
    """Where there is no descriptor for another worker, the others go on, and it is replaced when there is one."""
    member = await fleet.start()
    first, open_files = workers(member), await asyncio.to_thread(os.listdir, f"/proc/{member.pid}/fd")
    most = resource.prlimit(member.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(member.pid, resource.RLIMIT_NOFILE, (len(open_files), most[1]))
    os.kill(first[0], signal.SIGKILL)
    await eventually(lambda: _are(any(line.get("event") == "worker.not_begun" for line in member.lines())))
    assert await ask(member, fleet.key, 5) == [200] * 5
    resource.prlimit(member.pid, resource.RLIMIT_NOFILE, most)
    await eventually(lambda: _are(len(workers(member)) == 3))


async def test_a_mistake_ends_all_at_the_start(fleet: Fleet) -> None:
    """A worker that can't start is not tried for ever: the command ends with its exit code."""
    fleet.env["SEGMIND_API_KEY"] = ""
    with pytest.raises(AssertionError, match="SEGMIND_API_KEY"):
        await fleet.start()
    assert await asyncio.wait_for(fleet.members.pop().shell.wait(), DEADLINE_S) == 2


def test_a_worker_that_dies_all_day_is_begun_again_all_day() -> None:
    """The pause grows to its most and stays there, however often it dies."""
    assert [pause_s(0), pause_s(1), pause_s(10_000)] == [0.1, 0.2, 5.0]


async def _ready(fleet: Fleet, member: Member) -> bool:
    return (await fleet.http.get(f"{member.ops_url}/readyz")).status_code == httpx.codes.OK


async def _are(state: bool) -> bool:
    return state
