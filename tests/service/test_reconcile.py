from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

import pytest
from support.ledger import CREDIT, Store, admission, assert_audited, open_store

from gateway.catalogue.loader import load_catalogue
from gateway.core.adoption import HistoryRow
from gateway.core.events import Alert, Event, Reconciled
from gateway.core.job import JobState
from gateway.core.movements import Release, Settlement
from gateway.core.policy import Policy
from gateway.core.reconcile import Booked
from gateway.errors import InvalidRequest, UpstreamInvalidResponse
from gateway.service.daily import TRIES, DailyReconciliation
from gateway.service.reconcile import Reconciler, Reconciliation
from gateway.service.rules import Rules
from gateway.store.adjustments import RedisAdjustments
from gateway.store.doubts import RedisDoubts
from gateway.store.ledgers import RedisLedgers
from gateway.store.readiness import ensure_epoch
from gateway.store.scripts import load_scripts

TENANT = "team"


@dataclass(slots=True)
class Bill:
    """The vendor's side, as the test writes it.

    Attributes:
        meanwhile: What happens while it is read the next time.
    """

    rows: list[HistoryRow] = field(default_factory=list)
    failures: int = 0
    reads: int = 0
    silent: bool = False
    meanwhile: Callable[[], Awaitable[object]] | None = None

    async def statement(self, *, first_ms: int, end_ms: int) -> Sequence[HistoryRow]:
        """See `Statement.statement`."""
        assert first_ms < end_ms
        self.reads += 1
        if self.reads <= self.failures:
            raise UpstreamInvalidResponse("the history is not a JSON object")
        rows = list(self.rows)
        if self.meanwhile is not None:
            meanwhile, self.meanwhile = self.meanwhile, None
            await meanwhile()
        return rows

    async def ensure_shown(self, *, end_ms: int) -> None:
        """See `Statement.ensure_shown`."""
        assert end_ms
        if self.silent:
            raise UpstreamInvalidResponse("the history shows no request at all")


@dataclass(slots=True)
class Office:
    """A reconciler, what it works on, and jobs for it."""

    store: Store
    bill: Bill
    reconciler: Reconciler
    now_ms: int

    @property
    def today(self) -> date:
        """The store's day."""
        return datetime.fromtimestamp(self.now_ms / 1000, UTC).date()

    def billed(self, name: str, cost: int | None, status: str = "COMPLETED") -> None:
        """Have the vendor list a request."""
        self.bill.rows.append(
            HistoryRow(
                request_id=name, model="kling-2.6", status=status, cost=cost, fingerprint=None, created_ms=self.now_ms
            )
        )

    async def job(self, name: str, cost: int | None = CREDIT, *, end: str = "settle") -> str:
        """Have a job of ours with a vendor's id; return its own."""
        request = admission(await self.store.caller(TENANT), labels={"shot": name})
        await self.store.ledger.admit(request)
        await self.store.ledger.accept(TENANT, request.job_id, name)
        charge = Settlement(tenant=TENANT, job_id=request.job_id, state=JobState.COMPLETED, cost=cost)
        if end == "settle":
            await self.store.ledger.settle(charge)
        elif end == "expire":
            await self.store.ledger.settle(replace(charge, state=JobState.EXPIRED, cost=None))
        elif end == "fail":
            end_ = Release(tenant=TENANT, job_id=request.job_id, state=JobState.FAILED, reason="")
            await self.store.ledger.release(end_)
        return request.job_id

    async def compare(self) -> Reconciliation:
        """Compare today."""
        return await self.reconciler.compare(self.today, self.today)

    async def spent(self, tenant: str = TENANT) -> int:
        """Read what a tenant has spent."""
        return (await self.store.jobs.windows(tenant))[-1].spent


@pytest.fixture
async def office(redis_url: str) -> AsyncIterator[Office]:
    """Put a reconciler together on an empty store; the ledger must add up at the end."""
    async with open_store(redis_url) as store:
        await ensure_epoch(store.client)
        bill, library = Bill(), load_scripts()
        ledgers, doubts = (
            RedisLedgers(store.client, store.scripts, library),
            RedisDoubts(store.client, store.scripts, library),
        )
        reconciler = Reconciler(bill, ledgers, doubts, RedisAdjustments(store.scripts, library, doubts))
        yield Office(store, bill, reconciler, await ledgers.now_ms())
        await assert_audited(store.client)


async def test_rows_are_matched_by_the_vendors_id(office: Office) -> None:
    """Each request of either side is told once: matched, at another cost, missing here or there, or still running."""
    for name, cost in (("same", CREDIT), ("dearer", CREDIT), ("lost", CREDIT)):
        await office.job(name, cost)
    await office.job("failed", end="fail")
    await office.job("running", end="run")
    await office.job("gone", end="expire")
    office.billed("same", CREDIT)
    office.billed("dearer", CREDIT + 1)
    office.billed("failed", None, "FAILED")
    office.billed("running", None, "PENDING")
    office.billed("strange", 7)
    office.billed("strange and running", None, "PENDING")
    found = await office.compare()
    assert {line.upstream_id: (line.kind, line.ours, line.theirs) for line in found.lines} == {
        "same": ("matched", CREDIT, CREDIT),
        "dearer": ("differs", CREDIT, CREDIT + 1),
        "failed": ("matched", 0, 0),
        "running": ("running", None, None),
        "strange": ("only_theirs", None, 7),
        "strange and running": ("running", None, None),
        "lost": ("only_ours", CREDIT, None),
        "gone": ("only_ours", CREDIT, None),
    }
    assert (found.agrees, found.drift) == (False, 1 + 7 + 2 * CREDIT)


async def test_a_job_that_begins_and_ends_during_the_comparison(office: Office) -> None:
    """What the vendor's side could not show yet when it was read is looked for again, and not credited."""
    await office.job("old")
    office.billed("old", CREDIT)

    async def another() -> None:
        await office.job("new")
        office.billed("new", CREDIT)

    office.billed("running", None, "PENDING")

    async def end() -> None:
        await another()
        await office.job("running")
        office.bill.rows[1] = replace(office.bill.rows[1], status="COMPLETED", cost=CREDIT)

    office.bill.meanwhile = end
    found = await office.compare()
    assert {line.upstream_id: line.kind for line in found.lines} == dict.fromkeys(("old", "running", "new"), "matched")
    assert await office.reconciler.adjust(found.lines) == 0


async def test_a_claim_without_a_job_hides_nothing(office: Office) -> None:
    """A row that a job had claimed which was then refused is told, and may be charged to whom an operator says."""
    request = admission(await office.store.caller(TENANT))
    await office.store.ledger.admit(request)
    refused = (await office.store.ledger.doubt(TENANT, request.job_id, "reset")).job
    assert refused is not None
    assert await office.store.doubts.claim("v1", refused)
    office.billed("v1", CREDIT)
    assert [line.kind for line in (await office.compare()).lines] == ["running"]
    release = Release(tenant=TENANT, job_id=refused.id, state=JobState.REJECTED, reason="no")
    await office.store.ledger.release(release)
    found = await office.compare()
    assert [line.kind for line in found.lines] == ["only_theirs"]
    assert await office.reconciler.adopt(found.lines, TENANT) == 1
    assert (await office.compare()).agrees
    assert await office.spent() == CREDIT


async def test_a_month_is_compared_in_parts_that_tell_each_request_once(office: Office) -> None:
    """Over 31 days, read in seven parts, every row and job is told once, also a row without a time."""
    await office.job("ours")
    await office.job("ours, at no time")
    await office.job("lost")
    for name in ("ours", "strange", "ours, at no time", "strange, at no time"):
        office.billed(name, CREDIT)
    office.bill.rows[2:] = [replace(row, created_ms=None) for row in office.bill.rows[2:]]
    found = await office.reconciler.compare(office.today - timedelta(days=30), office.today)
    assert office.bill.reads == 7 + 1  # again, for the one that is lost
    assert sorted((line.upstream_id, line.kind) for line in found.lines) == [
        ("lost", "only_ours"),
        ("ours", "matched"),
        ("ours, at no time", "matched"),
        ("strange", "only_theirs"),
        ("strange, at no time", "only_theirs"),
    ]


async def test_a_history_that_shows_nothing_at_all_is_no_difference(office: Office) -> None:
    """Where it does not show any request of a month, nothing is said of what it lacks."""
    await office.job("v1")
    office.bill.silent = True
    with pytest.raises(UpstreamInvalidResponse):
        await office.compare()


async def test_what_agrees_agrees(office: Office) -> None:
    """Where both sides list the same, nothing is left to do; so for a day on which nothing happened."""
    await office.job("v1")
    office.billed("v1", CREDIT)
    assert (await office.compare()).agrees
    quiet = await office.reconciler.compare(office.today - timedelta(days=9), office.today - timedelta(days=8))
    assert (quiet.agrees, quiet.lines) == (True, [])


async def test_adjusting_makes_ours_theirs_and_may_be_repeated(office: Office) -> None:
    """The vendor's figure is charged by an entry of its own, once; then both sides agree, record and usage too."""
    job = await office.job("v1", None)
    free = await office.job("v2", end="fail")
    await office.job("v3", end="expire")
    office.billed("v1", CREDIT // 3)
    office.billed("v2", 5, "FAILED")
    found = await office.compare()
    assert await office.reconciler.adjust(found.lines) == 3
    assert await office.reconciler.adjust(found.lines) == 0
    assert (await office.compare()).agrees
    assert await office.spent() == CREDIT // 3 + 5
    records = [await office.store.jobs.find(TENANT, job_id) for job_id in (job, free)]
    assert [(record.cost, record.estimated) for record in records if record] == [(CREDIT // 3, False), (5, False)]
    office.bill.rows[0] = replace(office.bill.rows[0], cost=2 * CREDIT)
    assert await office.reconciler.adjust((await office.compare()).lines) == 1
    assert (await office.compare()).agrees


@pytest.mark.parametrize(("cost", "status"), [(None, "COMPLETED"), (0, "PENDING"), (None, "PENDING"), (None, "ODD")])
async def test_a_cost_that_makes_no_sense_is_not_adjusted_to(office: Office, cost: int | None, status: str) -> None:
    """A row without a usable cost, or whose cost is not final yet, is listed, and nothing is written for it."""
    await office.job("v1")
    office.billed("v1", cost, status)
    found = await office.compare()
    assert [(line.kind, line.theirs) for line in found.lines] == [("differs", None)]
    assert await office.reconciler.adjust(found.lines) == 0


async def test_two_jobs_with_one_id_are_billed_once(office: Office) -> None:
    """Where the vendor gave one id to two jobs, the second is charged for nothing: it is told, and can be mended."""
    await office.job("v1")
    await office.job("v1")
    office.billed("v1", CREDIT)
    found = await office.compare()
    assert sorted((line.kind, line.ours) for line in found.lines) == [("matched", CREDIT), ("only_ours", CREDIT)]
    assert await office.reconciler.adjust(found.lines) == 1
    assert ((await office.compare()).agrees, await office.spent()) == (True, CREDIT)


async def test_a_stale_comparison_adjusts_nothing(office: Office) -> None:
    """What was charged otherwise meanwhile is left alone: two operators don't adjust twice."""
    await office.job("v1")
    office.billed("v1", 3)
    old = await office.compare()
    office.bill.rows[0] = replace(office.bill.rows[0], cost=5)
    new = await office.compare()
    assert [await office.reconciler.adjust(found.lines) for found in (new, old)] == [1, 0]
    assert await office.spent() == 5


async def test_orphans_are_charged_to_the_tenant_that_is_named_once(office: Office) -> None:
    """A request around the gateway counts in the windows of its own time, of one tenant, and agrees from then on."""
    await office.store.caller("other")
    await office.store.caller(TENANT)
    office.billed("strange", 7)
    office.billed("strange, at no cost", 0, "FAILED")
    found = await office.compare()
    assert await office.reconciler.adopt(found.lines, TENANT) == 1
    assert await office.reconciler.adopt(found.lines, TENANT) == 0
    assert await office.reconciler.adopt(found.lines, "other") == 0
    assert (await office.spent(), await office.spent("other")) == (7, 0)
    day = (await office.store.jobs.windows(TENANT))[0]
    assert day.spent == 7
    kinds = {line.upstream_id: line.kind for line in (await office.compare()).lines}
    assert kinds == {"strange": "matched", "strange, at no cost": "only_theirs"}


async def test_a_request_that_was_claimed_and_not_charged_stays_a_difference(office: Office) -> None:
    """A process that dies between the two steps of an adoption hides nothing: doing it again charges it, once."""
    office.billed("strange", 7)
    orphan = Booked(
        tenant=TENANT,
        id="strange",
        model="kling-2.6",
        key_id="",
        state=JobState.COMPLETED,
        upstream_id="strange",
        charged=0,
        windows=(),
    )
    library = load_scripts()
    doubts = RedisDoubts(office.store.client, office.store.scripts, library)
    await office.store.caller(TENANT)
    assert await RedisAdjustments(office.store.scripts, library, doubts).claim(orphan)
    found = await office.compare()
    assert [line.kind for line in found.lines] == ["only_theirs"]
    assert [await office.reconciler.adopt(found.lines, tenant) for tenant in ("other", TENANT, TENANT)] == [0, 1, 0]
    assert [line.kind for line in (await office.compare()).lines] == ["matched"]


@pytest.mark.parametrize("state", [JobState.SENDING, JobState.UNKNOWN])
async def test_what_may_be_a_job_without_an_id_is_not_to_be_adopted(office: Office, state: JobState) -> None:
    """A request with the inputs of a job that is being sent, or UNKNOWN, is that job's until it has another."""
    request = admission(await office.store.caller(TENANT))
    await office.store.ledger.admit(request)
    if state is JobState.UNKNOWN:
        await office.store.ledger.doubt(TENANT, request.job_id, "reset")
    office.billed("its own", CREDIT)
    office.bill.rows[0] = replace(office.bill.rows[0], fingerprint=request.fingerprint)
    assert [line.kind for line in (await office.compare()).lines] == ["running"]
    await office.store.ledger.release(Release(tenant=TENANT, job_id=request.job_id, state=JobState.REJECTED, reason=""))
    assert [line.kind for line in (await office.compare()).lines] == ["only_theirs"]


@pytest.mark.parametrize(("first", "last"), [(1, 0), (-31, 0)])
async def test_spans_that_can_not_be_compared(office: Office, first: int, last: int) -> None:
    """Days in the wrong order, and more than 31, are refused."""
    days = (office.today + timedelta(days=first), office.today + timedelta(days=last))
    with pytest.raises(InvalidRequest):
        await office.reconciler.compare(*days)


async def test_days_whose_entries_are_folded_are_refused(office: Office) -> None:
    """A ledger that no longer has the entries would seem to lack the jobs: it says so instead, also daily, at once."""
    await office.job("v1")
    ledgers = RedisLedgers(office.store.client, office.store.scripts, load_scripts())
    await ledgers.fold(TENANT, keep_s=-1, keep=100, limit=100)
    with pytest.raises(InvalidRequest, match=f"of {TENANT} .* no longer kept"):
        await office.compare()
    at_s = [office.now_ms / 1000 + 86_400]
    process, events = daily(office, Policy(reconcile_at=time(0)), at_s)
    began_s = at_s[0]
    await process.look()
    (told,) = events
    assert isinstance(told, Alert)
    assert (told.event, at_s[0]) == ("reconcile.failed", began_s)  # it would be the same in an hour
    assert TENANT in told.detail


def daily(office: Office, policy: Policy, at_s: list[float]) -> tuple[DailyReconciliation, list[Event]]:
    """Make what one process of the fleet runs."""
    events: list[Event] = []

    async def sleep(seconds: float) -> None:
        at_s[0] += seconds

    rules = Rules(policy, load_catalogue())
    options: dict[str, Any] = {"reconciler": office.reconciler, "sweeper": office.store.sweeper, "rules": rules}
    return DailyReconciliation(**options, sink=events.append, clock=lambda: at_s[0], sleep=sleep), events


async def test_once_a_day_one_process_of_the_fleet_compares(office: Office) -> None:
    """From the time of day on, the first process to look compares the last days; nobody does again that day."""
    await office.job("v1")
    office.billed("v1", CREDIT + 5)
    tomorrow = datetime.combine(office.today + timedelta(days=1), time(4), UTC).timestamp()
    at_s = [tomorrow]
    policy = Policy(reconcile_at=time(4, 30))
    fleet = [daily(office, policy, at_s) for _ in range(2)]
    for minutes in (0, 29, 31, 32, 600):
        at_s[0] = tomorrow + minutes * 60
        for process, _ in fleet:
            await process.look()
    told = [event for _, events in fleet for event in events]
    assert [event.drift for event in told if isinstance(event, Reconciled)] == [5]
    assert [event.event for event in told if isinstance(event, Alert)] == ["reconcile.drift"]
    assert office.bill.reads == 1


@pytest.mark.parametrize(("failures", "expected"), [(2, "reconcile.done"), (TRIES, "reconcile.failed")])
async def test_a_history_that_can_not_be_read_is_tried_again(office: Office, failures: int, expected: str) -> None:
    """For some hours; then it is said that nothing is known, rather than that something is missing."""
    office.bill.failures = failures
    process, events = daily(office, Policy(reconcile_at=time(0)), [office.now_ms / 1000])
    await process.look()
    (told,) = events
    assert (told.event if isinstance(told, Alert) else told.name) == expected


async def test_without_a_time_nothing_is_compared(office: Office) -> None:
    """It runs only where the policy says when."""
    process, events = daily(office, Policy(), [office.now_ms / 1000])
    await process.look()
    assert (office.bill.reads, events) == (0, [])
