"""Where crashes are staged: real gateway processes on one store, and a vendor that writes down what it accepts."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx
from support.gateway import DEADLINE_S, TENANT, eventually, scaled
from support.invariants import Books, books_of, violations
from support.ledger import CREDIT, Store, open_store
from support.ports import UNLIMITED
from support.vendor import KEY
from support.zygote import Child, Zygote, zygote

from gateway.core.faultpoints import FaultAction, FaultPoint
from gateway.core.policy import Policy
from gateway.core.tenant import Credential, TenantPolicy
from gateway.service.tenants import TenantAdmin
from gateway.store import keys
from gateway.store.readiness import ensure_epoch

TIME_SCALE: Final = 600.0
RECORD_TTL_S: Final = 3600 * TIME_SCALE  # in real seconds an hour, as the vendor's
LONG_AGO_MS: Final = 60_000
TURNS: Final = ("orphans", "repair", "adopt")
IN_PROGRESS: Final = 409
UNAVAILABLE: Final = 503
_DEAD: Final[Mapping[str, Any]] = {"event": "ended"}
_HASTEN: Final = """
for _, job in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do redis.call('ZINCRBY', KEYS[1], -ARGV[2], job) end
for n = 1, #KEYS - 1 do
  if n <= tonumber(ARGV[1]) then redis.call('DEL', KEYS[n + 1]) else
    for _, job in ipairs(redis.call('ZRANGE', KEYS[n + 1], 0, -1)) do redis.call('ZADD', KEYS[n + 1], 0, job) end
  end
end
"""


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of work, sent as often as it takes, always with the same idempotency key."""

    name: str
    path: str


@dataclass(frozen=True, slots=True)
class Member:
    """A gateway process."""

    child: Child
    url: str
    ops_url: str


@dataclass(slots=True)
class Stage:
    """The store, the vendor, and whoever runs between them, for one tenant.

    Attributes:
        oracle: The vendor's record of what it accepted.
        sent: Every piece of work so far.
    """

    store: Store
    zygote: Zygote
    http: httpx.AsyncClient
    credential: Credential
    vendor_url: str
    oracle: Path
    directory: Path
    env: dict[str, str]
    children: list[Child] = field(default_factory=list)
    sent: list[Piece] = field(default_factory=list)

    async def start(self, role: str = "all", *faults: tuple[FaultPoint, int, FaultAction], **env: str) -> Member:
        """Start a process, with faults if wanted; it takes requests when this returns."""
        member = await self.started(child := await self.fork(role, *faults, **env))
        assert member is not None, child.log.read_text()
        return member

    async def started(self, child: Child) -> Member | None:
        """Wait until a process takes requests; None where it has ended before."""
        said = await eventually(lambda: _started(child))
        return None if said is _DEAD else Member(child, said.get("url", ""), f"http://127.0.0.1:{said.get('ops_port')}")

    async def fork(self, role: str, *faults: tuple[FaultPoint, int, FaultAction], **env: str) -> Child:
        """Start a process, and don't wait until it has started: it may be dead by then."""
        told = {"GATEWAY_FAULT": ",".join(f"{point}:{n}:{action}" for point, n, action in faults)} if faults else {}
        log = self.directory / f"gateway-{len(self.children)}.log"
        child = await self.zygote.gateway({**self.env, "GATEWAY_ROLE": role, **told, **env}, log)
        self.children.append(child)
        return child

    async def send(self, piece: Piece, to: Member) -> httpx.Response | None:
        """Send a piece of work; None where the process died before it answered."""
        if piece not in self.sent:
            self.sent.append(piece)
        try:
            return await self.http.post(
                to.url + piece.path, json={"prompt": piece.name}, headers={"idempotency-key": piece.name}
            )
        except httpx.TransportError:
            return None

    async def knobs(self, **patch: Any) -> None:  # noqa: ANN401 as varied as the knobs
        """Turn the vendor's knobs."""
        answer = await self.http.patch(f"{self.vendor_url}/_sandbox/knobs", json=patch)
        assert answer.status_code == httpx.codes.OK, answer.text

    def accepted(self) -> int:
        """Count what the vendor took."""
        return self.oracle.read_bytes().count(b"\n")

    async def hasten(self) -> None:
        """Let a minute pass for whoever waits: polls are due, turns are free, jobs old enough to be looked after."""
        queues = [keys.due(shard) for shard in range(keys.DUE_SHARDS)]
        names = [keys.active(TENANT), *map(keys.turn, TURNS), *queues]
        client: Any = self.store.client  # redis-py types a script's arguments as text
        await client.eval(_HASTEN, len(names), *names, len(TURNS), LONG_AGO_MS)

    async def bury(self) -> None:
        """Kill every process, and let the time pass after which nobody doubts that they are dead."""
        await asyncio.gather(*(child.kill() for child in self.children))
        beats = await self.store.client.keys(keys.beat("*"))
        if beats:
            await self.store.client.delete(*beats)

    async def recover(self) -> Member:
        """Leave the work to one process without faults, ask again for every piece, and wait until all has ended."""
        await self.bury()
        await self.hasten()
        heir = await self.start()
        for piece in self.sent:
            await eventually(lambda piece=piece: self._answered(piece, heir))  # type: ignore[misc]  # mypy can't infer a lambda's default
        await self.settled()
        return heir

    async def settled(self) -> None:
        """Wait until no job is under way."""
        await eventually(self._idle, 2 * DEADLINE_S)

    async def books(self) -> Books:
        """Read what the invariants are about."""
        return await books_of(self.store, self.credential, self.oracle)

    async def _answered(self, piece: Piece, by: Member) -> bool:
        answer = await self.send(piece, by)
        return answer is not None and answer.status_code not in {IN_PROGRESS, UNAVAILABLE}

    async def _idle(self) -> bool:
        if await self.store.client.zcard(keys.active(TENANT)) == 0:
            return True
        await self.hasten()
        return False


async def _started(child: Child) -> Mapping[str, Any] | None:
    started = next((line for line in child.lines() if line.get("event") == "gateway.started"), None)
    return _DEAD if started is None and child.ended.done() else started


async def _url(child: Child) -> str | None:
    assert not child.ended.done(), child.log.read_text()
    return next((line["url"] for line in child.lines()), None)


@asynccontextmanager
async def stage_on(
    redis_url: str,
    directory: Path,
    *,
    budget: int = 1000 * CREDIT,
    rules: Policy | None = None,
    **sandbox: Any,  # noqa: ANN401
) -> AsyncIterator[Stage]:
    """Set the stage on an empty store; at the end no promise may be broken.

    Args:
        redis_url: The store.
        directory: For logs and the oracle's record.
        budget: The tenant's, in all.
        rules: The gateway's policy.
        sandbox: Further fields of `SandboxSettings`.
    """
    oracle = directory / "accepted.jsonl"
    settings = {
        "api_keys": [KEY],
        "time_scale": TIME_SCALE,
        "record_ttl_s": RECORD_TTL_S,
        "failure_rate": 0.1,
        "record_path": str(oracle),
        **sandbox,
    }
    async with AsyncExitStack() as stack:
        parent = await stack.enter_async_context(zygote())
        vendor_url = await eventually(_of(_url, await parent.sandbox(settings, directory / "vendor.log")))
        store = await stack.enter_async_context(open_store(redis_url))
        await ensure_epoch(store.client)
        await store.tenants.put_rules(scaled(rules or Policy(unknown_after_s=1), TIME_SCALE))
        await store.tenants.put(
            TenantPolicy(TENANT, submit=UNLIMITED, read=UNLIMITED, concurrent_jobs=10_000, budgets={"total": budget})
        )
        key = (await TenantAdmin(store.tenants).create_key(TENANT)).text.reveal()
        http = httpx.AsyncClient(headers={"x-api-key": key}, trust_env=False, timeout=DEADLINE_S)
        await stack.enter_async_context(http)
        credential = Credential.parse(key)
        assert credential is not None
        stage = Stage(
            store, parent, http, credential, vendor_url, oracle, directory, _environment(redis_url, vendor_url)
        )
        yield stage
        broken = violations(await stage.books())
        assert not broken, "\n".join(broken)


def _of(ask: Callable[[Child], Awaitable[str | None]], child: Child) -> Callable[[], Awaitable[str | None]]:
    return lambda: ask(child)


def _environment(redis_url: str, vendor_url: str) -> dict[str, str]:
    return {
        **dict.fromkeys(("GATEWAY_UPSTREAM_URL", "GATEWAY_STORAGE_URL", "GATEWAY_HISTORY_URL"), vendor_url),
        # The store answers late on a machine that runs many tests at once.
        **dict.fromkeys(("GATEWAY_REDIS_TIMEOUT_MS", "GATEWAY_REDIS_CONNECT_TIMEOUT_MS"), "500"),
        "PATH": os.environ["PATH"],
        "GATEWAY_ENV": "test",
        "GATEWAY_PORT": "0",
        "GATEWAY_OPS_PORT": "0",
        "GATEWAY_REDIS_URL": redis_url,
        "GATEWAY_DRAIN_SECONDS": "5",
        "SEGMIND_API_KEY": KEY,
    }
