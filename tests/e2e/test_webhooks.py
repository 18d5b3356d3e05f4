"""Webhooks through a whole gateway: asked for by a request, sent by the process, whatever becomes of it."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from support.gateway import DEADLINE_S, POLL_S, PROMPT, TENANT, Gateway, eventually
from support.ledger import Store, open_store
from support.raw_upstream import RawUpstream, hangs
from support.receiver import host_of, jobs_told, receiving, takes, verified
from support.vendor import KEY, KLING

from gateway.core.tenant import TenantPolicy
from gateway.core.webhook import Delivery
from gateway.sandbox import SandboxSettings
from gateway.sandbox.server import running
from gateway.service.tenants import TenantAdmin
from gateway.store.readiness import ensure_epoch

LEASE_AND_REPAIR_S = 45.0
private = pytest.mark.parametrize("gateway", [{"webhook_allow_private": True}], indirect=True)


@pytest.fixture
async def receiver() -> AsyncIterator[RawUpstream]:
    """Run a receiver that takes everything."""
    async with receiving() as opened:
        yield opened


async def allow(gateway: Gateway, receiver: RawUpstream) -> None:
    """Let the tenant's webhooks go to a receiver."""
    await gateway.store.tenants.put(TenantPolicy(TENANT, webhook_hosts=(host_of(receiver),)))


async def delivery(gateway: Gateway, job_id: str, state: str) -> Delivery:
    """Wait until a job's delivery has reached a state."""

    async def found() -> Delivery | None:
        delivery = await gateway.store.deliveries.delivery(TENANT, job_id)
        return delivery if delivery is not None and delivery.state == state else None

    return await eventually(found)


async def lines_of(gateway: Gateway, event: str) -> list[dict[str, Any]]:
    """Return the log lines of an event."""
    return [line for line in gateway.lines() if line["event"] == event]


@private
async def test_the_end_of_a_job_is_announced(gateway: Gateway, receiver: RawUpstream) -> None:
    """Whoever submitted with a webhook gets one verified message; log and metrics tell of it, without its URL."""
    await allow(gateway, receiver)
    answer = await gateway.post(x_webhook_url=f"{receiver.url}/hook?token=hunter2", x_gateway_labels="shot=12")
    job_id = answer.json()["request_id"]
    await delivery(gateway, job_id, "delivered")
    (message,) = receiver.requests
    told = verified(message, (await gateway.store.deliveries.secret(TENANT)).reveal())
    job = await gateway.job(job_id)
    assert (told["type"], told["data"]["request_id"], told["data"]["labels"]) == (
        "job.completed",
        job_id,
        {"shot": "12"},
    )
    assert told["data"]["cost"] * 10**9 == pytest.approx(job.cost)
    (line,) = await eventually(lambda: lines_of(gateway, "webhook.delivery"))
    assert (line["outcome"], line["job_id"], line["receiver"]) == ("delivered", job_id, host_of(receiver))
    assert b"hunter2" not in gateway.log.getvalue()
    async with httpx.AsyncClient(trust_env=False) as http:
        metrics = (await http.get(f"{gateway.ops_url}/metrics")).text
    assert f'gateway_webhook_deliveries_total{{outcome="delivered",tenant="{TENANT}"}} 1.0' in metrics


@private
async def test_a_sync_call_is_announced_where_it_says_so(gateway: Gateway, receiver: RawUpstream) -> None:
    """Its answer is its end, so the tenant's default does not count; what the request names does."""
    await gateway.store.tenants.put(TenantPolicy(TENANT, webhook_url=receiver.url))
    assert (await gateway.post("/v1/faceswap-v2")).status_code == 200
    assert (await gateway.post("/v1/faceswap-v2", x_webhook_url=f"{receiver.url}/sync")).status_code == 200
    await receiver.arrived.wait()
    job_id = (await gateway.post()).json()["request_id"]
    await delivery(gateway, job_id, "delivered")
    assert [message.line.split()[1] for message in receiver.requests] == ["/sync", "/"]


async def test_a_host_off_the_list_is_refused_before_anything_is_spent(gateway: Gateway) -> None:
    """403 `webhook_not_allowed`, nothing held, nothing sent; a quote says the same."""
    refused = await gateway.post(x_webhook_url="https://evil.example/")
    assert (refused.status_code, refused.json()["code"]) == (403, "webhook_not_allowed")
    quoted = await gateway.post(f"/v2/{KLING}/quote", x_webhook_url="https://evil.example/")
    assert (quoted.json()["admitted"], quoted.json()["code"]) == (False, "webhook_not_allowed")
    assert await gateway.money() == (0, 0)
    assert gateway.upstream_posts() == 0


async def test_loopback_is_refused_even_where_it_is_listed(gateway: Gateway, receiver: RawUpstream) -> None:
    """Without the operator's setting no connection is made to an address that is not public, by name or number."""
    port = receiver.url.rpartition(":")[2]
    hosts = (f"127.0.0.1:{port}", f"localhost:{port}")
    await gateway.store.tenants.put(TenantPolicy(TENANT, webhook_hosts=hosts))
    for host in hosts:
        job_id = (await gateway.post(x_webhook_url=f"http://{host}/")).json()["request_id"]
        failed = await delivery(gateway, job_id, "failed")
        assert failed.log[-1].outcome == "refused"
    assert receiver.connections == 0


async def delivered(store: Store, ids: set[str]) -> bool:
    """Tell whether the webhooks of jobs were delivered."""
    found = [await store.deliveries.delivery(TENANT, job_id) for job_id in ids]
    return all(one is not None and one.state == "delivered" for one in found)


@asynccontextmanager
async def serve(redis_url: str, vendor_url: str) -> AsyncIterator[tuple[Process, str]]:
    """Run ``gateway serve`` as a process of its own; killed with the block, at the latest."""
    urls = dict.fromkeys(("GATEWAY_UPSTREAM_URL", "GATEWAY_STORAGE_URL", "GATEWAY_HISTORY_URL"), vendor_url)
    env = {
        **urls,
        "PATH": os.environ["PATH"],
        "GATEWAY_PORT": "0",
        "GATEWAY_OPS_PORT": "0",
        "GATEWAY_REDIS_URL": redis_url,
        "GATEWAY_WEBHOOK_ALLOW_PRIVATE": "true",
        "SEGMIND_API_KEY": KEY,
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gateway", "serve", stdout=PIPE, stderr=DEVNULL, env=env
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(DEADLINE_S):
            while not (
                match := re.search(r'"gateway.started".*"url":"([^"]+)"', (await process.stdout.readline()).decode())
            ):
                assert process.returncode is None
        # Its log is read to the end, so that it never waits for us.
        reading = asyncio.create_task(process.stdout.read())
        yield process, match[1]
        if process.returncode is None:
            process.kill()
        await reading
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def test_a_killed_process_loses_no_webhook(redis_url: str, receiver: RawUpstream) -> None:
    """SIGKILL between the end of a job and its delivery: another process delivers it, at least once."""
    receiver.reply = hangs
    async with running(SandboxSettings(api_keys=(KEY,), time_scale=600)) as vendor, open_store(redis_url) as store:
        await ensure_epoch(store.client)
        await store.tenants.put(TenantPolicy(TENANT, webhook_url=receiver.url))
        key = (await TenantAdmin(store.tenants).create_key(TENANT)).text.reveal()
        async with serve(redis_url, vendor.url) as (process, url):
            async with httpx.AsyncClient(base_url=url, headers={"x-api-key": key}, trust_env=False) as http:
                answers = [await http.post(f"/v2/{KLING}", json=PROMPT) for _ in range(3)]
            async with asyncio.timeout(DEADLINE_S):
                await receiver.arrived.wait()
            process.kill()
            await process.wait()
        receiver.reply = takes
        died = len(receiver.requests)
        ids = {answer.json()["request_id"] for answer in answers}
        async with serve(redis_url, vendor.url), asyncio.timeout(LEASE_AND_REPAIR_S):
            while not await delivered(store, ids):  # noqa: ASYNC110  # another process has no event to wait for
                await asyncio.sleep(POLL_S)
        secret = (await store.deliveries.secret(TENANT)).reveal()
    assert died
    assert set(jobs_told(receiver, secret)[died:]) == ids
