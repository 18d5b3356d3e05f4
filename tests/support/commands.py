"""The commands as real processes, and those that run beside a gateway of the test."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

from support.gateway import DEADLINE_S, TENANT, Gateway
from support.ledger import open_store
from support.vendor import KEY
from typer.testing import CliRunner, Result

from gateway.cli.main import app
from gateway.core.tenant import TenantPolicy
from gateway.sandbox.server import Running
from gateway.service.tenants import TenantAdmin
from gateway.store.embedded import embedded_store
from gateway.store.readiness import ensure_epoch


@asynccontextmanager
async def command(*words: str, **env: str) -> AsyncIterator[Process]:
    """Run ``gateway`` in an environment of its own; killed with the block, at the latest."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateway", *words),
        stdout=PIPE,
        stderr=PIPE,
        env={"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), **env},
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await asyncio.wait_for(process.communicate(), DEADLINE_S)


async def line_with(process: Process, pattern: str) -> str:
    """Read standard output up to a line that matches; return the first group."""
    assert process.stdout
    async with asyncio.timeout(DEADLINE_S):
        async for line in process.stdout:
            if match := re.search(pattern, line.decode()):
                return match[1]
    raise AssertionError((await process.stderr.read()).decode() if process.stderr else pattern)


def serve_env(vendor: Running, data_dir: Path) -> dict[str, str]:
    """Point ``gateway serve`` to the sandbox, on free ports and an embedded store."""
    urls = dict.fromkeys(("GATEWAY_UPSTREAM_URL", "GATEWAY_STORAGE_URL", "GATEWAY_HISTORY_URL"), vendor.url)
    ports = {"GATEWAY_PORT": "0", "GATEWAY_OPS_PORT": "0"}
    return {**urls, **ports, "SEGMIND_API_KEY": KEY, "GATEWAY_DATA_DIR": str(data_dir)}


async def tenant_key(data_dir: Path) -> str:
    """Put a tenant on record in an embedded store."""
    async with embedded_store(data_dir) as url, open_store(url) as store:
        await ensure_epoch(store.client)
        await store.tenants.put(TenantPolicy(TENANT))
        return (await TenantAdmin(store.tenants).create_key(TENANT)).text.reveal()


async def reconcile(gateway: Gateway, redis_url: str, *words: str, answer: str | None = None) -> Result:
    """Run the command beside the gateway."""
    env = {
        "GATEWAY_REDIS_URL": redis_url,
        "SEGMIND_API_KEY": KEY,
        "GATEWAY_UPSTREAM_URL": gateway.vendor.url,
        "GATEWAY_HISTORY_URL": gateway.vendor.url,
    }
    command = ("reconcile", "--from", f"{datetime.now(UTC):%Y-%m-%d}", *words)
    return await asyncio.to_thread(lambda: CliRunner().invoke(app, command, input=answer, env=env))
