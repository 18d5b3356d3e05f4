"""What each part of the benchmark starts with: a fresh Valkey, the real gateway on it, tenants, keys and jobs."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, cast
from urllib.request import Request, urlopen

from support.ledger import Store, open_store
from support.valkey import valkey_server

from bench.processes import Server, server
from bench.rounds import answered
from bench.standin import MODEL, VendorFault
from bench.tenants import Caller, declare
from gateway.cli.closed_loop import Plan, request_bytes, run
from gateway.core.queue import DueEntry
from gateway.core.schedule import MAX_INTERVAL_S
from gateway.store import keys

QUICK_MODEL: Final = "faceswap-v2"
COMPANY_KEY: Final = "SG_00000000000000aa"
BODY: Final = json.dumps(
    {
        "prompt": "cat and dog are dancing.",
        "image_url": "https://segmind-resources.s3.amazonaws.com/input/character.png",
        "video_url": "https://segmind-resources.s3.amazonaws.com/input/motion.mp4",
        "character_orientation": "video",
        "keep_original_sound": True,
    }
).encode()
HOST: Final = "gateway.test"
LONG_S: Final = 3000.0
READY_TIMEOUT_S: Final = 60.0
POLL_S: Final = 0.1
_HTTP_TIMEOUT_S: Final = 5.0
PATIENT: Final = {
    "GATEWAY_OVERLOAD_LATE_MS": "60000",
    "GATEWAY_REDIS_TIMEOUT_MS": "500",
    "GATEWAY_REDIS_CONNECT_TIMEOUT_MS": "500",
}
"""A closed loop keeps a gateway as busy as can be, which is what refusals are for: a refusal has another cost."""


@dataclass(frozen=True, slots=True)
class Shared:
    """The servers that all parts share."""

    directory: Path
    standin: Server
    echo: Server


@dataclass(frozen=True, slots=True)
class Scene:
    """A gateway with tenants, on a store of its own.

    Attributes:
        valkey: The process of that store.
    """

    gateway: Server
    valkey: Server
    standin: Server
    echo: Server
    store: Store
    callers: Sequence[Caller]

    @property
    def redis_url(self) -> str:
        """Where the store is."""
        return self.valkey.url

    def submits(self, model: str = MODEL, *, idempotent: int = 0) -> list[bytes]:
        """Write down a submit of each tenant; with ``idempotent``, as many of each, every one with its own key."""
        if not idempotent:
            return submits_of(self.callers, model)
        return [_submit(model, caller.key, f"bench-{n}") for n in range(idempotent) for caller in self.callers]

    def gets(self, jobs: Mapping[str, Sequence[str]], tail: str) -> list[bytes]:
        """Write down a read of each job by its owner, the tenants in turn; ``tail`` follows the job's id."""
        return [
            request_bytes(HOST, f"/v2/requests/{jobs[owner.tenant][n]}{tail}", headers={"x-api-key": owner.key})
            for n in range(max(map(len, jobs.values())))
            for owner in self.callers
            if n < len(jobs[owner.tenant])
        ]

    async def finish(self, jobs: int) -> None:
        """Have the tenants submit jobs that end at once, and wait until the tracker has ended them.

        They are of a model of their own: the gateway learns from them how long it takes.
        """
        tell(self.standin, job_s=0, delay_ms="0")
        await self._post(self.submits(QUICK_MODEL, idempotent=-(-jobs // len(self.callers))), jobs)
        async with asyncio.timeout(READY_TIMEOUT_S):
            while any((await self.active()).values()):  # noqa: ASYNC110  another process has no event to wait for
                await asyncio.sleep(POLL_S)

    async def begin(self, jobs: int) -> None:
        """Have the tenants submit long jobs, and spread their polls, which would come at once as the submits did."""
        polled = tell(self.standin, job_s=LONG_S, delay_ms="0")["statuses"]
        await self._post(self.submits(), jobs)
        async with asyncio.timeout(READY_TIMEOUT_S):
            while tell(self.standin)["statuses"] < polled + jobs:  # noqa: ASYNC110  another process has no event to wait for
                await asyncio.sleep(POLL_S)
        found = [(tenant, job) for tenant, ids in (await self.active()).items() for job in ids]
        await self.store.due.schedule(
            [DueEntry(tenant, job, MAX_INTERVAL_S * n / len(found)) for n, (tenant, job) in enumerate(found)]
        )

    async def _post(self, requests: Sequence[bytes], count: int) -> None:
        host, port = self.gateway.host, self.gateway.port
        answered(self.gateway, await run(Plan(host=host, port=port, requests=requests, connections=32, count=count)))

    async def active(self) -> dict[str, list[str]]:
        """List the jobs that have not ended, by tenant."""
        return await self._members(keys.active)

    async def jobs(self) -> dict[str, list[str]]:
        """List all jobs, by tenant."""
        return await self._members(keys.jobs)

    async def _members(self, name: Callable[[str], str]) -> dict[str, list[str]]:
        found = {}
        for caller in self.callers:
            members = cast("list[bytes]", await self.store.client.zrange(name(caller.tenant), 0, -1))
            found[caller.tenant] = [member.decode() for member in members]
        return found


@contextmanager
def shared_servers(directory: Path) -> Iterator[Shared]:
    """Run the servers that all parts share."""
    with (
        server("stand-in", "bench.standin", log=directory / "standin.log") as standin,
        server("echo", "bench.echo", log=directory / "echo.log") as echo,
    ):
        yield Shared(directory, standin, echo)


@asynccontextmanager
async def scene(
    shared: Shared,
    name: str,
    *,
    tenants: int,
    role: str = "all",
    durability: str = "none",
    env: Mapping[str, str] = PATIENT,
    valkey: Sequence[str] = (),
) -> AsyncIterator[Scene]:
    """Run a gateway on a fresh Valkey, with tenants that no limit stops.

    Args:
        shared: The other servers.
        name: Of the part, for its directory.
        tenants: How many.
        role: ``GATEWAY_ROLE``.
        durability: ``policy.durability``.
        env: More of the gateway's environment.
        valkey: How Valkey is started; by default it is durable.
    """
    directory = shared.directory / name
    with valkey_server(directory / "valkey", *valkey) as redis_url:
        async with open_store(redis_url) as store:
            callers = await declare(store, redis_url, directory, tenants, durability)
            told = {**environment(redis_url, shared.standin.url, role), **env}
            with server("gateway", "gateway", "serve", log=directory / "gateway.log", env=told) as gateway:
                await ready(gateway)
                pid = await _pid(store)
                kept = Server("valkey", redis_url, pid, directory / "valkey" / "valkey.log")
                yield Scene(gateway, kept, shared.standin, shared.echo, store, callers)


def tell(
    standin: Server,
    *,
    job_s: float | None = None,
    delay_ms: str | None = None,
    fault: VendorFault | None = None,
    every: int | None = None,
) -> dict[str, int]:
    """Set how the stand-in answers, and return its counts."""
    given = {"job_s": job_s, "delay_ms": delay_ms, "fault": fault, "every": every}
    query = "&".join(f"{name}={value}" for name, value in given.items() if value is not None)
    with urlopen(Request(f"{standin.url}/_standin?{query}", method="PUT"), timeout=_HTTP_TIMEOUT_S) as answer:  # noqa: S310  our own stand-in
        told: dict[str, int] = json.load(answer)
    return told


async def _pid(store: Store) -> int:
    info = await store.client.info("server")
    return int(info["process_id"])


def environment(redis_url: str, upstream: str, role: str) -> dict[str, str]:
    """Return the environment of a gateway that finds all it needs on this machine, and free ports."""
    return {
        "GATEWAY_REDIS_URL": redis_url,
        "GATEWAY_ROLE": role,
        "GATEWAY_PORT": "0",
        "GATEWAY_OPS_PORT": "0",
        "GATEWAY_UPSTREAM_URL": upstream,
        "GATEWAY_STORAGE_URL": upstream,
        "GATEWAY_HISTORY_URL": upstream,
        "GATEWAY_DRAIN_SECONDS": "5",
        "SEGMIND_API_KEY": COMPANY_KEY,
    }


async def ready(gateway: Server) -> None:
    """Wait until a gateway is ready."""
    async with asyncio.timeout(READY_TIMEOUT_S):
        while not _answers(f"{gateway.ops_url}/readyz"):  # noqa: ASYNC110  another process has no event to wait for
            await asyncio.sleep(POLL_S)


def _answers(url: str) -> bool:
    try:
        with urlopen(url, timeout=_HTTP_TIMEOUT_S):  # noqa: S310  our own gateway
            return True
    except OSError:
        return False


def submits_of(callers: Sequence[Caller], model: str = MODEL) -> list[bytes]:
    """Write down a submit of each tenant."""
    return [_submit(model, caller.key, None) for caller in callers]


def _submit(model: str, key: str, idempotency_key: str | None) -> bytes:
    headers = {"x-api-key": key, "content-type": "application/json"}
    if idempotency_key is not None:
        headers["idempotency-key"] = idempotency_key
    return request_bytes(HOST, f"/v2/{model}", method="POST", headers=headers, body=BODY)
