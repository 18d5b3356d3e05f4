"""FAULTS row 10: a process ends while requests come, and nobody who does as told loses anything."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections import Counter
from pathlib import Path

import httpx
import pytest
from support.balancer import balancer
from support.commands import command, line_with, serve_env, tenant_key
from support.fleet import Fleet, Member, fleet_on
from support.gateway import DEADLINE_S, PROMPT, TENANT, eventually
from support.ledger import counters, entries, open_store, replayed
from support.vendor import KEY, KLING

from gateway.core.job import JobState
from gateway.sandbox import Fault, SandboxSettings
from gateway.sandbox.server import Running, running
from gateway.store.embedded import embedded_store, until_ended

RATE = 50.0


async def restarted(fleet: Fleet, member: Member) -> None:
    """End a process by SIGTERM, which it takes for success, and start another in its place."""
    os.kill(member.pid, signal.SIGTERM)
    assert await asyncio.wait_for(member.shell.wait(), DEADLINE_S) == 0
    fleet.members.remove(member)
    await fleet.start()


async def submits(http: httpx.AsyncClient, url: str, until: asyncio.Event) -> list[httpx.Response | Exception]:
    """Submit at a steady rate until told to stop; return what came of each."""
    tasks: list[asyncio.Task[httpx.Response]] = []
    loop = asyncio.get_running_loop()
    began = loop.time()
    while not until.is_set():
        number = len(tasks)
        tasks.append(
            asyncio.create_task(
                http.post(url, json={"prompt": f"job {number}"}, headers={"idempotency-key": f"k{number}"})
            )
        )
        await asyncio.sleep(max(0.0, began + len(tasks) / RATE - loop.time()))
    ends = await asyncio.gather(*tasks, return_exceptions=True)
    return [end for end in ends if isinstance(end, httpx.Response | Exception)]


async def test_r10_rolling_restart(redis_url: str, tmp_path: Path) -> None:
    """Two processes, restarted in turn under 50 submits/s: none fails but by 503 with Retry-After, none is lost."""
    async with fleet_on(redis_url, tmp_path, time_scale=600.0) as fleet:
        first, second = await fleet.start(), await fleet.start()
        few = httpx.Limits(max_connections=8)  # so that each comes to be used again soon, as a busy service's do
        http = httpx.AsyncClient(headers=fleet.http.headers, trust_env=False, timeout=DEADLINE_S, limits=few)
        async with balancer(lambda: fleet.members) as front, http:
            await eventually(lambda: _answers(fleet, f"http://127.0.0.1:{front.port}/openapi.json"))
            done = asyncio.Event()
            under_way = asyncio.create_task(submits(http, f"http://127.0.0.1:{front.port}/v2/{KLING}", done))
            await eventually(lambda: _accepted(fleet, 20))
            await restarted(fleet, first)
            await restarted(fleet, second)
            enough = len(fleet.vendor.sandbox.accepted) + 20
            await eventually(lambda: _accepted(fleet, enough))
            done.set()
            ends = await under_way
        failed = [end for end in ends if not isinstance(end, httpx.Response) or end.status_code != 200]
        assert [end for end in failed if not _is_refusal(end)] == []
        ids = [end.json()["request_id"] for end in ends if isinstance(end, httpx.Response) and end.status_code == 200]
        await fleet.all_ended()
        assert {job.state for job in await fleet.jobs(ids)} == {JobState.COMPLETED}
        assert len(set(ids)) == len(ids) == len(fleet.vendor.sandbox.accepted)
        assert set(Counter(str(job["body"]) for job in fleet.vendor.sandbox.accepted).values()) == {1}
        assert replayed(await entries(fleet.store.client, TENANT)) == await counters(fleet.store.client, TENANT)


async def test_r10_what_the_end_cuts_off_is_told_so(redis_url: str, tmp_path: Path) -> None:
    """Calls that the drain time does not suffice for: a submit gets 504 with its job's id, all else 503; exit 0."""
    async with fleet_on(redis_url, tmp_path, time_scale=600.0) as fleet:
        member = await fleet.start()
        fleet.vendor.sandbox.faults.add(Fault(action="delay", on=("submit", "sync", "upload"), delay_s=60))
        posts = {
            "submit": fleet.http.post(f"{member.url}/v2/{KLING}", json={"prompt": "x"}),
            "sync": fleet.http.post(f"{member.url}/v1/{KLING}", json={"prompt": "x"}),
            "upload": fleet.http.post(f"{member.url}/upload-asset", json={"data_urls": ["data:,x"]}),
        }
        under_way = {name: asyncio.create_task(post) for name, post in posts.items()}
        await eventually(lambda: _called(fleet, len(posts)))
        os.kill(member.pid, signal.SIGTERM)
        answers = {name: await task for name, task in under_way.items()}
        assert await asyncio.wait_for(member.shell.wait(), DEADLINE_S) == 0
        fleet.members.clear()
        for name in ("submit", "sync"):
            told = answers[name].json()
            assert (answers[name].status_code, told["code"]) == (504, "outcome_unknown")
            assert told["status_url"] == f"{member.url}/v2/requests/{told['request_id']}/status"
            [job] = await fleet.jobs([told["request_id"]])
            assert job.state in {JobState.SENDING, JobState.UNKNOWN}
            assert job.hold > 0
        assert (answers["upload"].status_code, answers["upload"].json()["code"]) == (503, "draining")
        assert answers["upload"].headers["retry-after"] == "1"
        assert all(answer.headers["connection"] == "close" for answer in answers.values())
        logged = {line["request_id"]: line["status"] for line in member.lines() if line.get("event") == "http.request"}
        told_ids = {answer.headers["x-request-id"]: answer.status_code for answer in answers.values()}
        assert told_ids.items() <= logged.items()


async def test_r10_sigterm_mid_submit(tmp_path: Path) -> None:
    """SIGTERM while submits are under way: unready, each is answered and on record, no new ones; exit 0, no Valkey."""
    async with running(SandboxSettings(api_keys=(KEY,), time_scale=600)) as vendor:
        key = await tenant_key(tmp_path)
        vendor.sandbox.faults.add(Fault(action="delay", on=("submit",), delay_s=6))
        async with command("serve", **serve_env(vendor, tmp_path)) as process:
            started = json.loads(await line_with(process, r'(.*"gateway.started".*)'))
            url, readyz = started["url"], f"http://127.0.0.1:{started['ops_port']}/readyz"
            async with httpx.AsyncClient(base_url=url, headers={"x-api-key": key}, trust_env=False, timeout=20) as http:
                assert await eventually(lambda: _reads(http, readyz, 200))
                under_way = [asyncio.create_task(http.post(f"/v2/{KLING}", json=PROMPT)) for _ in range(8)]
                await eventually(lambda: _posted(vendor, 8))
                process.send_signal(signal.SIGTERM)
                assert await eventually(lambda: _reads(http, readyz, 503))
                assert not any(task.done() for task in under_way)
                answers = await asyncio.gather(*under_way)
                with pytest.raises(httpx.ConnectError):
                    await http.post(f"/v2/{KLING}", json=PROMPT)
            assert await asyncio.wait_for(process.wait(), DEADLINE_S) == 0
        assert [answer.status_code for answer in answers] == [200] * 8
        await until_ended(tmp_path)
        accepted = {job["request_id"] for job in vendor.sandbox.accepted}
        async with embedded_store(tmp_path) as url, open_store(url) as store:
            jobs = [await store.jobs.find(TENANT, answer.json()["request_id"]) for answer in answers]
        assert {job.upstream_id for job in jobs if job} == accepted
        assert {job.state for job in jobs if job} <= {JobState.ACCEPTED, JobState.COMPLETED}
        await until_ended(tmp_path)


def _is_refusal(end: httpx.Response | Exception) -> bool:
    return isinstance(end, httpx.Response) and end.status_code == 503 and "retry-after" in end.headers


async def _accepted(fleet: Fleet, jobs: int) -> bool:
    return len(fleet.vendor.sandbox.accepted) >= jobs


async def _called(fleet: Fleet, calls: int) -> bool:
    return sum(call.method == "POST" for call in fleet.vendor.sandbox.calls) >= calls


async def _answers(fleet: Fleet, url: str) -> bool:
    try:
        return (await fleet.http.get(url)).status_code == httpx.codes.OK
    except httpx.TransportError:
        return False


async def _reads(http: httpx.AsyncClient, url: str, status: int) -> bool:
    return (await http.get(url)).status_code == status


async def _posted(vendor: Running, count: int) -> bool:
    return len(vendor.sandbox.calls) >= count
