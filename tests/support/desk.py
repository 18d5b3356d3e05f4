"""Where UNKNOWN jobs are looked up: real store at a time that the test sets, a history that the test writes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from support.ledger import CLOCK_START_US, Store, admission, assert_audited, clocked, open_store, set_clock

from gateway.catalogue.loader import load_catalogue
from gateway.core.adoption import History, HistoryRow
from gateway.core.events import Alert, Event
from gateway.core.job import Job, JobState
from gateway.core.policy import Policy
from gateway.core.tenant import Credential
from gateway.service.adopt import Adopter
from gateway.service.finish import Finisher
from gateway.service.learn import Learner
from gateway.service.resolve import JobAdmin
from gateway.service.rules import Rules
from gateway.service.watchlist import Watchlist
from gateway.store.readiness import ensure_epoch
from gateway.store.scripts import load_scripts

MODEL: Final = "kling-2.6"
START_MS: Final = CLOCK_START_US // 1000


@dataclass(slots=True)
class Books:
    """A vendor's history: what it shows, or why it can't be read.

    Attributes:
        fails_for: The one model of which it can't be read; empty: any.
        meanwhile: What happens while it is read.
        reads: Model, company key and the moment since which rows were wanted, of each reading.
    """

    rows: list[HistoryRow] = field(default_factory=list)
    complete: bool = True
    own_key: bool = True
    failure: Exception | None = None
    fails_for: str = ""
    meanwhile: Callable[[], Awaitable[object]] | None = None
    reads: list[tuple[str, str, int]] = field(default_factory=list)

    async def history(self, model: str, *, since_ms: int, now_ms: int, upstream_key: str) -> History:
        """See `HistoryReader.history`."""
        assert since_ms < now_ms
        self.reads.append((model, upstream_key, since_ms))
        if self.meanwhile is not None:
            await self.meanwhile()
        if self.failure is not None and self.fails_for in {"", model}:
            raise self.failure
        return History([row for row in self.rows if row.model == model], self.complete, self.own_key)


@dataclass(slots=True)
class Desk:
    """An adopter, what it works on, and what it told."""

    store: Store
    books: Books
    adopter: Adopter
    admin: JobAdmin
    credential: Credential
    events: list[Event] = field(default_factory=list)
    now_s: float = 0.0

    async def sent(self, fingerprint: str = "f1", tenant: str = "team", **changes: Any) -> Job:  # noqa: ANN401 fields of Admission
        """Have a job admitted, which is being sent now."""
        credential = self.credential if tenant == "team" else await self.store.caller(tenant)
        request = admission(credential, **{"model": MODEL, "fingerprint": fingerprint, **changes})
        await self.store.ledger.admit(request)
        job = await self.store.jobs.find(tenant, request.job_id)
        assert job is not None
        return job

    async def doubted(self, fingerprint: str = "f1", tenant: str = "team", **changes: Any) -> Job:  # noqa: ANN401 as above
        """Have a job sent whose outcome nobody knows."""
        job = await self.sent(fingerprint, tenant, **changes)
        await self.store.ledger.doubt(job.tenant, job.id, "reset")
        return job

    def row(self, name: str = "v1", at_s: float | None = 1, fingerprint: str | None = "f1", **changes: Any) -> None:  # noqa: ANN401 fields of a row
        """Have the history show a request, made some seconds after the start."""
        wanted: dict[str, Any] = {"model": MODEL, "status": "PENDING", "cost": None}
        created_ms = None if at_s is None else START_MS + round(at_s * 1000)
        self.books.rows.append(
            HistoryRow(request_id=name, fingerprint=fingerprint, created_ms=created_ms, **{**wanted, **changes})
        )

    async def at(self, now_s: float) -> None:
        """Move the time to so many seconds after the start, and look up what is due."""
        await self.set_time(now_s)
        await self.adopter.look()

    async def set_time(self, now_s: float) -> None:
        """Move the time."""
        self.now_s = now_s
        await set_clock(self.store.client, CLOCK_START_US + round(now_s * 1_000_000))

    async def read(self, job: Job) -> Job:
        """Read a job's record."""
        found = await self.store.jobs.find(job.tenant, job.id)
        assert found is not None
        return found

    async def states(self, *jobs: Job) -> list[tuple[JobState, str | None]]:
        """Read where jobs stand, and with which vendor's id."""
        records = [await self.read(job) for job in jobs]
        return [(record.state, record.upstream_id) for record in records]

    async def money(self) -> tuple[int, int]:
        """Read what is spent and held, nanocredits."""
        total = (await self.store.jobs.windows("team"))[-1]
        return total.spent, total.held

    def alerts(self) -> list[str]:
        """Name the alerts so far."""
        return [event.event for event in self.events if isinstance(event, Alert)]


@asynccontextmanager
async def desk_on(redis_url: str, policy: Policy) -> AsyncIterator[Desk]:
    """Put an adopter together on an empty store; the ledger must add up at the end."""
    library = clocked(load_scripts())
    async with open_store(redis_url, library=library, policy=policy) as store:
        await ensure_epoch(store.client)
        await set_clock(store.client, CLOCK_START_US)
        events: list[Event] = []
        rules, books = Rules(policy, load_catalogue()), Books()
        learner = Learner(store.experience, rules)
        adopter = Adopter(
            doubts=store.doubts,
            history=books,
            ledger=store.ledger,
            finisher=Finisher(store.ledger, store.jobs, learner, Watchlist(store.due), events.append),
            due=store.due,
            rules=rules,
            sweeper=store.sweeper,
            sink=events.append,
        )
        admin = JobAdmin(store.survey, store.doubts, store.ledger)
        yield Desk(store, books, adopter, admin, await store.caller("team"), events)
        await assert_audited(store.client)
