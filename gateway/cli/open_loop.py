"""An open loop of HTTP/1.1 clients: requests come at a fixed rate, whether or not the earlier ones were answered.

Only so does an overloaded server meet the load that it is meant to meet: clients that wait for their answer slow down
with it. A latency counts from the moment at which the request should have left, so that a server can't hide what had to
queue for a connection (Gil Tene's "coordinated omission"); how late the generator itself was is told apart.
"""

from __future__ import annotations

import asyncio
import itertools
import math
from array import array
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from time import perf_counter
from typing import Final

from gateway.cli.closed_loop import Report
from gateway.cli.connection import Connection, connect

TICK_S: Final = 0.001
WATCH_S: Final = 0.5
OPENED_AT_ONCE: Final = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenPlan:
    """What is asked of whom, how often, for how long.

    Attributes:
        requests: Whole requests as they go over the wire (`request_bytes`), taken in turn.
        rate: Requests a second, evenly spread.
        duration_s: Seconds for which requests come; their answers are then waited for.
        connections: Open at most; a request that finds none free waits for one, and its latency runs.
        timeout_s: How long an answer may take before its connection is given up, seconds.
        tls: Speak TLS, with the certificate checked.
    """

    host: str
    port: int
    requests: Sequence[bytes]
    rate: float
    duration_s: float
    connections: int = 1024
    timeout_s: float = 30.0
    tls: bool = False

    def __post_init__(self) -> None:
        if not self.requests or self.connections < 1 or not self.rate > 0 or not self.duration_s > 0:
            raise ValueError("a plan needs a request, a connection, a rate and a duration")


@dataclass(frozen=True, slots=True)
class OpenReport(Report):
    """What came of a plan.

    Attributes:
        by_status: Latencies of the answers with a status, seconds, sorted.
        late_s: How late the generator itself was at worst, seconds: a machine too busy for it makes no figures.
        timeline: For each second in which requests were due, how many of those got which status; 0: none.
    """

    by_status: Mapping[int, array[float]]
    late_s: float
    timeline: Sequence[Mapping[int, int]]

    def figures(self) -> dict[str, object]:
        """Return the report as a JSON object."""
        return Report.figures(self) | {
            "generator_late_ms": round(1000 * self.late_s, 3),
            "p99_ms_by_status": {
                str(status): round(1000 * _quantile(found, 0.99), 3) for status, found in sorted(self.by_status.items())
            },
        }


async def run_open(plan: OpenPlan) -> OpenReport:
    """Carry out a plan in this event loop. What fails is counted, never raised."""
    crowd = _Crowd(plan)
    await crowd.gather()
    watch = asyncio.create_task(crowd.watch())
    try:
        await crowd.send_all()
        await crowd.settled.wait()
    finally:
        watch.cancel()
        crowd.close()
    return crowd.report()


@dataclass(slots=True)
class _Sent:
    """A request that is due, and since when (`perf_counter`)."""

    data: bytes
    due_at: float


@dataclass(slots=True)
class _Crowd:
    """The clients of a plan: who is free, what waits for one, and what came back."""

    plan: OpenPlan
    began: float = field(default_factory=perf_counter)
    ended: float = 0.0
    failed: int = 0
    late_s: float = 0.0
    outstanding: int = 0
    over: bool = False
    opened: int = 0
    free: list[_Client] = field(default_factory=list)
    clients: set[_Client] = field(default_factory=set)
    opening: set[asyncio.Task[None]] = field(default_factory=set)
    waiting: deque[_Sent] = field(default_factory=deque)
    by_status: dict[int, array[float]] = field(default_factory=dict)
    timeline: list[Counter[int]] = field(init=False)
    settled: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.timeline = [Counter() for _ in range(math.ceil(self.plan.duration_s))]

    async def gather(self) -> None:
        """Open half the connections, some at a time, before the clock starts: a server's backlog is not the load."""
        for _ in range(0, self.plan.connections // 2, OPENED_AT_ONCE):
            self.opened += OPENED_AT_ONCE
            await asyncio.gather(*(self._open() for _ in range(OPENED_AT_ONCE)))
        self.began = perf_counter()

    async def send_all(self) -> None:
        """Send each request when it is due."""
        plan, requests, issued = self.plan, itertools.cycle(self.plan.requests), 0
        total = max(1, int(plan.rate * plan.duration_s))
        while issued < total:
            now = perf_counter()
            due = min(total, int((now - self.began) * plan.rate) + 1)
            for _ in range(issued, due):
                self.outstanding += 1
                self.send(_Sent(next(requests), now))
            self.late_s = max(self.late_s, now - self.began - issued / plan.rate)
            issued = max(issued, due)
            await asyncio.sleep(TICK_S)
        self.over = True
        self._check()

    def send(self, sent: _Sent) -> None:
        """Send on a free connection, or a new one, or as soon as one is free."""
        if self.free:
            self.free.pop().send(sent)
            return
        self.waiting.append(sent)
        if self.opened < self.plan.connections:
            self.opened += 1
            task = asyncio.get_running_loop().create_task(self._open())
            self.opening.add(task)
            task.add_done_callback(self.opening.discard)

    def is_free(self, client: _Client) -> None:
        """Give a client its next request, if one waits."""
        if self.waiting:
            client.send(self.waiting.popleft())
        else:
            self.free.append(client)

    def answered(self, sent: _Sent, status: int) -> None:
        """Count an answer; status 0: there was none."""
        self.ended = perf_counter()
        if status:
            self.by_status.setdefault(status, array("d")).append(self.ended - sent.due_at)
        else:
            self.failed += 1
        second = min(len(self.timeline) - 1, int(sent.due_at - self.began))
        self.timeline[second][status] += 1
        self.outstanding -= 1
        self._check()

    def lost(self, client: _Client) -> None:
        """Let a connection go; what waits for one gets another."""
        self.clients.discard(client)
        if client in self.free:
            self.free.remove(client)
        self.opened -= 1
        if self.waiting:
            self.send(self.waiting.popleft())

    async def watch(self) -> None:
        """Give up what is overdue, from one place."""
        while True:
            await asyncio.sleep(WATCH_S)
            overdue = perf_counter() - self.plan.timeout_s
            for client in list(self.clients):
                if client.sent is not None and client.sent.due_at < overdue:
                    client.abort()
            while self.waiting and self.waiting[0].due_at < overdue:
                self.answered(self.waiting.popleft(), 0)

    def close(self) -> None:
        """End every connection."""
        for client in list(self.clients):
            client.abort()
        for task in self.opening:
            task.cancel()

    def report(self) -> OpenReport:
        """Sum up."""
        by_status = {status: array("d", sorted(found)) for status, found in self.by_status.items()}
        return OpenReport(
            failed=self.failed,
            seconds=max(0.0, self.ended - self.began),
            latencies=array("d", sorted(itertools.chain.from_iterable(by_status.values()))),
            statuses={status: len(found) for status, found in by_status.items()},
            by_status=by_status,
            late_s=self.late_s,
            timeline=self.timeline,
        )

    async def _open(self) -> None:
        plan = self.plan
        try:
            await connect(partial(_Client, self), plan.host, plan.port, tls=plan.tls, timeout_s=plan.timeout_s)
        except OSError:  # a TimeoutError is one
            self.opened -= 1
            if self.waiting:
                self.answered(self.waiting.popleft(), 0)

    def _check(self) -> None:
        if self.over and not self.outstanding:
            self.settled.set()


class _Client(Connection):
    """One connection."""

    def __init__(self, crowd: _Crowd) -> None:
        super().__init__()
        self.sent: _Sent | None = None
        self._crowd = crowd

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take part."""
        super().connection_made(transport)
        self._crowd.clients.add(self)
        self._crowd.is_free(self)

    def send(self, sent: _Sent) -> None:
        """Send a request."""
        self.sent = sent
        self.write(sent.data)

    def on_message_complete(self) -> None:
        """Count the answer and be free again."""
        sent, self.sent = self.sent, None
        if sent is None:  # an answer that nobody asked for
            self.abort()
            return
        self._crowd.answered(sent, self.status)
        if self.goes_on:
            self._crowd.is_free(self)
        else:
            self.close()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  the protocol's signature
        """Count a request that got no answer."""
        sent, self.sent = self.sent, None
        self._crowd.lost(self)
        if sent is not None:
            self._crowd.answered(sent, 0)


def _quantile(found: array[float], q: float) -> float:
    return found[max(0, math.ceil(q * len(found)) - 1)] if found else 0.0
