from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any, Final

import pytest
from support.desk import MODEL, START_MS, Desk, desk_on
from support.ledger import CREDIT, entries

from gateway.core.adoption import FIRST_LOOK_S
from gateway.core.events import JobEnded
from gateway.core.job import JobState
from gateway.core.movements import Finished, Release
from gateway.core.policy import Policy
from gateway.errors import UpstreamInvalidResponse
from gateway.service.adopt import OTHERS, accept
from gateway.store.epoch import EpochGuard
from gateway.store.ledger import RedisLedger
from gateway.store.scripts import load_scripts

CHARGE: Final = Policy(unknown_jobs="charge")
RELEASE: Final = Policy(unknown_jobs="release")


@pytest.fixture
async def desk(redis_url: str, request: pytest.FixtureRequest) -> AsyncIterator[Desk]:
    """Put an adopter together; its policy may be given as an indirect parameter."""
    async with desk_on(redis_url, getattr(request, "param", CHARGE)) as ready:
        yield ready


async def test_found(desk: Desk) -> None:
    """A job that the history shows has its vendor's id from the first look on, is due at once, and still held."""
    job = await desk.doubted(upstream_key="key-1")
    desk.row()
    await desk.at(FIRST_LOOK_S - 0.001)
    assert await desk.states(job) == [(JobState.UNKNOWN, None)]
    await desk.at(FIRST_LOOK_S)
    assert await desk.states(job) == [(JobState.ACCEPTED, "v1")]
    assert [entry.job_id for entry in (await desk.store.due.claim(limit=16, lease_s=60)).entries] == [job.id]
    assert await desk.money() == (0, CREDIT)
    assert desk.alerts() == ["job.adopted"]
    assert [(model, key) for model, key, _ in desk.books.reads] == [(MODEL, "key-1")]


@pytest.mark.parametrize(
    ("status", "cost", "ended"),
    [
        ("COMPLETED", CREDIT // 3, (JobState.COMPLETED, CREDIT // 3, False)),
        ("COMPLETED", None, (JobState.COMPLETED, CREDIT, True)),
        ("FAILED", None, (JobState.FAILED, None, False)),
    ],
)
async def test_a_sync_call_ends_by_its_row(desk: Desk, status: str, cost: int | None, ended: Any) -> None:  # noqa: ANN401 a tuple
    """A sync call has no record to poll: it waits while its row is PENDING, then ends by the row, and is never due."""
    job = await desk.doubted(kind="sync")
    desk.row()
    for now_s in (10, 40, 900, 4000):
        await desk.at(now_s)
        assert await desk.states(job) == [(JobState.UNKNOWN, None)]
    desk.books.rows.clear()
    desk.row(status=status, cost=cost)
    await desk.at(4200)
    record = await desk.read(job)
    assert (record.state, record.cost, record.estimated) == ended
    assert record.upstream_id == ("v1" if status == "COMPLETED" else None)
    assert await desk.money() == (record.cost or 0, 0)
    assert (await desk.store.due.claim(limit=16, lease_s=60)).entries == []
    assert len([event for event in desk.events if isinstance(event, JobEnded)]) == 1
    assert len(desk.books.reads) == 5


@pytest.mark.parametrize("kind", ["async", "sync"])
async def test_a_failed_row_is_believed_late(desk: Desk, kind: str) -> None:
    """A row that FAILED may be that of an equal call which was refused: the job's own, if it appears, goes first."""
    job = await desk.doubted(kind=kind)
    desk.row("refused", status="FAILED")
    for now_s in (10, 40, 300):
        await desk.at(now_s)
    assert await desk.states(job) == [(JobState.UNKNOWN, None)]
    desk.row("own", status="COMPLETED", cost=CREDIT, at_s=2)
    await desk.at(899)
    [(state, upstream_id)] = await desk.states(job)
    assert (state, upstream_id) == (JobState.COMPLETED if kind == "sync" else JobState.ACCEPTED, "own")


async def test_a_failed_row_at_another_time_charges_nobody(desk: Desk) -> None:
    """A refused call's FAILED row from long before leaves nothing unclear: whosever it is, the job costs nothing."""
    job = await desk.doubted()
    desk.row("refused", status="FAILED", at_s=-3600)
    for now_s in (10, 300, 900):
        await desk.at(now_s)
    assert await desk.states(job) == [(JobState.REJECTED, None)]


async def test_a_row_that_a_sync_call_took_is_nobody_elses(desk: Desk) -> None:
    """An equal call without a row of its own is not given that of a call that has ended by it."""
    first, second = await desk.doubted(kind="sync"), await desk.doubted(kind="sync", tenant="other")
    desk.row(status="FAILED")
    for now_s in (10, 60, 900):
        await desk.at(now_s)
    assert await desk.states(first, second) == [(JobState.FAILED, None), (JobState.REJECTED, None)]


async def test_never_there(desk: Desk) -> None:
    """After 15 minutes in which every look could read the history, a job that is not in it is released, with why."""
    job = await desk.doubted()
    desk.row(fingerprint="f2")
    for now_s in (12, 25, 60, 200, 899):
        await desk.at(now_s)
    assert await desk.states(job) == [(JobState.UNKNOWN, None)]
    await desk.at(900)
    ended = await desk.read(job)
    assert (ended.state, ended.cost, ended.code) == (JobState.REJECTED, None, "upstream_error")
    assert "from 2026-02-02T02:40:12Z to 2026-02-02T02:55:00Z" in (ended.error or "")
    assert await desk.money() == (0, 0)
    assert [(event.state, event.cost) for event in desk.events if isinstance(event, JobEnded)] == [("REJECTED", 0)]


@pytest.mark.parametrize(
    ("desk", "state", "spent"),
    [(CHARGE, JobState.EXPIRED, CREDIT), (RELEASE, JobState.REJECTED, 0)],
    indirect=["desk"],
)
@pytest.mark.parametrize("trouble", ["failing", "no end", "another's inputs", "another time", "altered inputs"])
async def test_what_the_history_can_not_tell(desk: Desk, trouble: str, state: JobState, spent: int) -> None:
    """Where nothing is found in a history that shows too little, the policy decides, after 15 minutes."""
    job = await desk.doubted()
    match trouble:
        case "failing":
            desk.books.failure = UpstreamInvalidResponse("maintenance")
        case "no end":
            desk.books.complete = False
        case "another's inputs":
            desk.row(fingerprint=None)
        case "altered inputs":  # its own is there, and not to be told by what was sent
            running = await desk.sent("f2", "other")
            await desk.store.ledger.accept(running.tenant, running.id, "v2")
            desk.row("v2", fingerprint="f2 and defaults")
            desk.row("v1", fingerprint="f1 and defaults")
        case _:
            desk.row(at_s=5 * 3600)
    for now_s in (10, 400, 899):
        await desk.at(now_s)
    assert await desk.states(job) == [(JobState.UNKNOWN, None)]
    await desk.at(900)
    ended = await desk.read(job)
    assert (ended.state, ended.estimated) == (state, state is JobState.EXPIRED)
    assert "by policy" in (ended.error or "")
    assert await desk.money() == (spent, 0)


@pytest.mark.parametrize(("sent_with", "state"), [("new", JobState.EXPIRED), ("old", JobState.REJECTED)])
async def test_a_key_that_is_gone(desk: Desk, sent_with: str, state: JobState) -> None:
    """Absence from the history of another key is evidence only if it shows a job that was sent with the job's own."""
    desk.books.own_key = False
    job = await desk.doubted(upstream_key="old")
    other = await desk.sent("f2", "other", upstream_key=sent_with)
    await desk.store.ledger.accept(other.tenant, other.id, "v2")
    for number in range(OTHERS):
        desk.row(f"later-{number}", fingerprint="f3", at_s=400)
    desk.row("v2", fingerprint="f2")
    for now_s in (10, 400, 900):
        await desk.at(now_s)
    ended = await desk.read(job)
    assert ended.state is state
    assert ("another company key" in (ended.error or "")) is (state is JobState.EXPIRED)


async def test_found_by_another_key(desk: Desk) -> None:
    """A match is a match, whichever key the history was read with."""
    desk.books.own_key = False
    job = await desk.doubted(upstream_key="old")
    desk.row()
    await desk.at(FIRST_LOOK_S)
    assert await desk.states(job) == [(JobState.ACCEPTED, "v1")]


async def test_a_history_that_failed_once(desk: Desk) -> None:
    """One failed look charges nothing; it puts the release off until the history was readable for 15 minutes on end."""
    job = await desk.doubted()
    await desk.at(20)
    desk.books.failure = UpstreamInvalidResponse("maintenance")
    await desk.at(300)
    desk.books.failure = None
    for now_s in (500, 900, 1100, 1300):
        await desk.at(now_s)
    assert await desk.states(job) == [(JobState.UNKNOWN, None)]
    await desk.at(1420)
    assert await desk.states(job) == [(JobState.REJECTED, None)]


async def test_a_late_failure_alone_charges_nothing(desk: Desk) -> None:
    """A look that fails when time is up is made again before policy decides."""
    job = await desk.doubted()
    await desk.at(20)
    desk.books.failure = UpstreamInvalidResponse("maintenance")
    await desk.at(905)
    assert await desk.states(job) == [(JobState.UNKNOWN, None)]
    desk.books.failure = None
    desk.row()
    await desk.at(1100)
    assert await desk.states(job) == [(JobState.ACCEPTED, "v1")]


async def test_a_first_look_that_fails_charges_nothing(desk: Desk) -> None:
    """A job that nobody could look up for 15 minutes, no gateway being up, is not ended by one failing look either."""
    job = await desk.doubted()
    desk.books.failure = UpstreamInvalidResponse("maintenance")
    await desk.at(2000)
    assert await desk.states(job) == [(JobState.UNKNOWN, None)]
    await desk.at(2120)
    assert await desk.states(job) == [(JobState.EXPIRED, None)]


async def test_equal_jobs_one_row(desk: Desk) -> None:
    """Of two equal jobs and one row, the older has it; the other never ran and is released."""
    older, younger = await desk.doubted(), await desk.doubted(tenant="other")
    desk.row()
    for now_s in (10, 60, 900):
        await desk.at(now_s)
    assert await desk.states(older, younger) == [(JobState.ACCEPTED, "v1"), (JobState.REJECTED, None)]


async def test_equal_jobs_of_many(desk: Desk) -> None:
    """As many rows as equal jobs: each has one, in the order of submission."""
    jobs = []
    for at_s in range(5):
        await desk.set_time(at_s)
        jobs.append(await desk.doubted())
        desk.row(f"v{at_s}", at_s + 0.5)
    desk.books.rows.reverse()
    await desk.at(20)
    assert await desk.states(*jobs) == [(JobState.ACCEPTED, f"v{n}") for n in range(5)]


@pytest.mark.parametrize("tenant", ["team", "other"])
async def test_a_row_of_a_job_that_was_accepted(desk: Desk, tenant: str) -> None:
    """A vendor's id that any job of any tenant has is nobody else's, however equal they are."""
    first = await desk.sent(tenant=tenant)
    await desk.store.ledger.accept(first.tenant, first.id, "v1")
    second = await desk.doubted()
    desk.row()
    for now_s in (10, 900):
        await desk.at(now_s)
    assert await desk.states(first, second) == [(JobState.ACCEPTED, "v1"), (JobState.REJECTED, None)]


@pytest.mark.parametrize("tenant", ["team", "other"])
async def test_an_equal_job_that_is_being_sent(desk: Desk, tenant: str) -> None:
    """A row that a job in flight may own is nobody's until that has its answer."""
    waiting = await desk.doubted()
    sending = await desk.sent(tenant=tenant)
    desk.row()
    await desk.at(15)
    assert (await desk.states(waiting)) == [(JobState.UNKNOWN, None)]
    await accept(desk.store.ledger, desk.store.doubts, sending, "v1")
    desk.row("v2", 2)
    await desk.at(20)
    assert await desk.states(sending, waiting) == [(JobState.ACCEPTED, "v1"), (JobState.ACCEPTED, "v2")]


async def test_an_answer_that_comes_late(desk: Desk) -> None:
    """A job that was given up on is accepted by its late answer, in one write if it was not, and only by a free id."""
    prompt, late, beaten = await desk.sent("f1"), await desk.doubted("f2"), await desk.doubted("f3")
    other = await desk.doubted("f3", "other")
    assert await desk.store.doubts.claim("v3", other)
    for job, upstream_id in ((prompt, "v1"), (late, "v2"), (beaten, "v3")):
        for _ in range(2):  # as when a reply was lost
            await accept(desk.store.ledger, desk.store.doubts, job, upstream_id)
    assert await desk.states(prompt, late, beaten) == [
        (JobState.ACCEPTED, "v1"), (JobState.ACCEPTED, "v2"), (JobState.UNKNOWN, None),
    ]  # fmt: skip


async def test_a_claim_that_came_too_late(desk: Desk) -> None:
    """A job that another process gave an id just now gives its claim on another back, and an equal job takes it."""
    late, equal = await desk.doubted(), await desk.doubted(tenant="other")

    class Beaten(RedisLedger):
        async def adopt(self, tenant: str, job_id: str, upstream_id: str) -> Finished:
            await super().adopt(tenant, job_id, "v1")
            return await super().adopt(tenant, job_id, upstream_id)

    beaten = Beaten(desk.store.scripts, load_scripts(), Policy, EpochGuard(desk.store.client))
    await accept(beaten, desk.store.doubts, late, "v2")
    desk.row("v1", 1)
    desk.row("v2", 2)
    await desk.at(15)
    assert await desk.states(late, equal) == [(JobState.ACCEPTED, "v1"), (JobState.ACCEPTED, "v2")]


async def test_a_claim_of_a_job_that_was_refused(desk: Desk) -> None:
    """A job that its own process had refused just now, after all, gives its claim back, and an equal job takes it."""
    refused, equal = await desk.doubted(), await desk.doubted(tenant="other")

    class Refused(RedisLedger):
        async def adopt(self, tenant: str, job_id: str, upstream_id: str) -> Finished:
            await super().release(Release(tenant=tenant, job_id=job_id, state=JobState.REJECTED, reason="no"))
            return await super().adopt(tenant, job_id, upstream_id)

    late = Refused(desk.store.scripts, load_scripts(), Policy, EpochGuard(desk.store.client))
    await accept(late, desk.store.doubts, refused, "v1")
    desk.row("v1", 1)
    await desk.at(15)
    assert await desk.states(refused, equal) == [(JobState.REJECTED, None), (JobState.ACCEPTED, "v1")]


async def test_a_claim_outlives_its_process(desk: Desk) -> None:
    """A row that a job had claimed when the process died is still that job's, and no equal one's."""
    older, younger = await desk.doubted(), await desk.doubted()
    assert await desk.store.doubts.claim("v1", younger)
    assert not await desk.store.doubts.claim("v1", older)
    desk.row()
    await desk.at(10)
    assert await desk.states(older, younger) == [(JobState.UNKNOWN, None), (JobState.ACCEPTED, "v1")]


async def test_a_claim_whose_process_died_before_its_job_was_refused(desk: Desk) -> None:
    """A claimed job that is then ended otherwise leaves its row to an equal job, at whose next look it is found."""
    refused, equal = await desk.doubted(), await desk.doubted(tenant="other")
    assert await desk.store.doubts.claim("v1", refused)
    await desk.admin.release(refused.id, "the vendor says that it never had it")
    desk.row()
    await desk.at(10)
    assert await desk.states(refused, equal) == [(JobState.REJECTED, None), (JobState.ACCEPTED, "v1")]


async def test_one_reading_for_many_jobs(desk: Desk) -> None:
    """However many jobs of two models are UNKNOWN, they take two readings, back to the oldest; more only later."""
    for number in range(40):
        await desk.doubted(f"f{number}", model="kling-2.6" if number % 2 else "flux-2-pro")
    await desk.at(11)
    await desk.at(14)
    assert sorted(model for model, *_ in desk.books.reads) == ["flux-2-pro", "kling-2.6"]
    assert {since_ms < START_MS for *_, since_ms in desk.books.reads} == {True}
    await desk.at(30)
    assert len(desk.books.reads) == 4


async def test_a_surprise_with_one_model_is_no_other_models(desk: Desk) -> None:
    """Whatever breaks the look-up of one model's jobs, those of the others are looked up in the same round."""
    odd, found = await desk.doubted(model="flux-2-pro"), await desk.doubted()
    desk.books.failure, desk.books.fails_for = ArithmeticError("nobody has thought of it"), "flux-2-pro"
    desk.row()
    await desk.at(11)
    assert await desk.states(odd, found) == [(JobState.UNKNOWN, None), (JobState.ACCEPTED, "v1")]
    assert desk.alerts() == ["adoption.failed", "job.adopted"]


@pytest.mark.parametrize(
    ("row", "state", "spent"),
    [
        ({"status": "COMPLETED", "cost": CREDIT // 2}, JobState.COMPLETED, CREDIT // 2),
        ({"status": "FAILED", "cost": 0}, JobState.FAILED, 0),
        ({"status": "PENDING", "cost": None}, JobState.ACCEPTED, 0),
    ],
)
async def test_found_after_the_vendors_hour(desk: Desk, row: Mapping[str, Any], state: JobState, spent: int) -> None:
    """A job that is found when the vendor has dropped its record ends by what the history says of it."""
    job = await desk.doubted()
    desk.row(**row)
    await desk.at(3700)
    assert await desk.states(job) == [(state, "v1")]
    assert (await desk.money())[0] == spent


async def test_operators(desk: Desk) -> None:
    """Operators see how far the search got, and end a job by what they know; what has ended stays as it is."""
    one, two = await desk.doubted("f1"), await desk.doubted("f2", "other")
    await desk.at(10)
    seen = await desk.admin.unknown()
    looked_ms = START_MS + 10_000
    looks = {(doubt.job.id, doubt.readable_ms, doubt.looked_ms) for doubt in seen}
    assert looks == {(job.id, looked_ms, looked_ms) for job in (one, two)}
    charged = await desk.admin.charge(one.id, 5 * CREDIT, "seen on the bill")
    released = await desk.admin.release(two.id, "not on the bill")
    assert (charged.state, charged.cost, charged.estimated) == (JobState.EXPIRED, 5 * CREDIT, False)
    assert (released.state, released.error) == (JobState.REJECTED, "released by an operator: not on the bill")
    assert await desk.money() == (5 * CREDIT, 0)
    assert [entry["actor"] for entry in await entries(desk.store.client, "team")][1:] == ["operator"] * 2
    assert await desk.admin.unknown() == []


async def test_looks_are_forgotten_with_the_doubt(desk: Desk) -> None:
    """A look at a job that is no longer UNKNOWN records nothing."""
    job = await desk.sent()
    assert await desk.store.doubts.note(job, readable=True) is None
    doubts, now_ms = await desk.store.doubts.unknown()
    assert (doubts, now_ms) == ([], START_MS)
    await desk.store.ledger.doubt(job.tenant, job.id, "reset")
    assert await desk.store.doubts.note(job, readable=True) == START_MS
    assert [doubt.looked_ms for doubt in (await desk.store.doubts.unknown())[0]] == [START_MS]
