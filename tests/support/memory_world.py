"""A whole service in memory: two processes, their store, the vendor and the callers, at a time that the test moves."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Coroutine
from dataclasses import dataclass, field, replace
from typing import Any, Final, get_args

import orjson
from support.memory_process import Died, Process, Work
from support.memory_store import MemoryStore, memory_store
from support.memory_vendor import MemoryVendor
from support.ports import UNLIMITED

from gateway.catalogue.loader import load_catalogue
from gateway.core.events import Event
from gateway.core.faultpoints import NO_FAULTS, FaultPoints
from gateway.core.job import Job
from gateway.core.movements import Denied
from gateway.core.policy import Policy
from gateway.core.tenant import Credential, TenantPolicy, new_api_key
from gateway.errors import Refused, StoreUnavailable, UpstreamAmbiguous
from gateway.service.outcomes import JobRequest, SyncAnswer
from gateway.service.resolve import JobAdmin
from gateway.service.rules import Rules
from gateway.service.submit import Outcome

MODEL: Final = "flux-2-pro"
HOLD: Final = 10
TENANTS: Final = ("one", "two")
ROUND: Final = get_args(Work)
"""All background work of a process, in the order in which it is done once."""


@dataclass(slots=True)
class Ask:
    """A caller's request, and the task of the process that has it in hand; `outcome` None until there is one.

    Attributes:
        logical: What may run at most once at the vendor: tenant and idempotency key, or the request itself.
    """

    logical: str
    request: JobRequest
    outcome: Outcome | SyncAnswer | None = None


@dataclass
class World:
    """Everything, on an event loop of its own that never waits for anything outside of it.

    Attributes:
        jobs_of: The jobs that a caller's requests were told of.
        refused: Ids of jobs of which a caller was told that they could not even be begun.
        surprises: What came out of a service that no caller can foresee.
    """

    policy: Policy
    budget: int
    slots: int
    known: bool = True
    faults: FaultPoints = NO_FAULTS
    store: MemoryStore = field(default_factory=memory_store)
    events: list[Event] = field(default_factory=list)
    asks: list[Ask] = field(default_factory=list)
    jobs_of: dict[str, set[str]] = field(default_factory=dict)
    refused: set[str] = field(default_factory=set)
    surprises: list[Exception] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.vendor = MemoryVendor(self.now_s, known=self.known)
        self.rules = Rules(self.policy, load_catalogue())
        self.admin = JobAdmin(self.store.survey, self.store.doubts, self.store.ledger)
        self.born = 0
        self.sent = 0
        self.tasks: dict[Process, set[asyncio.Task[None]]] = {}
        self.callers: list[asyncio.Task[None]] = []
        self.keys = {tenant: self.do(self._tenant(tenant)) for tenant in TENANTS}
        self.processes = [self.start(), self.start()]

    async def _tenant(self, tenant: str) -> Credential:
        credential, _ = new_api_key(tenant)
        policy = TenantPolicy(
            tenant, submit=UNLIMITED, read=UNLIMITED, concurrent_jobs=self.slots, budgets={"day": self.budget},
            prices={MODEL: HOLD},
        )  # fmt: skip
        await self.store.tenants.put(policy)
        await self.store.tenants.add_key(credential, "test", ttl_s=None)
        return credential

    def now_s(self) -> float:
        """Tell the time of store and vendor, Unix seconds."""
        return self.store.memory.now_us / 1_000_000

    def do(self, work: Coroutine[Any, Any, Any]) -> Any:  # noqa: ANN401 whatever the work gives
        """Do something, and go on until nothing goes on by itself."""

        async def all_of_it() -> Any:  # noqa: ANN401 as above
            done = await work
            await self._quiet()
            return done

        return self.loop.run_until_complete(all_of_it())

    async def _quiet(self) -> None:
        """Let every task go on until all wait for the test: nobody here ever waits for a socket or a timer."""
        await asyncio.sleep(0)
        while self.loop._ready:  # type: ignore[attr-defined]  # noqa: ASYNC110 asyncio has no other way to tell
            await asyncio.sleep(0)

    def start(self) -> Process:
        """Start a process, which beats at once."""

        async def born() -> Process:
            self.born += 1
            process = Process(
                f"p-{self.born}", self.store, self.vendor, rules=self.rules, sink=self.events.append, clock=self.now_s,
                faults=self.faults,
            )  # fmt: skip
            await process.work("beat")
            return process

        process: Process = self.do(born())
        return process

    def bury(self) -> None:
        """Put a new process in the place of each that died."""
        for at, process in enumerate(self.processes):
            if not process.border.alive:
                self._kill(process)
                self.processes[at] = self.start()

    def _kill(self, process: Process) -> None:
        process.die()
        for task in self.tasks.pop(process, ()):
            task.cancel()

    def ask(self, process: Process, tenant: str, prompt: str, key: str | None) -> None:
        """Make a request, a sync call if its prompt says so, and let it go as far as it does."""
        params = {"prompt": prompt}
        request = JobRequest(
            credential=self.keys[tenant], model=MODEL, body=orjson.dumps(params), params=params, headers={},
            request_id=f"r-{len(self.asks)}", idempotency_key=key,
        )  # fmt: skip
        logical = f"{tenant}/{key}" if key is not None else request.request_id
        self.asks.append(Ask(logical, request))
        self.send(process, self.asks[-1])

    def send(self, process: Process, ask: Ask) -> None:
        """Have a process work on a request."""
        self.callers.append(self._have(process, self._carry(process, ask)))

    def leave(self, number: int) -> None:
        """Have a caller go away before it is answered, if there is one who waits."""
        waiting = [caller for caller in self.callers if not caller.done()]
        if waiting:
            self.do(self._cancelled(waiting[number % len(waiting)]))
            self.bury()

    async def _cancelled(self, caller: asyncio.Task[None]) -> None:
        caller.cancel()

    def _have(self, process: Process, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Have a process do something, as far as it gets."""
        task: asyncio.Task[None] = self.do(self._begin(process, work))
        self.bury()
        return task

    async def _begin(self, process: Process, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(self._watched(work))
        self.tasks.setdefault(process, set()).add(task)
        return task

    async def _watched(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except (Died, asyncio.CancelledError):
            return
        except Exception as surprise:  # noqa: BLE001 nobody may have foreseen it
            self.surprises.append(surprise)

    async def _carry(self, process: Process, ask: Ask) -> None:
        sync, job_id = ask.request.params["prompt"].startswith("sync"), self._job_id()
        service = process.calls.call if sync else process.submits.submit
        try:
            outcome = await service(replace(ask.request, job_id=job_id))
            if isinstance(outcome, SyncAnswer):
                async for _ in outcome.chunks:
                    pass
        except (Refused, StoreUnavailable):
            self.refused.add(job_id)
            return
        except UpstreamAmbiguous:
            return  # the answer broke off
        ask.outcome = outcome
        job = None if isinstance(outcome, Denied) else outcome.job
        if job is not None:
            self.jobs_of.setdefault(ask.logical, set()).add(job.id)

    def _job_id(self) -> str:
        """Make the id of the next job: in no order, as they decide between jobs of one moment, but always the same."""
        self.sent += 1
        return str(uuid.uuid5(uuid.NAMESPACE_OID, str(self.sent)))

    def work(self, process: Process, *pieces: Work) -> None:
        """Have a process do background work."""
        for piece in pieces:
            self._have(process, process.work(piece))

    def resume(self, process: Process) -> None:
        """Let a process go on with what was paused."""

        async def resumed() -> None:
            process.border.resume()

        self.do(resumed())
        self.bury()

    def pass_time(self, seconds: float) -> None:
        """Let time go by, of which nobody takes any notice but callers who wait, and the vendor."""
        self.store.memory.pass_time(seconds)
        self.do(self._advance())

    async def _advance(self) -> None:
        self.vendor.advance()

    def release(self, number: int) -> None:
        """Let the vendor answer a call that it has kept waiting."""

        async def answer() -> None:
            self.vendor.release(number)

        self.do(answer())
        self.bury()

    def jobs(self) -> list[Job]:
        """List every job on record."""
        return [job for books in self.store.memory.tenants.values() for job in books.jobs.values()]

    def close(self) -> None:
        """End everything, and what it leaves behind."""
        for process in self.processes:
            self._kill(process)
        left = asyncio.all_tasks(self.loop)
        for task in left:
            task.cancel()
        self.loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
        self.loop.close()
