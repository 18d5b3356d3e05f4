"""A data-plane process without a process: the services on ports in memory, to be killed between any two calls."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from inspect import isasyncgenfunction
from typing import Any, Literal, TypeVar, cast

from support.memory_store import MemoryStore
from support.memory_vendor import MemoryVendor
from support.tracking import Figures

from gateway.core.faultpoints import NO_FAULTS, FaultPoints
from gateway.core.ports import Sink
from gateway.errors import StoreUnavailable
from gateway.service.account import Account
from gateway.service.adopt import Adopter
from gateway.service.clock import StoreClock
from gateway.service.finish import Finisher
from gateway.service.gate import Gate
from gateway.service.inflight import InFlight
from gateway.service.learn import Learner
from gateway.service.missing import Missing
from gateway.service.outbox import Outbox
from gateway.service.pace import Pace
from gateway.service.poll import Poller
from gateway.service.room import MIB, Room
from gateway.service.rules import Rules
from gateway.service.sending import Sending
from gateway.service.submit import SubmitService
from gateway.service.sweep import BEAT_TTL_S, Sweep
from gateway.service.sync import SyncService
from gateway.service.throttle import Throttle
from gateway.service.track import Tracker
from gateway.service.watchlist import Watchlist

P = TypeVar("P")
Strike = Literal["die before", "die after", "refuse", "lose the reply", "stall", "leave late"]
Work = Literal["beat", "pace", "outbox", "watchlist", "track", "orphans", "repair", "adopt"]


class Died(BaseException):
    """End whatever a killed process was doing; caught by nobody."""


class Border:
    """Everything that a process does to the world crosses here, call by call.

    Attributes:
        away: No call reaches the store.
    """

    def __init__(self) -> None:
        self.alive = True
        self.away = False
        self._strikes: dict[int, Strike] = {}
        self._calls = 0
        self._stalled: list[asyncio.Future[None]] = []

    def arm(self, calls: int, strike: Strike) -> None:
        """Strike at so many calls from now."""
        self._strikes[self._calls + calls] = strike

    async def call(self, act: Callable[[], Awaitable[Any]], *, store: bool) -> Any:  # noqa: ANN401 as the port says
        """Make one call; a store may fail before it, or after it without anybody being told, and work may be paused.

        It is paused before a call to the store, and after one to the vendor, whose answer it then learns late; or
        before that one, which then leaves late.
        """
        self._check()
        self._calls += 1
        strike = self._strikes.pop(self._calls, None)
        if strike == "die before":
            self.alive = False
        self._check()
        if (strike == "stall" and store) or (strike == "leave late" and not store):
            await self._pause()
        if store and (self.away or strike == "refuse"):
            raise StoreUnavailable("down")
        answer = await act()
        if strike == "die after":
            self.alive = False
        self._check()
        if strike == "stall" and not store:
            await self._pause()
        if strike == "lose the reply" and store:
            raise StoreUnavailable("the reply was lost")
        return answer

    def resume(self) -> None:
        """Let go on what is paused."""
        for pause in self._stalled:
            if not pause.done():
                pause.set_result(None)
        self._stalled.clear()

    async def _pause(self) -> None:
        self._stalled.append(asyncio.get_running_loop().create_future())
        await self._stalled[-1]
        self._check()

    def _check(self) -> None:
        if not self.alive:
            raise Died


class _Port:
    """A port whose every call crosses a border; walks cross it as a whole."""

    def __init__(self, port: object, border: Border, *, store: bool) -> None:
        self._port, self._border, self._store = port, border, store

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 a method of the port
        method = getattr(self._port, name)
        if not asyncio.iscoroutinefunction(method) or isasyncgenfunction(method):
            return method

        async def call(*args: Any, **named: Any) -> Any:  # noqa: ANN401 as the port has them
            return await self._border.call(lambda: method(*args, **named), store=self._store)

        return call


class Process:
    """One process: takes calls, does its background work when told, and dies.

    Args:
        name: Its owner id.
        clock: Seconds.
    """

    def __init__(
        self,
        name: str,
        store: MemoryStore,
        vendor: MemoryVendor,
        *,
        rules: Rules,
        sink: Sink,
        clock: Callable[[], float],
        faults: FaultPoints = NO_FAULTS,
    ) -> None:
        self.border, self.name, self._tick = Border(), name, asyncio.Event()
        ledger, jobs, due = self._port(store.ledger), self._port(store.jobs), self._port(store.due)
        doubts, sweeper = self._port(store.doubts), self._port(store.sweeper)
        upstream = self._port(vendor, store=False)
        learner = Learner(self._port(store.experience), rules)
        self._outbox = Outbox(sink, sleep=self._sleep)
        self._in_flight = InFlight(64, self._outbox.__len__)
        self._watchlist, owing = Watchlist(due, monotonic=clock), Watchlist(due, monotonic=clock)
        finisher = Finisher(ledger, jobs, learner, owing, sink)
        self._pace = pace = Pace(self._port(store.pacing), rules, clock)
        gate = Gate(upstream, Account(upstream, sink, clock), pace)
        sending = Sending(
            ledger, upstream, gate, rules, self._outbox, self._in_flight, sink, doubts, name, faults, clock
        )
        self.submits = SubmitService(sending, self._watchlist)
        self.calls = SyncService(sending, finisher, jobs, Room(MIB))
        store_clock, throttle = StoreClock(clock, clock), Throttle(8, clock)
        figures = Figures()
        poller = Poller(
            ledger=ledger, jobs=jobs, upstream=upstream, finisher=finisher, rules=rules, throttle=throttle, pace=pace,
            missing=Missing(upstream, clock),
            calls=4, gauges=figures, sink=sink, clock=store_clock,
        )  # fmt: skip
        self._tracker = Tracker(
            poller=poller, due=due, watchlist=self._watchlist, rules=rules, throttle=throttle, wait_s=lambda: 0.0,
            clock=store_clock, gauges=figures, sink=sink, monotonic=clock,
        )  # fmt: skip
        self._sweeper = sweeper
        self._sweep = Sweep(sweeper=sweeper, ledger=ledger, due=due, sink=sink, clock=store_clock)
        self._adopter = Adopter(
            doubts=doubts, history=upstream, ledger=ledger, finisher=finisher, due=due, rules=rules, sweeper=sweeper,
            sink=sink,
        )  # fmt: skip
        self._keeping = asyncio.get_running_loop().create_task(self._outbox.run())

    @property
    def idle(self) -> bool:
        """Tell whether it has nothing in hand, and nothing to write."""
        return not self._in_flight and not self._outbox

    async def work(self, what: Work) -> None:
        """Do a piece of background work once; what the store does not confirm is done another time."""
        steps: dict[Work, Callable[[], Awaitable[object]]] = {
            "beat": lambda: self._sweeper.beat(self.name, ttl_s=BEAT_TTL_S),
            "pace": self._pace.refresh,
            "outbox": self._retry_writes,
            "watchlist": self._watchlist.flush,
            "track": self._track,
            "orphans": self._sweep.doubt_orphans,
            "repair": self._sweep.repair,
            "adopt": self._adopter.look,
        }
        with contextlib.suppress(StoreUnavailable, Died):
            await steps[what]()

    async def drain(self) -> None:
        """Take nothing more."""
        await self._in_flight.drain()

    def die(self) -> None:
        """Be killed: nothing that was under way gets any further."""
        self.border.alive = False
        self._keeping.cancel()
        for task in self._in_flight._tasks:
            task.cancel()

    async def _track(self) -> None:
        await self._tracker.round()
        await self._tracker.close(30)

    async def _retry_writes(self) -> None:
        self._tick.set()

    async def _sleep(self, _: float) -> None:
        self._tick.clear()
        await self._tick.wait()

    def _port(self, port: P, *, store: bool = True) -> P:
        return cast("P", _Port(port, self.border, store=store))
