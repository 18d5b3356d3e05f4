"""Jobs whose outcome is unknown, held against the vendor's request history: when to look, and which row is whose.

Pure. The rule in words, and what operators do about the rest, stands in ``docs/unknown.md``.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from gateway.core.job import Job, JobState

FIRST_LOOK_S: Final = 10.0
MAX_PAUSE_S: Final = 120.0
EARLIER_S: Final = 120.0
"""A row may be older than its job by so much: the vendor's clock against Redis's."""
LATER_S: Final = 300.0
"""A row may be younger than its job by so much: the longest send, the vendor's own queues, and the clocks."""
SEEN_FROM_S: Final = 60.0
"""Looks that began so soon after the submission have seen the history all along."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryRow:
    """One request, as the vendor's history lists it.

    Attributes:
        status: The vendor's word: ``COMPLETED``, ``FAILED`` or ``PENDING``.
        cost: Nanocredits; None where missing or absurd.
        fingerprint: Of model and inputs (`core.inputs.fingerprint`); None where the row shows no readable inputs.
        created_ms: By the vendor's clock; None where no field of the row reads as a time.
    """

    request_id: str
    model: str
    status: str
    cost: int | None
    fingerprint: str | None
    created_ms: int | None


@dataclass(frozen=True, slots=True)
class History:
    """The rows of one model, each request once.

    Attributes:
        complete: All rows since the moment that was asked for are there; else there were too many of them.
        own_key: It was read with the company key that was asked for; else with the current one, in whose place that
            stood no more: it may be another account's.
    """

    rows: Sequence[HistoryRow]
    complete: bool
    own_key: bool = True


@dataclass(frozen=True, slots=True)
class Doubt:
    """An UNKNOWN job, and how looking it up went so far; times in Unix ms of Redis's clock.

    Attributes:
        readable_ms: Since when every look could read the history; None where the last one could not.
        looked_ms: When it was last looked up; None: never.
    """

    job: Job
    readable_ms: int | None = None
    looked_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Twin:
    """A job without a vendor's id, with inputs that were asked about."""

    job_id: str
    fingerprint: str
    created_ms: int


@dataclass(frozen=True, slots=True)
class Traces:
    """What our own records say of vendor ids and inputs.

    Attributes:
        owners: Vendor id -> the one job of ours (``tenant/job``) that has it or has claimed it.
        without: Jobs that have no vendor's id, be they sent just now or UNKNOWN.
        prints: Vendor id -> fingerprint of what was sent, of the jobs that have theirs.
        keys: Names of the company keys that these were sent with.
    """

    owners: Mapping[str, str]
    without: Sequence[Twin]
    prints: Mapping[str, str] = field(default_factory=dict)
    keys: Collection[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Matches:
    """Which UNKNOWN job is which row.

    Attributes:
        rows: Job id -> its row.
        unclear: Jobs without a row whose absence shows nothing: there is a row of nobody's with the same inputs at
            another time, or one of their time that shows no inputs.
        waiting: Jobs without a row while an equal job is being sent, whose answer decides whose the row is.
        altered: Rows of jobs of ours show inputs, and none of them those that were sent: absence shows nothing.
        elsewhere: The history may be another account's: absence shows nothing.
    """

    rows: Mapping[str, HistoryRow]
    unclear: Collection[str]
    waiting: Collection[str]
    altered: bool = False
    elsewhere: bool = False


def owner_name(job: Job) -> str:
    """Name a job among those of all tenants."""
    return f"{job.tenant}/{job.id}"


def is_of_account(history: History, upstream_key: str, traces: Traces) -> bool:
    """Tell whether a history is of the account that a company key is of, so that its rows tell of that key's jobs.

    One that was read with another key is if it shows a job of ours that was sent with that one.
    """
    return history.own_key or upstream_key in traces.keys


def claim_stands(claimant: Job | None, upstream_id: str) -> bool:
    """Tell whether a claim on a vendor's id still counts: its job has that id, or may yet be given it.

    A job that was given another id, or was ended without one after whoever claimed it died, has no use for this one.
    Were it kept from an equal job, or from reconciliation, what the vendor bills would be nobody's. Once void, a claim
    stays so. That of a FAILED job stands, of which no id is kept; and an operator's, which is no job's (None).
    """
    if claimant is None:
        return True
    if claimant.upstream_id is not None:
        return claimant.upstream_id == upstream_id
    return claimant.state is JobState.FAILED or not claimant.state.terminal


def next_look_ms(doubt: Doubt, unknown_after_s: float) -> int:
    """Return when a job is to be looked up next, Unix ms: at 10, 20, 40, 80, 160 s ..., and at ``unknown_after``."""
    created_ms, looked_ms = doubt.job.created_ms, doubt.looked_ms
    if looked_ms is None:
        return created_ms + _ms(min(FIRST_LOOK_S, unknown_after_s))
    end_ms = created_ms + _ms(unknown_after_s)
    pause_ms = min(max(looked_ms - created_ms, _ms(FIRST_LOOK_S)), _ms(MAX_PAUSE_S))
    return min(looked_ms + pause_ms, end_ms) if looked_ms < end_ms else looked_ms + pause_ms


def shows_absence(doubt: Doubt, now_ms: int, unknown_after_s: float) -> bool:
    """Tell whether looks without a trace, all of which could read the history, show that the job never ran."""
    if doubt.readable_ms is None or now_ms - doubt.job.created_ms < _ms(unknown_after_s):
        return False
    return now_ms - doubt.readable_ms >= _ms(unknown_after_s - SEEN_FROM_S)


def may_be(created_ms: int, row: HistoryRow) -> bool:
    """Tell whether a job of that moment can be a row, by the times alone."""
    if row.created_ms is None:
        return True
    return created_ms - _ms(EARLIER_S) <= row.created_ms <= created_ms + _ms(LATER_S)


def match(jobs: Sequence[Job], rows: Sequence[HistoryRow], traces: Traces, known: Collection[str]) -> Matches:
    """Find the rows of UNKNOWN jobs of one model.

    A row is a job's if model and inputs are the same, its time fits, and no job of ours has its id. Equal jobs and
    rows are paired in the order of their times, so that no row goes to two jobs.

    Args:
        jobs: All UNKNOWN jobs of the model, so that equal ones are told apart.
        rows: Those of the model with the inputs of these jobs, or without inputs; and some others.
        traces: Read after the rows were: what could own one of them was on record by then.
        known: Ids of all jobs that were UNKNOWN before the rows were read. Any other job without a vendor's id may
            turn out to own a row of its inputs: that row is nobody's until it has one.
    """
    ours = {owner_name(job): job.id for job in jobs}
    found = {ours[owner]: row for row in rows if (owner := traces.owners.get(row.request_id)) in ours}
    free = [row for row in rows if row.request_id not in traces.owners]
    twins = [twin for twin in traces.without if twin.job_id not in known]
    reserved = {row.request_id for row in free if any(may_own(twin, row) for twin in twins)}
    by_inputs = _by_inputs(row for row in free if row.request_id not in reserved)
    for fingerprint, equals in _equals(job for job in jobs if job.id not in found).items():
        found |= _paired(equals, by_inputs.get(fingerprint, ()))
    taken = {row.request_id for row in found.values()}
    # One that FAILED makes nothing unclear: a job costs nothing, be the row its own or be there none.
    left = _by_inputs(row for row in free if row.request_id not in taken and row.status != "FAILED")
    held = _by_inputs(row for row in free if row.request_id in reserved)
    lacking = [job for job in jobs if job.id not in found]
    return Matches(
        found,
        unclear={job.id for job in lacking if left.get(job.fingerprint) or _timely(job, left.get(None, ()))},
        waiting={job.id for job in lacking if _timely(job, held.get(job.fingerprint, ()))},
        altered=_altered(rows, traces),
    )


def _altered(rows: Iterable[HistoryRow], traces: Traces) -> bool:
    """Tell whether the vendor lists other inputs than it was sent, such as its own defaults besides."""
    sent = ((row.fingerprint, traces.prints.get(row.request_id)) for row in rows)
    alike = {listed == ours for listed, ours in sent if listed is not None and ours is not None}
    return alike == {False}


def _paired(jobs: Iterable[Job], rows: Iterable[HistoryRow]) -> Mapping[str, HistoryRow]:
    """Choose among equal rows, and pair those with equal jobs in the order of their times.

    Rows that FAILED cost nothing, and a job must never be charged too little. So first come the others, oldest first,
    then those that FAILED, newest first: each is taken if all that are taken can be paired.
    """
    jobs = sorted(jobs, key=lambda job: (job.created_ms, job.id))
    timely = [row for row in rows if any(may_be(job.created_ms, row) for job in jobs)]
    timely.sort(key=_age)
    pairs = _in_order(jobs, [row for row in timely if row.status != "FAILED"])
    for row in reversed([row for row in timely if row.status == "FAILED"]):
        if len(pairs) == len(jobs):
            break
        more = _in_order(jobs, sorted([*pairs.values(), row], key=_age))
        pairs = more if len(more) > len(pairs) else pairs
    return pairs


def _in_order(jobs: Sequence[Job], rows: Sequence[HistoryRow]) -> Mapping[str, HistoryRow]:
    """Give each job, oldest first, the oldest row that its time allows.

    No other way pairs more: what a job passes over is too old for later ones too (F. Glover, 1967, on convex graphs).
    """
    left, pairs = list(rows), {}
    for job in jobs:
        row = next((row for row in left if may_be(job.created_ms, row)), None)
        if row is not None:
            pairs[job.id] = row
            left.remove(row)
    return pairs


def _age(row: HistoryRow) -> tuple[bool, int, str]:
    """Put rows in the order of their times, those without one at the end."""
    return row.created_ms is None, row.created_ms or 0, row.request_id


def _timely(job: Job, rows: Iterable[HistoryRow]) -> bool:
    return any(may_be(job.created_ms, row) for row in rows)


def may_own(twin: Twin, row: HistoryRow) -> bool:
    """Tell whether a row may turn out to be that of a job without a vendor's id, by inputs and times."""
    return twin.fingerprint == row.fingerprint and may_be(twin.created_ms, row)


def _by_inputs(rows: Iterable[HistoryRow]) -> Mapping[str | None, Sequence[HistoryRow]]:
    found = defaultdict(list)
    for row in rows:
        found[row.fingerprint].append(row)
    return found


def _equals(jobs: Iterable[Job]) -> Mapping[str, Sequence[Job]]:
    found = defaultdict(list)
    for job in jobs:
        found[job.fingerprint].append(job)
    return found


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
