"""Several processes on one store: what they do together, and that any of them may die."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import segmind
from support.fleet import Fleet, fleet_on
from support.gateway import TENANT, eventually, nano
from support.ledger import counters, entries, replayed
from support.scrape import Series
from support.vendor import KLING

from gateway.core.job import JobState
from gateway.core.schedule import MIN_INTERVAL_S


@pytest.fixture
async def fleet(redis_url: str, tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Fleet]:
    """Give a fleet without members, with the options of an indirect parameter; its ledger must add up at the end."""
    options: dict[str, Any] = {"time_scale": 150.0} | getattr(request, "param", {})
    async with fleet_on(redis_url, tmp_path, **options) as ready:
        yield ready
        client = ready.store.client
        assert replayed(await entries(client, TENANT)) == await counters(client, TENANT)


async def settled(fleet: Fleet, ids: list[str]) -> None:
    """Check that every job was sent once, has ended once, was charged what the vendor bills, and is readable."""
    sent = Counter(str(job["body"]) for job in fleet.vendor.sandbox.accepted)
    assert set(sent.values()) == {1}
    jobs = await fleet.jobs(ids)
    assert len(jobs) == len(sent) == len(ids)
    assert {(job.state, job.has_result) for job in jobs} == {(JobState.COMPLETED, True)}
    assert await fleet.money() == (sum(nano(str(job["billed"])) for job in fleet.vendor.sandbox.accepted), 0)
    ends = Counter(entry["job"] for entry in await entries(fleet.store.client, TENANT) if entry["kind"] == "settle")
    assert ends == Counter(ids)


async def test_three_processes_share_the_jobs(fleet: Fleet) -> None:
    """Whoever took a job in, every process polls, each job is polled as if there were one process, and ends once."""
    members = [await fleet.start() for _ in range(3)]
    ids = [await fleet.submit(number, members[number % 3]) for number in range(45)]
    await fleet.all_ended()
    await settled(fleet, ids)
    for job in fleet.vendor.sandbox.jobs:
        assert job.status_polls <= job.total_s / MIN_INTERVAL_S + 2
        assert job.result_polls == 1
    assert all(member.polls() > 0 for member in members)
    reads = [await fleet.http.get(f"{members[n % 3].url}/v2/requests/{job_id}") for n, job_id in enumerate(ids)]
    assert {(read.status_code, read.json()["status"]) for read in reads} == {(200, "COMPLETED")}


async def test_the_tracker_is_seen_in_the_metrics(fleet: Fleet) -> None:
    """Lag, due jobs, running jobs and the tenant's budget are on the ops port of a process that tracks."""
    member = await fleet.start()
    await fleet.submit(0, member)
    await fleet.all_ended()

    async def counted() -> Series | None:
        samples = await fleet.scraped(member)
        return samples if samples["gateway_tracker_lag_seconds_count", frozenset()] == member.polls() else None

    samples = await eventually(counted)  # the log is written a moment later
    assert samples["gateway_tracker_due_jobs", frozenset()] == 0
    assert ("gateway_jobs", frozenset({("state", "ACCEPTED")})) in samples


async def test_every_client_disappears(fleet: Fleet) -> None:
    """When nobody ever asks again, many gone before their answer, every job is settled, kept, and found by its key."""
    members = [await fleet.start() for _ in range(2)]
    submits = [asyncio.create_task(fleet.submit(number, members[number % 2])) for number in range(30)]
    await eventually(lambda: reached(fleet, 10))
    for task in submits:
        task.cancel()
    await asyncio.gather(*submits, return_exceptions=True)
    await fleet.all_ended()
    assert len(fleet.vendor.sandbox.accepted) >= 10
    ids = [await fleet.submit(number, members[0]) for number in range(30)]
    await fleet.all_ended()
    await settled(fleet, ids)


async def reached(fleet: Fleet, jobs: int) -> bool:
    """Tell whether the vendor has accepted so many jobs."""
    return len(fleet.vendor.sandbox.accepted) >= jobs


async def test_trackers_die_again_and_again(fleet: Fleet) -> None:
    """With a tracker SIGKILLed every second, every job is settled once, and no slot is left taken."""
    api = await fleet.start("api")
    trackers = [await fleet.start("tracker") for _ in range(2)]
    ids = [await fleet.submit(number, api) for number in range(40)]
    for turn in range(6):
        await trackers[turn % 2].kill()
        trackers[turn % 2] = await fleet.start("tracker")
    await fleet.all_ended()
    await settled(fleet, ids)
    assert api.polls() == 0


@pytest.mark.parametrize("fleet", [{"time_scale": 60.0}], indirect=True)
async def test_the_sdk_sees_the_end_soon(fleet: Fleet) -> None:
    """When the SDK's `wait()` returns, the vendor was asked at most once since the job had ended there."""
    member = await fleet.start()
    client = segmind.SegmindClient(api_key=fleet.key, base_url=f"{member.url}/v1")

    def drive() -> str:
        with client._client:
            return str(client.submit_async(KLING, prompt="job").wait(timeout=60, interval=0.2)["status"])

    assert await asyncio.to_thread(drive) == "COMPLETED"
    [job] = fleet.vendor.sandbox.jobs
    asked = [call.at for call in fleet.vendor.sandbox.calls if call.path.endswith("/status")]
    assert sum(at >= job.ends_at for at in asked) <= 1
    assert job.result_polls == 1


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_a_tracker_takes_no_requests(fleet: Fleet, workers: str) -> None:
    """Who calls a process that has no tenant API is refused at once, not left waiting for an answer."""
    fleet.env["GATEWAY_WORKERS"] = workers
    tracker = await fleet.start("tracker")
    with pytest.raises(httpx.ConnectError):
        await fleet.http.get(f"{tracker.url}/v1/models")
