"""Segmind as contract tests hold it: the vendor in memory, or the real client on the sandbox."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Coroutine, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final, Protocol, TypeVar

from support.memory_vendor import SYNC_TIMEOUT_S, MemoryVendor, Plan, Trouble
from support.upstream_client import KEY, QUICK, bench
from support.vendor import HandClock

from gateway.core.credits import vendor_credits
from gateway.core.ports import HistoryReader, Upstream
from gateway.sandbox import SandboxSettings
from gateway.sandbox.faults import Fault
from gateway.sandbox.server import Running, running
from gateway.upstream.transport import Timeouts

T = TypeVar("T")
HTML: Final = "<html>maintenance</html>"
IMPATIENT: Final = Timeouts(read_s=0.2, sync_read_s=0.2)
RESET: Final = {"x-rate-limit-reset-at-utc": "2026-09-21T14:13:29Z"}
READS: Final[Mapping[Trouble, Fault]] = {
    "lost": Fault(action="truncate", on=("status", "result"), times=1),
    "limited": Fault(
        action="respond", status=429, body={"error": "slow"}, headers=RESET, on=("status", "result"), times=1
    ),
    "missing": Fault(action="not_found", times=1),
    "stale": Fault(action="regress", times=1),
    "garbage": Fault(action="respond", status=200, body=HTML, on=("status", "result"), times=1),
}


class Client(Upstream, HistoryReader, Protocol):
    """Both ports to the vendor."""


class PlayedVendor(Protocol):
    """A vendor at a time that the test moves, and a client of it; what is planned may take another client."""

    @property
    def client(self) -> Client:
        """Give the client to use next."""

    @property
    def now_ms(self) -> int:
        """Tell the time, Unix milliseconds."""

    @property
    def posts(self) -> int:
        """Count the POSTs that came."""

    @property
    def took(self) -> Mapping[str, int | None]:
        """Tell which jobs run or have run, by the vendor's id, and what each is billed if it completes, nanocredits."""

    def pass_time(self, seconds: float) -> None:
        """Let time go by."""

    def plan(self, plan: Plan) -> None:
        """Say what becomes of the next POST; how long its job runs stands in its body (``sleep``)."""

    def spoil(self, trouble: Trouble) -> None:
        """Spoil the answer to the next poll."""

    def hide(self) -> None:
        """Let the history not be readable."""

    async def outlast(self, call: Coroutine[Any, Any, T]) -> T:
        """Await a call that is never answered: its time-out comes at once."""


class _Clocked:
    """What both have of a vendor's time."""

    def __init__(self, clock: HandClock) -> None:
        self._clock = clock

    @property
    def now_ms(self) -> int:
        """See `PlayedVendor.now_ms`."""
        return round(self._clock.now * 1000)

    def pass_time(self, seconds: float) -> None:
        """See `PlayedVendor.pass_time`."""
        self._clock.now += seconds


class MemoryPlayed(_Clocked):
    """The vendor in memory, which is its own client."""

    def __init__(self) -> None:
        super().__init__(HandClock())
        self.client = MemoryVendor(self._clock)

    @property
    def posts(self) -> int:
        """See `PlayedVendor.posts`."""
        return self.client.posts.total()

    @property
    def took(self) -> Mapping[str, int | None]:
        """See `PlayedVendor.took`."""
        return {job.id: job.plan.cost for job in self.client.jobs}

    def plan(self, plan: Plan) -> None:
        """See `PlayedVendor.plan`."""
        self.client.plans.append(plan)

    def spoil(self, trouble: Trouble) -> None:
        """See `PlayedVendor.spoil`."""
        self.client.troubles.append(trouble)

    def hide(self) -> None:
        """See `PlayedVendor.hide`."""
        self.client.readable = False

    async def outlast(self, call: Coroutine[Any, Any, T]) -> T:
        """See `PlayedVendor.outlast`."""
        task = asyncio.create_task(call)
        await asyncio.sleep(0)
        self.pass_time(SYNC_TIMEOUT_S)
        self.client.advance()
        return await task


class SandboxPlayed(_Clocked):
    """The real client on a sandbox; others for when nobody listens, and for when nobody answers."""

    def __init__(self, vendor: Running, clock: HandClock, **clients: Client) -> None:
        super().__init__(clock)
        self._sandbox, self._clients = vendor.sandbox, clients
        self.client = clients["usual"]

    @property
    def posts(self) -> int:
        """See `PlayedVendor.posts`."""
        return sum(call.method == "POST" for call in self._sandbox.calls)

    @property
    def took(self) -> Mapping[str, int | None]:
        """See `PlayedVendor.took`."""
        return {job.request_id: vendor_credits(job.cost) for job in self._sandbox.jobs}

    def plan(self, plan: Plan) -> None:
        """See `PlayedVendor.plan`."""
        self.client = self._clients["unsent" if plan.answer == "unsent" else "parked" if plan.parked else "usual"]
        self._sandbox.knobs.history_delay_s = plan.listed_s
        if isinstance(plan.answer, int):
            headers = RESET if plan.answer == 429 else {}
            self._arm(action="respond", status=plan.answer, body={"error": "no"}, headers=headers, after=plan.taken)
        elif plan.answer == "nonsense":
            self._arm(action="respond", status=200, body=HTML, after=plan.taken)
        elif plan.answer == "lost":
            self._arm(action="hang" if plan.parked else "drop", after=plan.taken)
        if plan.fails:
            self._arm(action="outcome", outcome="FAILED")
        if plan.reported is None:
            self._arm(action="cost", cost="missing")
        if plan.breaks:
            self._arm(action="truncate")

    def spoil(self, trouble: Trouble) -> None:
        """See `PlayedVendor.spoil`."""
        self._sandbox.faults.add(READS[trouble])

    def hide(self) -> None:
        """See `PlayedVendor.hide`."""
        self._sandbox.faults.add(Fault(action="respond", status=200, body=HTML, on=("history",)))

    async def outlast(self, call: Coroutine[Any, Any, T]) -> T:
        """See `PlayedVendor.outlast`."""
        return await call

    def _arm(self, **fault: Any) -> None:  # noqa: ANN401 fields of a fault
        self._sandbox.faults.add(Fault(on=("submit", "sync"), times=1, **fault))


@asynccontextmanager
async def sandbox_played() -> AsyncIterator[PlayedVendor]:
    """Run a sandbox, and open clients of it."""
    clock = HandClock()
    async with AsyncExitStack() as stack:
        vendor = await stack.enter_async_context(running(SandboxSettings(api_keys=(KEY,)), clock=clock))
        deaf = stack.enter_context(socket.socket())
        deaf.bind(("127.0.0.1", 0))  # never listens: connecting is refused
        nowhere = f"http://127.0.0.1:{deaf.getsockname()[1]}"
        urls = {"usual": (vendor.url, QUICK), "parked": (vendor.url, IMPATIENT), "unsent": (nowhere, QUICK)}
        clients = {name: bench(url, timeouts=timeouts).client for name, (url, timeouts) in urls.items()}
        for client in clients.values():
            stack.push_async_callback(client.aclose)
        yield SandboxPlayed(vendor, clock, **clients)
