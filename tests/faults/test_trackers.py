"""Several processes follow the same jobs: one may pause past its lease, and any number of readers cost no poll."""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter
from pathlib import Path
from urllib.parse import urlsplit

from support.fleet import Fleet, Member, fleet_on
from support.gateway import TENANT, eventually, nano
from support.ledger import assert_audited, entries

from gateway.cli.closed_loop import Plan, request_bytes, run
from gateway.core.job import JobState
from gateway.core.queue import DueEntry
from gateway.core.schedule import MIN_INTERVAL_S
from gateway.sandbox import Fault


async def test_r27_a_tracker_pauses_past_its_lease(redis_url: str, tmp_path: Path) -> None:
    """A process that stops while it fetches the result is overtaken; when it goes on, its settlement is a no-op."""
    async with fleet_on(redis_url, tmp_path, time_scale=600.0) as fleet:
        paused = await fleet.start()
        fleet.vendor.sandbox.faults.add(Fault(action="delay", on=("result",), delay_s=2, after=True, times=1))
        job_id = await fleet.submit(1, paused)
        await eventually(lambda: _fetched(fleet, 1))
        os.kill(paused.pid, signal.SIGSTOP)
        heir = await fleet.start()
        await fleet.store.due.schedule([DueEntry(TENANT, job_id)])  # the lease is over
        await fleet.all_ended()
        before = await entries(fleet.store.client, TENANT), await fleet.money(), await fleet.jobs([job_id])
        os.kill(paused.pid, signal.SIGCONT)
        await eventually(lambda: _has_result(paused, job_id))
        os.kill(paused.pid, signal.SIGTERM)  # it finishes what it is at
        assert await paused.shell.wait() == 0
        fleet.members.remove(paused)

        [job] = before[2]
        [accepted] = fleet.vendor.sandbox.accepted
        assert (job.state, job.has_result) == (JobState.COMPLETED, True)
        assert before[1] == (nano(str(accepted["billed"])), 0)
        assert [entry["kind"] for entry in before[0]].count("settle") == 1
        after = await entries(fleet.store.client, TENANT), await fleet.money(), await fleet.jobs([job_id])
        assert after == before
        told = [[line for line in member.lines() if line.get("event") == "job.ended"] for member in (paused, heir)]
        assert [len(lines) for lines in told] == [0, 1]
        assert fleet.vendor.sandbox.jobs[0].result_polls == 2
        await assert_audited(fleet.store.client)


async def test_r30_readers_are_free(redis_url: str, tmp_path: Path) -> None:
    """Thousands of reads of one job, at two processes, cause no poll: it is polled as one that nobody reads."""
    async with fleet_on(redis_url, tmp_path, time_scale=60.0) as fleet:
        members = [await fleet.start() for _ in range(2)]
        read, unread = [await fleet.submit(number, members[0]) for number in range(2)]
        reading = [asyncio.create_task(hammer(fleet, member, read)) for member in members]
        await fleet.all_ended()
        answered = await asyncio.gather(*reading)
        known = {job.request_id: job for job in fleet.vendor.sandbox.jobs}
        pair = [known[job.upstream_id or ""] for job in await fleet.jobs([read, unread])]
        assert min(answered) >= 1000
        for job in pair:
            assert job.status_polls <= job.total_s / MIN_INTERVAL_S + 2
        paths = Counter((call.method, call.path) for call in fleet.vendor.sandbox.calls)
        assert sum(paths.values()) == 2 + sum(job.status_polls + job.result_polls for job in pair)
        await assert_audited(fleet.store.client)


async def hammer(fleet: Fleet, member: Member, job_id: str) -> int:
    """Read a job's status a few thousand times; return how often it was answered."""
    where = urlsplit(member.url)
    report = await run(
        Plan(
            host=where.hostname or "",
            port=where.port or 0,
            requests=[request_bytes(where.netloc, f"/v2/requests/{job_id}/status", headers={"x-api-key": fleet.key})],
            connections=8,
            count=2000,
        )
    )
    return sum(count for status, count in report.statuses.items() if int(status) == 200)


async def _fetched(fleet: Fleet, times: int) -> bool:
    return sum(job.result_polls for job in fleet.vendor.sandbox.jobs) >= times


async def _has_result(member: Member, job_id: str) -> bool:
    return any(line.get("operation") == "result" and line.get("job_id") == job_id for line in member.lines())
