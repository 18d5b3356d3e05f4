"""A closed loop of HTTP/1.1 clients: each sends its next request when it has its answer."""

from __future__ import annotations

import asyncio
import itertools
import math
from array import array
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from time import perf_counter
from typing import Final

from gateway.cli.connection import Connection, connect

RECONNECT_S: Final = 0.05
WATCH_S: Final = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is asked of whom, by how many, for how long.

    Attributes:
        requests: Whole requests as they go over the wire (`request_bytes`), taken in turn by all connections.
        duration_s: Seconds after which no request is begun; None: `count` alone ends it.
        count: Requests in all; None: `duration_s` alone ends it.
        think_s: Pause of a connection between an answer and its next request, seconds.
        timeout_s: How long an answer may take before its connection is given up, seconds.
        tls: Speak TLS, with the certificate checked.
    """

    host: str
    port: int
    requests: Sequence[bytes]
    connections: int = 32
    duration_s: float | None = None
    count: int | None = None
    think_s: float = 0.0
    timeout_s: float = 30.0
    tls: bool = False

    def __post_init__(self) -> None:
        if self.duration_s is None and self.count is None:
            raise ValueError("a plan needs an end: duration_s or count")
        if not self.requests or self.connections < 1:
            raise ValueError("a plan needs a request and a connection")


@dataclass(frozen=True, slots=True)
class Report:
    """What came of a plan.

    Attributes:
        failed: Requests without an answer, and attempts to connect that failed.
        seconds: From the first request to the last answer.
        latencies: Of every answer, seconds, sorted.
        statuses: How many answers had which status.
    """

    failed: int
    seconds: float
    latencies: array[float]
    statuses: Mapping[int, int]

    @property
    def requests(self) -> int:
        """Answers that came."""
        return len(self.latencies)

    @property
    def per_second(self) -> float:
        """Answers a second."""
        return self.requests / self.seconds if self.seconds else 0.0

    @property
    def mean_ms(self) -> float:
        """Mean latency, milliseconds."""
        return 1000 * sum(self.latencies) / self.requests if self.requests else 0.0

    def quantile_ms(self, q: float) -> float:
        """Return the latency that a share ``q`` of the answers did not exceed (nearest rank), milliseconds."""
        if not self.requests:
            return 0.0
        return 1000 * self.latencies[max(0, math.ceil(q * self.requests) - 1)]

    def figures(self) -> dict[str, object]:
        """Return the report as a JSON object."""
        return {
            "requests": self.requests,
            "failed": self.failed,
            "seconds": round(self.seconds, 3),
            "requests_per_second": round(self.per_second, 1),
            "latency_ms": {
                "mean": round(self.mean_ms, 3),
                "p50": round(self.quantile_ms(0.50), 3),
                "p99": round(self.quantile_ms(0.99), 3),
                "max": round(self.quantile_ms(1), 3),
            },
            "statuses": {str(status): count for status, count in sorted(self.statuses.items())},
        }


def request_bytes(
    host: str, path: str, *, method: str = "GET", headers: Mapping[str, str] | None = None, body: bytes = b""
) -> bytes:
    """Write a request down as it goes over the wire; the connection stays open after it.

    Raises:
        ValueError: A header or the path would break out of its line, or is not Latin-1.
    """
    given = {"host": host, **(headers or {}), **({"content-length": str(len(body))} if body else {})}
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in given.items())]
    if any("\r" in line or "\n" in line for line in lines):
        raise ValueError("a header or path must stand on one line")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


async def run(plan: Plan) -> Report:
    """Carry out a plan in this event loop. What fails is counted, never raised."""
    loop = asyncio.get_running_loop()
    tally = _Tally(plan)
    stop = loop.call_later(plan.duration_s, tally.end) if plan.duration_s is not None else None
    watch = asyncio.create_task(_watch(tally))
    try:
        await asyncio.gather(*(_stay_connected(plan, tally) for _ in range(plan.connections)))
    finally:
        watch.cancel()
        if stop is not None:
            stop.cancel()
    return tally.report()


@dataclass(slots=True)
class _Tally:
    """What the connections of a plan share: who may begin another request, and what came back."""

    plan: Plan
    over: bool = False
    failed: int = 0
    started: int = 0
    began: float = field(default_factory=perf_counter)
    ended: float = 0.0
    latencies: array[float] = field(default_factory=lambda: array("d"))
    statuses: Counter[int] = field(default_factory=Counter)
    open: set[_Connection] = field(default_factory=set)
    _requests: itertools.cycle[bytes] = field(init=False)

    def __post_init__(self) -> None:
        self._requests = itertools.cycle(self.plan.requests)

    def next(self) -> bytes | None:
        """Take the next request, None when it is over."""
        if self.over:
            return None
        self.started += 1
        if self.started == self.plan.count:
            self.over = True
        return next(self._requests)

    def end(self) -> None:
        """Begin no more requests."""
        self.over = True

    def answered(self, status: int, latency_s: float, now: float) -> None:
        """Count an answer."""
        self.latencies.append(latency_s)
        self.statuses[status] += 1
        self.ended = now

    def report(self) -> Report:
        """Sum up."""
        return Report(
            self.failed, max(0.0, self.ended - self.began), array("d", sorted(self.latencies)), dict(self.statuses)
        )


class _Connection(Connection):
    """One client. `closed` is done once the connection is gone."""

    def __init__(self, tally: _Tally, closed: asyncio.Future[None]) -> None:
        super().__init__()
        self.closed = closed
        self.sent_at: float | None = None
        self._tally = tally

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the first request."""
        super().connection_made(transport)
        self._tally.open.add(self)
        self._send()

    def on_message_complete(self) -> None:
        """Count the answer and go on."""
        now = perf_counter()
        if self.sent_at is None:  # an answer that nobody asked for
            self.abort()
            return
        self._tally.answered(self.status, now - self.sent_at, now)
        self.sent_at = None
        if not self.goes_on:
            self.close()
        elif self._tally.plan.think_s:
            asyncio.get_running_loop().call_later(self._tally.plan.think_s, self._send)
        else:
            self._send()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  the protocol's signature
        """Count a request that got no answer."""
        self._tally.open.discard(self)
        self._tally.failed += self.sent_at is not None
        if not self.closed.done():
            self.closed.set_result(None)

    def _send(self) -> None:
        if self.closed.done():
            return
        request = self._tally.next()
        if request is None:
            self.close()
            return
        self.sent_at = perf_counter()
        self.write(request)


async def _stay_connected(plan: Plan, tally: _Tally) -> None:
    """Keep one client going until it is over."""
    loop = asyncio.get_running_loop()
    while not tally.over:
        closed: asyncio.Future[None] = loop.create_future()
        try:
            make = partial(_Connection, tally, closed)
            await connect(make, plan.host, plan.port, tls=plan.tls, timeout_s=plan.timeout_s)
        except OSError:  # a TimeoutError is one
            tally.failed += 1
            await asyncio.sleep(RECONNECT_S)
            continue
        await closed


async def _watch(tally: _Tally) -> None:
    """Give up connections whose answer is overdue, from one place: a timer a request would cost more than it."""
    while True:
        await asyncio.sleep(WATCH_S)
        overdue = perf_counter() - tally.plan.timeout_s
        for connection in list(tally.open):
            if connection.sent_at is not None and connection.sent_at < overdue:
                connection.abort()
