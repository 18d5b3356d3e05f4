"""Two processes that are killed, paused and restarted at random, on links that break at random; the seed repeats it."""

from __future__ import annotations

import asyncio
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import pytest
from support.ledger import CREDIT
from support.proxy import Fault, Proxy, tcp_proxy
from support.stage import Member, Piece, Stage, stage_on
from support.vendor import KLING

from gateway.core.faultpoints import FaultAction, FaultPoint
from gateway.core.policy import Policy

PATHS: Final = ("/v2/flux-2-pro", "/v2/flux-2-pro", f"/v2/{KLING}", "/v2/kling-2.1", "/v1/faceswap-v2")
A_SECOND: Final = 4
"""Pieces of work sent."""
CREDITS_A_PIECE: Final = 0.3
TRIES: Final = 3
UNKNOWN_AFTER_S: Final = 20
"""Longer than anything that was sent can take to arrive: a stalled link never delivers."""
LOST: Final[tuple[dict[str, Any], ...]] = (
    {"action": "drop", "on": ["submit", "sync"], "times": 2},
    {"action": "drop", "on": ["submit", "sync"], "after": True, "times": 3},
    {"action": "respond", "on": ["submit", "sync"], "after": True, "status": 502, "body": "<html>", "times": 2},
    {"action": "respond", "on": ["submit", "sync"], "status": 500, "body": {"error": "sorry"}, "times": 2},
    {"action": "no_id", "times": 2},
    {"action": "truncate", "on": ["submit", "status", "result"], "times": 4},
    {"action": "delay", "on": ["submit", "sync", "status"], "delay_s": 0.3, "jitter_s": 0.7, "times": 10},
    {"action": "respond", "on": ["status", "result"], "status": 503, "body": "<html>", "times": 5},
    {"action": "respond", "on": ["history"], "status": 200, "body": {"message": "maintenance"}, "times": 2},
    {"action": "regress", "times": 5},
    {"action": "cost", "cost": "1.5x", "times": 2},
)


@dataclass(slots=True)
class Chaos:
    """What happens, and to whom.

    Attributes:
        happened: How often each kind of thing did.
    """

    stage: Stage
    dice: random.Random
    redis: Proxy
    vendor: Proxy
    members: list[Member] = field(default_factory=list)
    happened: Counter[str] = field(default_factory=Counter)

    async def begin(self) -> None:
        """Start both processes."""
        self.members = [await self._member(), await self._member()]

    async def work(self, until: float) -> None:
        """Send pieces of work to whoever runs, until that moment of the monotonic clock."""
        number = 0
        async with asyncio.TaskGroup() as group:
            while time.monotonic() < until:
                group.create_task(self._insist(Piece(f"piece-{number}", self.dice.choice(PATHS))))
                number += 1
                await asyncio.sleep(self.dice.uniform(0, 2 / A_SECOND))

    async def trouble(self, until: float) -> None:
        """Let one thing after another go wrong, until then."""
        kinds = (self._kill, self._stop, self._pause, self._point, self._break, self._break, self._vendor)
        while time.monotonic() < until:
            await self.dice.choice(kinds)()
            await asyncio.sleep(self.dice.uniform(0.1, 1.0))
            self.members = [await self._member() if m.child.ended.done() else m for m in self.members]
            for proxy in (self.redis, self.vendor):
                proxy.requests.clear()

    async def end(self) -> None:
        """Mend everything, and leave the rest to one process."""
        self.redis.fault = self.vendor.fault = Fault.NONE
        await self.stage.knobs(faults=[])
        await self.stage.recover()

    async def _insist(self, piece: Piece) -> None:
        """Try a few times, as a caller would, then leave it."""
        for _ in range(TRIES):
            answer = await self.stage.send(piece, self.dice.choice(self.members))
            if answer is not None and answer.is_success:
                return
            await asyncio.sleep(self.dice.uniform(0.05, 0.5))

    async def _kill(self) -> None:
        await self._restart(lambda member: member.child.kill())

    async def _stop(self) -> None:
        async def stop(member: Member) -> None:
            member.child.signal(signal.SIGTERM)
            await member.child.end()

        await self._restart(stop)

    async def _point(self) -> None:
        """Have one die at a fault point, if it comes by there soon."""
        point = self.dice.choice(tuple(FaultPoint))
        action: FaultAction = self.dice.choice(("kill", "raise"))
        await self._restart(lambda member: member.child.kill(), (point, self.dice.randint(1, 5), action))

    async def _pause(self) -> None:
        """Stop one as a busy machine does, for less than its heartbeat lives."""
        self.happened["paused"] += 1
        child = self.dice.choice(self.members).child
        child.signal(signal.SIGSTOP)
        await asyncio.sleep(self.dice.uniform(0.2, 3))
        child.signal(signal.SIGCONT)

    async def _break(self) -> None:
        """Break a link for a moment."""
        proxy, fault = self.dice.choice((self.redis, self.vendor)), self.dice.choice(list(Fault)[1:])
        self.happened[f"{'redis' if proxy is self.redis else 'vendor'}: {fault.name}"] += 1
        proxy.fault = fault
        await asyncio.sleep(self.dice.uniform(0.05, 1.5))
        proxy.fault = Fault.NONE

    async def _vendor(self) -> None:
        self.happened["vendor's faults"] += 1
        await self.stage.knobs(faults=[self.dice.choice(LOST), self.dice.choice(LOST)])

    async def _restart(
        self, end: Callable[[Member], Awaitable[object]], *faults: tuple[FaultPoint, int, FaultAction]
    ) -> None:
        self.happened["restarted"] += 1
        at = self.dice.randrange(len(self.members))
        await end(self.members[at])
        self.members[at] = await self._member(*faults)

    async def _member(self, *faults: tuple[FaultPoint, int, FaultAction]) -> Member:
        """Start a process behind the breaking links."""
        redis, vendor = f"redis://127.0.0.1:{self.redis.port}/0", f"http://127.0.0.1:{self.vendor.port}"
        urls = dict.fromkeys(("GATEWAY_UPSTREAM_URL", "GATEWAY_STORAGE_URL", "GATEWAY_HISTORY_URL"), vendor)
        patience = {"GATEWAY_UPSTREAM_READ_TIMEOUT_SECONDS": "3"}
        child = await self.stage.fork("all", *faults, GATEWAY_REDIS_URL=redis, **urls, **patience)
        return await self.stage.started(child) or await self._member()


@asynccontextmanager
async def chaos_on(redis_url: str, directory: Path, seed: int, seconds: float) -> AsyncIterator[Chaos]:
    """Put everything behind proxies; the budget is such that it is spent near the end."""
    async with AsyncExitStack() as stack:
        stage = await stack.enter_async_context(
            stage_on(
                redis_url,
                directory,
                budget=round((5 + seconds * A_SECOND * CREDITS_A_PIECE) * CREDIT),
                rules=Policy(unknown_after_s=UNKNOWN_AFTER_S),
            )
        )
        redis = await stack.enter_async_context(_proxied(redis_url))
        vendor = await stack.enter_async_context(_proxied(stage.vendor_url))
        yield Chaos(stage, random.Random(seed), redis, vendor)  # noqa: S311 repeatable


@asynccontextmanager
async def _proxied(url: str) -> AsyncIterator[Proxy]:
    parts = urlsplit(url)
    async with tcp_proxy(parts.hostname or "", parts.port or 0) as proxy:
        yield proxy


@pytest.mark.timeout(7200)
async def test_chaos(redis_url: str, tmp_path: Path, chaos: tuple[int, float]) -> None:
    """Whatever goes wrong with two processes and their links, no promise about money and jobs is broken."""
    seed, seconds = chaos
    sys.stderr.write(f"repeat with: make chaos SEED={seed} DURATION={seconds:g}\n")
    async with chaos_on(redis_url, tmp_path, seed, seconds) as run:
        await run.begin()
        until = time.monotonic() + seconds
        await asyncio.gather(run.work(until), run.trouble(until))
        await run.end()
        states = Counter(job.state.value for job in (await run.stage.books()).jobs)
        report = {"sent": len(run.stage.sent), "accepted": run.stage.accepted(), **states, **run.happened}
        sys.stderr.write(f"{report}\n")
    assert run.happened
    assert 2 * report["accepted"] > report["sent"], "so much went wrong that nothing was put to the test"
