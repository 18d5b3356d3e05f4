"""Several real ``gateway serve`` processes on one store, against one sandbox."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from asyncio.subprocess import PIPE, STDOUT, Process
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx
from support import skewed
from support.gateway import DEADLINE_S, TENANT, eventually, scaled
from support.ledger import Store, open_store
from support.ports import UNLIMITED
from support.scrape import Series, parsed
from support.valkey import WATCHDOG
from support.vendor import KEY, KLING

from gateway.core.job import Job
from gateway.core.policy import Policy
from gateway.core.tenant import TenantPolicy
from gateway.sandbox import SandboxSettings
from gateway.sandbox.server import Running, running
from gateway.service.tenants import TenantAdmin
from gateway.store import keys
from gateway.store.readiness import ensure_epoch

RECORD_TTL_S: Final = 3600.0
"""In real seconds, whatever the time scale."""


@dataclass(slots=True)
class Member:
    """One process; ``shell`` watches over it and ends it should the test process die."""

    shell: Process
    log: Path
    url: str
    ops_url: str
    pid: int

    def lines(self) -> list[dict[str, Any]]:
        """Return what it has logged so far, in whole lines."""
        lines = self.log.read_text().splitlines()
        return [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]

    def polls(self) -> int:
        """Count its status calls to the vendor."""
        return sum(line.get("operation") == "status" for line in self.lines())

    async def kill(self) -> None:
        """End it at once."""
        os.kill(self.pid, signal.SIGKILL)
        await self.shell.wait()


@dataclass(slots=True)
class Fleet:
    """The processes, their store and their vendor, with one tenant whose key `http` has."""

    store: Store
    vendor: Running
    http: httpx.AsyncClient
    key: str
    directory: Path
    env: dict[str, str]
    members: list[Member] = field(default_factory=list)

    async def start(self, role: str = "all", *, skew_s: float = 0.0) -> Member:
        """Start one more process, whose clock may be off by some seconds, and wait until it is ready."""
        gateway = ("-P", skewed.__file__, f"{skew_s:g}") if skew_s else ("-m", "gateway")
        log = self.directory / f"gateway-{len(self.members)}.log"
        with log.open("wb") as output:
            shell = await asyncio.create_subprocess_exec(
                *("/bin/sh", "-c", WATCHDOG, "watchdog", sys.executable, *gateway, "serve"),
                stdin=PIPE,
                stdout=output,
                stderr=STDOUT,
                start_new_session=True,
                env={**self.env, "GATEWAY_ROLE": role},
            )
        member = Member(shell, log, "", "", 0)
        self.members.append(member)
        started = await eventually(lambda: _started(member))
        member.url, member.pid = started["url"], started["pid"]
        member.ops_url = f"http://127.0.0.1:{started['ops_port']}"
        await eventually(lambda: self._answers(f"{member.ops_url}/readyz"))
        return member

    async def submit(self, number: int, to: Member) -> str:
        """Submit a job to a process; return its id."""
        answer = await self.http.post(
            f"{to.url}/v2/{KLING}", json={"prompt": f"job {number}"}, headers={"idempotency-key": str(number)}
        )
        assert answer.status_code == httpx.codes.OK, answer.text
        return str(answer.json()["request_id"])

    async def jobs(self, ids: Sequence[str]) -> list[Job]:
        """Read records."""
        found = await asyncio.gather(*(self.store.jobs.find(TENANT, job_id) for job_id in ids))
        return [job for job in found if job is not None]

    async def all_ended(self) -> None:
        """Wait until no job holds a concurrency slot."""
        await eventually(self._idle, 2 * DEADLINE_S)

    async def money(self) -> tuple[int, int]:
        """Read what the tenant has spent and what is held, nanocredits."""
        total = (await self.store.jobs.windows(TENANT))[-1]
        return total.spent, total.held

    async def scraped(self, member: Member) -> Series:
        """Return every sample of a process's ops port."""
        return parsed((await self.http.get(f"{member.ops_url}/metrics")).text)

    async def close(self) -> None:
        """End every process."""
        for member in self.members:
            if member.shell.stdin is not None:
                member.shell.stdin.close()
        await asyncio.wait_for(asyncio.gather(*(member.shell.wait() for member in self.members)), DEADLINE_S)

    async def _idle(self) -> bool:
        return await self.store.client.zcard(keys.active(TENANT)) == 0

    async def _answers(self, url: str) -> bool:
        try:
            return (await self.http.get(url)).status_code == httpx.codes.OK
        except httpx.TransportError:
            return False


def runs(pid: int) -> bool:
    """Tell whether a process runs; one that nobody has waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def _started(member: Member) -> dict[str, Any] | None:
    assert member.shell.returncode is None, member.log.read_text()
    return next((line for line in member.lines() if line.get("event") == "gateway.started"), None)


@asynccontextmanager
async def fleet_on(redis_url: str, directory: Path, *, time_scale: float, **sandbox: Any) -> AsyncIterator[Fleet]:  # noqa: ANN401
    """Prepare an empty store and a sandbox; the processes are started by the test, and end with the block.

    Args:
        redis_url: The store.
        directory: For the logs.
        time_scale: How many times faster than the vendor jobs run.
        sandbox: Further fields of `SandboxSettings`.
    """
    settings = SandboxSettings(
        api_keys=(KEY,), time_scale=time_scale, record_ttl_s=RECORD_TTL_S * time_scale, kept_calls=100_000, **sandbox
    )
    async with AsyncExitStack() as stack:
        vendor = await stack.enter_async_context(running(settings))
        store = await stack.enter_async_context(open_store(redis_url))
        await ensure_epoch(store.client)
        await store.tenants.put_rules(scaled(Policy(), time_scale))
        await store.tenants.put(TenantPolicy(TENANT, submit=UNLIMITED, read=UNLIMITED, concurrent_jobs=1000))
        key = (await TenantAdmin(store.tenants).create_key(TENANT)).text.reveal()
        http = httpx.AsyncClient(headers={"x-api-key": key}, trust_env=False, timeout=DEADLINE_S)
        await stack.enter_async_context(http)
        fleet = Fleet(store, vendor, http, key, directory, _environment(redis_url, vendor.url))
        stack.push_async_callback(fleet.close)
        yield fleet


def _environment(redis_url: str, vendor_url: str) -> dict[str, str]:
    urls = dict.fromkeys(("GATEWAY_UPSTREAM_URL", "GATEWAY_STORAGE_URL", "GATEWAY_HISTORY_URL"), vendor_url)
    ports = {"GATEWAY_PORT": "0", "GATEWAY_OPS_PORT": "0"}
    # The store answers late on a machine that runs many tests at once.
    patience = {"GATEWAY_REDIS_TIMEOUT_MS": "500", "GATEWAY_REDIS_CONNECT_TIMEOUT_MS": "500"}
    patience["GATEWAY_OVERLOAD_LATE_MS"] = "60000"
    return {
        **urls,
        **ports,
        **patience,
        "PATH": os.environ["PATH"],
        "GATEWAY_REDIS_URL": redis_url,
        "GATEWAY_DRAIN_SECONDS": "2",
        "SEGMIND_API_KEY": KEY,
    }
