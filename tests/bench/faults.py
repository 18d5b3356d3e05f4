"""What submits meet while something fails: how many are accepted, how much later, and what the others are told.

Submits come at a steady rate through a balancer to two gateways, and go on to their end: polled, settled, kept. Each
fault has a window of its own, between two without a fault.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from itertools import chain, count
from typing import Any, Final

from support.proxy import Fault
from support.valkey import HOST

from bench.pair import Pair, pair
from bench.rounds import OK
from bench.scene import Shared, tell
from bench.size import Size
from bench.standin import VendorFault
from gateway.cli.open_loop import OpenPlan, OpenReport, run_open

DELAY_MS: Final = "30-70"
JOB_S: Final = 3.0
CONNECTIONS: Final = 256
SEED: Final = 7
DROP_EVERY_S: Final = 0.5
STALL_EVERY_S, STALL_S = 3.0, 0.4
RESET_EVERY_S, RESET_S = 1.0, 0.02
RESTART_EVERY_S: Final = 5.0
KILL_EVERY_S: Final = 4.0
LIMIT_EVERY_S, LIMIT_S = 5.0, 0.2
ONE_IN: Final = 20
GONE_PER_SECOND: Final = 25.0
GONE_WITHIN_S: Final = 0.08


@dataclass(frozen=True, slots=True)
class FaultClass:
    """Something that fails.

    Attributes:
        strike: Has it fail, until cancelled.
    """

    name: str
    what: str
    strike: Callable[[Pair], Awaitable[None]]


async def faults(shared: Shared, size: Size) -> dict[str, Any]:
    """Measure submits while each fault is active, and right before and after."""
    tell(shared.standin, job_s=JOB_S, delay_ms=DELAY_MS)
    found: dict[str, Any] = {}
    async with pair(shared, tenants=size.tenants) as both:
        before = await _calm(both, size)
        for one in CLASSES:
            if size.fault_names and one.name not in size.fault_names:
                continue
            async with _active(one, both):
                struck = await _submits(both, size.fault_rate, size.fault_s)
            after = await _calm(both, size)
            found[one.name] = {"what": one.what, **_compared((before, after), struck, size)}
            before = after
    tell(shared.standin, delay_ms="0")
    return {"offered_per_second": size.fault_rate, "classes": found}


@asynccontextmanager
async def _active(one: FaultClass, both: Pair) -> AsyncIterator[None]:
    striking = asyncio.ensure_future(one.strike(both))
    try:
        yield
    finally:
        striking.cancel()
        await asyncio.gather(striking, return_exceptions=True)


async def _calm(both: Pair, size: Size) -> OpenReport:
    await both.recover()
    return await _submits(both, size.fault_rate, size.fault_s / 2)


async def _submits(both: Pair, rate: float, seconds: float) -> OpenReport:
    return await run_open(
        OpenPlan(
            host=HOST,
            port=both.port,
            requests=both.submits,
            rate=rate,
            duration_s=seconds,
            connections=CONNECTIONS,
        )
    )


def _compared(calm: Sequence[OpenReport], struck: OpenReport, size: Size) -> dict[str, Any]:
    others = _latencies([struck], lambda status: status != OK)
    accepted, as_usual = _latencies([struck], OK.__eq__), _latencies(calm, OK.__eq__)
    return {
        "accepted_per_second": round(len(accepted) / size.fault_s, 1),
        "p50_ms": _quantile_ms(accepted, 0.5),
        "p99_ms": _quantile_ms(accepted, 0.99),
        "calm_per_second": round(len(as_usual) / size.fault_s, 1),
        "calm_p50_ms": _quantile_ms(as_usual, 0.5),
        "calm_p99_ms": _quantile_ms(as_usual, 0.99),
        "others": {str(status): n for status, n in sorted(struck.statuses.items()) if status != OK},
        "others_p99_ms": _quantile_ms(others, 0.99),
        "unanswered": struck.failed,
        "generator_late_ms": round(1000 * struck.late_s, 1),
    }


def _latencies(reports: Sequence[OpenReport], counts: Callable[[int], bool]) -> Sequence[float]:
    """Sort the latencies of the answers whose status counts, seconds."""
    found = (latencies for one in reports for status, latencies in one.by_status.items() if counts(status))
    return sorted(chain.from_iterable(found))


def _quantile_ms(found: Sequence[float], q: float) -> float | None:
    return round(1000 * found[min(len(found) - 1, int(q * len(found)))], 1) if found else None


async def _nothing(_: Pair) -> None:
    """Strike nothing: what two windows differ by anyway."""


async def _replies_dropped(both: Pair) -> None:
    while True:
        both.proxy.fault = Fault.DROP_REPLY
        await asyncio.sleep(DROP_EVERY_S)


async def _now_and_then(fault: Fault, every_s: float, for_s: float, both: Pair) -> None:
    while True:
        both.proxy.fault = fault
        await asyncio.sleep(for_s)
        both.proxy.fault = Fault.NONE
        await asyncio.sleep(every_s - for_s)


async def _restarts(both: Pair) -> None:
    while True:
        await both.valkey.stop()
        await both.valkey.start()
        await asyncio.sleep(RESTART_EVERY_S)


async def _vendor(fault: VendorFault, every: int, both: Pair) -> None:
    await both.vendor(fault, every)


async def _limited(both: Pair) -> None:
    while True:
        await both.vendor(VendorFault.LIMITED)
        await asyncio.sleep(LIMIT_S)
        await both.vendor(VendorFault.NONE)
        await asyncio.sleep(LIMIT_EVERY_S - LIMIT_S)


async def _kills(both: Pair) -> None:
    for number in count():
        await asyncio.sleep(KILL_EVERY_S)
        await both.kill(number)


async def _goers(both: Pair) -> None:
    """Have clients go away within the time that a submit takes, half of them before their body is whole."""
    chance, going = random.Random(SEED), set[asyncio.Task[None]]()  # noqa: S311  reproducible
    try:
        for number in count():
            request = both.submits[number % len(both.submits)]
            sent = request if number % 2 else request[: chance.randrange(len(request))]
            task = asyncio.create_task(_goes(both.port, sent, chance.uniform(0, GONE_WITHIN_S)))
            going.add(task)
            task.add_done_callback(going.discard)
            await asyncio.sleep(1 / GONE_PER_SECOND)
    finally:
        await asyncio.gather(*going, return_exceptions=True)


async def _goes(port: int, sent: bytes, after_s: float) -> None:
    _, writer = await asyncio.open_connection(HOST, port)
    writer.write(sent)
    await asyncio.sleep(after_s)
    writer.transport.abort()


CLASSES: Final = (
    FaultClass("none", "nothing fails: what windows differ by anyway", _nothing),
    FaultClass("replies dropped", "a reply of Redis is lost with its connection, 2 a second", _replies_dropped),
    FaultClass(
        "Redis stalled",
        "the line to Redis is silent for 0.4 s, every 3 s",
        partial(_now_and_then, Fault.STALL, STALL_EVERY_S, STALL_S),
    ),
    FaultClass(
        "Redis reset",
        "all connections to Redis break, once a second",
        partial(_now_and_then, Fault.CUT, RESET_EVERY_S, RESET_S),
    ),
    FaultClass("Redis restarted", "Redis ends and starts again, 5 s apart", _restarts),
    FaultClass("vendor 500", "5 % of calls: 500 in the JSON envelope", partial(_vendor, VendorFault.ERROR, ONE_IN)),
    FaultClass("vendor 503", "5 % of calls: 503", partial(_vendor, VendorFault.UNAVAILABLE, ONE_IN)),
    FaultClass("vendor silent", "5 % of calls get no answer; time-out 3 s", partial(_vendor, VendorFault.HANG, ONE_IN)),
    FaultClass("vendor resets", "5 % of calls: the connection breaks", partial(_vendor, VendorFault.RESET, ONE_IN)),
    FaultClass("vendor slow", "5 % of calls are answered 2 s late", partial(_vendor, VendorFault.SLOW, ONE_IN)),
    FaultClass("vendor 429", "429 to all calls for 0.2 s, every 5 s; resets after 1 s", _limited),
    FaultClass("vendor down", "503 to every call", partial(_vendor, VendorFault.UNAVAILABLE, 1)),
    FaultClass("process killed", "one of the two by SIGKILL, then started again; 4 s later the other", _kills),
    FaultClass("clients gone", "25 a second more that go away during their submit", _goers),
)


def fault_table(found: Mapping[str, Any]) -> Iterator[str]:
    """Write the figures as a table of Markdown."""
    heads = (
        "while",
        f"accepted/s of {found['offered_per_second']:g}",
        "p50",
        "p99 (added)",
        "other answers",
        "no answer",
    )
    yield f"| {' | '.join(heads)} |"
    yield "|---" * len(heads) + "|"
    for one in found["classes"].values():
        others = ", ".join(f"{n} x {status}" for status, n in one["others"].items())
        cells = (
            one["what"],
            f"{one['accepted_per_second']:g}",
            "" if one["p50_ms"] is None else f"{one['p50_ms']:.0f} ms",
            "" if one["p99_ms"] is None else f"{one['p99_ms']:.0f} ms ({one['p99_ms'] - one['calm_p99_ms']:+.0f})",
            f"{others}; p99 {one['others_p99_ms']:.0f} ms" if others else "",
            str(one["unanswered"] or ""),
        )
        yield f"| {' | '.join(cells)} |"
