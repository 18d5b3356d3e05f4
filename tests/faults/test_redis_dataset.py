"""Redis answers, and is not what it was: flushed, the wrong database, volatile, or an older snapshot."""

from __future__ import annotations

import asyncio
import io
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from support.commands import reconcile
from support.gateway import PROMPT, TENANT, Gateway, eventually, gateway_on, settings_for
from support.ledger import open_store
from support.valkey import client_of, free_port, valkey_server
from support.vendor import KEY, KLING

from gateway.cli.serve import serving
from gateway.core.tenant import TenantPolicy, new_api_key
from gateway.sandbox import Fault, SandboxSettings
from gateway.sandbox.server import running
from gateway.service.tenants import TenantAdmin
from gateway.store.readiness import ensure_epoch, read_rewound


async def told(gateway: Gateway, event: str) -> str:
    """Wait for an alert; return what it says."""

    async def said() -> str:
        return next((line["detail"] for line in gateway.lines() if line["event"] == event), "")

    return await eventually(said)


async def unready(gateway: Gateway) -> bool:
    """Tell whether the ops port keeps requests away."""
    async with httpx.AsyncClient(trust_env=False) as http:
        return (await http.get(f"{gateway.ops_url}/readyz")).status_code == 503


async def test_r24_flushed(redis_url: str) -> None:
    """After FLUSHALL nobody is told that the key is wrong: 503 to all, unready, nothing sent; `apply` begins anew."""
    async with gateway_on(redis_url) as gateway:
        assert (await gateway.post()).status_code == 200
        await gateway.store.client.flushall()
        for answer in (await gateway.post(), await gateway.http.get("/v1/get-user-credits")):
            assert (answer.status_code, answer.json()["code"]) == (503, "store_unavailable"), answer.text
        assert "ledger:epoch is missing" in await told(gateway, "store.not_ready")
        await eventually(lambda: unready(gateway))
        assert gateway.upstream_posts() == 1

        await ensure_epoch(gateway.store.client)
        await gateway.store.tenants.put(TenantPolicy(TENANT))
        assert "in the place of" in await told(gateway, "store.rewound")
        answer = await gateway.post()  # the old key is of the old ledger
        assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated")
        new = (await TenantAdmin(gateway.store.tenants).create_key(TENANT)).text.reveal()
        assert (await gateway.http.post("/v2/kling-2.6", json={}, headers={"x-api-key": new})).status_code == 200


async def test_r24_the_wrong_database(redis_url: str) -> None:
    """A gateway on an empty database beside its ledger is never ready and refuses all; it makes no ledger of it."""
    wrong = redis_url.removesuffix("/0") + "/7"
    credential, secret = new_api_key(TENANT)
    async with (
        open_store(redis_url) as right,
        running(SandboxSettings(api_keys=(KEY,))) as vendor,
        serving(settings_for(wrong, vendor.url), io.BytesIO()) as served,
    ):
        await ensure_epoch(right.client)
        await right.tenants.put(TenantPolicy(TENANT))
        await right.tenants.add_key(credential, "test", ttl_s=None)

        async def refused() -> bool:
            return "ledger:epoch is missing" in served.readiness.reasons.get("store", "")

        await eventually(refused)
        async with httpx.AsyncClient(trust_env=False) as http:
            answer = await http.post(f"{served.url}/v2/{KLING}", json=PROMPT, headers={"x-api-key": secret.reveal()})
        assert (answer.status_code, answer.json()["code"]) == (503, "store_unavailable")
        assert not vendor.sandbox.calls


async def test_r24_a_tenant_whose_node_was_flushed(cluster_url: str) -> None:
    """In a cluster one node's loss is its tenants' 503, not their 401, and never an unlimited budget."""
    async with open_store(cluster_url) as store:
        await store.client.flushall()
    async with gateway_on(cluster_url) as gateway:
        client = gateway.store.client
        names = [name async for name in client.scan_iter(match=f"{{{TENANT}}}:*")]
        await client.delete(*names)
        answer = await gateway.post()
        assert (answer.status_code, answer.json()["code"]) == (503, "store_unavailable"), answer.text
        assert gateway.upstream_posts() == 0


async def test_r25_refused_at_start(tmp_path: Path) -> None:
    """`gateway serve` ends at once on a Redis that may lose holds, and says why; for trials it can be told to go on."""
    with valkey_server(tmp_path, "--appendonly", "no", "--maxmemory-policy", "volatile-lru") as url:
        env = {"GATEWAY_REDIS_URL": url, "SEGMIND_API_KEY": KEY, "GATEWAY_PORT": "0", "GATEWAY_OPS_PORT": "0"}
        command = [sys.executable, "-m", "gateway", "serve"]
        ended = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)  # noqa: ASYNC221
        assert ended.returncode != 0
        assert "appendonly is not yes" in ended.stderr
        assert "maxmemory-policy is volatile-lru" in ended.stderr
        async with gateway_on(url, allow_volatile_redis=True) as gateway:
            assert (await gateway.post()).status_code == 200


async def test_r25_found_unfit_later(redis_url: str) -> None:
    """A server that begins to evict while we run makes the gateway unready until it is fit again."""
    async with gateway_on(redis_url) as gateway:
        await gateway.store.client.config_set("maxmemory-policy", "allkeys-lru")
        try:
            assert "maxmemory-policy is allkeys-lru" in await told(gateway, "store.not_ready")
            assert await unready(gateway)
        finally:
            await gateway.store.client.config_set("maxmemory-policy", "noeviction")
        await eventually(lambda: ready(gateway))


async def test_r35_an_older_snapshot(tmp_path: Path) -> None:
    """The processes that saw more tell of a restored snapshot, by tenant; `reconcile` finds the job that it lost."""
    port, data, backup = free_port(), tmp_path / "data", tmp_path / "backup"
    with valkey_server(data, port=port) as url:
        async with gateway_on(url) as gateway:
            assert (await gateway.post()).status_code == 200
            await killed(gateway, port)
            shutil.copytree(data, backup)
            with valkey_server(data, port=port):
                await eventually(lambda: ready(gateway))
                assert (await gateway.post()).status_code == 200
                await killed(gateway, port)
            with valkey_server(data, port=port):  # the first look after an outage sees all that there is
                await eventually(lambda: ready(gateway))
                await killed(gateway, port)
            assert "store.rewound" not in gateway.log.getvalue().decode()
            shutil.rmtree(data)
            shutil.copytree(backup, data)
            with valkey_server(data, port=port):
                assert f"went back, of {TENANT}" in await told(gateway, "store.rewound")
                await eventually(lambda: ready(gateway))
                noted = await read_rewound(gateway.store.client)
                assert noted is not None
                assert TENANT in noted
                assert (await gateway.post()).status_code == 200  # loud, and not the end of all work
                _, lost, _ = gateway.accepted()

                async def missed() -> list[str]:
                    told = json.loads((await reconcile(gateway, url, "--json")).stdout)
                    return [row["upstream_id"] for row in told["rows"] if row["what"] == "only_theirs"]

                assert await eventually(missed) == [lost["request_id"]]


@pytest.mark.parametrize("route", ["v2", "v1"])
async def test_r35_a_record_that_was_lost_while_its_job_was_sent(redis_url: str, route: str) -> None:
    """A job that the vendor takes, and the store no longer knows, is told with the vendor's id; a submit gets 504."""
    async with gateway_on(redis_url) as gateway:
        gateway.vendor.sandbox.faults.add(Fault(action="delay", on=("submit", "sync"), after=True, delay_s=5, times=1))
        answer = asyncio.create_task(gateway.post(f"/{route}/flux-2-pro"))
        await eventually(lambda: sent(gateway))
        client = gateway.store.client
        await client.delete(*[name async for name in client.scan_iter(match=f"{{{TENANT}}}:job:*")])
        assert (await answer).status_code == (504 if route == "v2" else 200)
        await told(gateway, "job.record_lost")
        [alert] = [line for line in gateway.lines() if line["event"] == "job.record_lost"]
        assert alert["upstream_id"] in {str(job["request_id"]) for job in gateway.accepted()}


async def sent(gateway: Gateway) -> bool:
    """Tell whether the vendor has been called."""
    return gateway.upstream_posts() > 0


async def killed(gateway: Gateway, port: int) -> None:
    """End the server, and wait until the gateway knows."""
    with client_of(port) as client:
        os.kill(client.info("server")["process_id"], signal.SIGKILL)
    await eventually(lambda: unready(gateway))


async def ready(gateway: Gateway) -> bool:
    """Tell whether the ops port lets requests come."""
    return not await unready(gateway)
