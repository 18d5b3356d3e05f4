"""Our ledger against the vendor's own list of what it was asked and what it billed, row by row. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from sys import intern
from typing import Literal

from gateway.core.adoption import HistoryRow
from gateway.core.entries import Entry
from gateway.core.job import JobState

Kind = Literal["matched", "differs", "only_ours", "only_theirs", "running"]
DRIFTS: Sequence[Kind] = ("differs", "only_ours", "only_theirs")


@dataclass(frozen=True, slots=True, kw_only=True)
class Booked:
    """What the ledger says of one job, or of a request that an operator took over.

    Attributes:
        id: The job's; of a request that was none of ours, the vendor's.
        charged: Nanocredits, adjustments included.
        windows: The budget windows that it counts in.
    """

    tenant: str
    id: str
    model: str
    key_id: str
    state: JobState
    upstream_id: str
    charged: int
    windows: tuple[str, ...]
    labels: Mapping[str, str] = field(default_factory=dict)

    @property
    def day(self) -> str:
        """The day on which it was admitted."""
        return next((w.removeprefix("day:") for w in self.windows if w.startswith("day:")), "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One row of the comparison.

    Attributes:
        kind: ``matched``; ``differs``: the costs do; ``only_ours``: charged here, and the vendor has no such request;
            ``only_theirs``: billed there, and none of ours: somebody used the key around the gateway, or a hold was
            lost; ``running``: ours, and not settled yet.
        ours: Nanocredits charged; `theirs` billed; None where there is none, or no figure that makes sense or is final.
        tenant: Whose it is, and as which job; empty: nobody's.
        created_ms: When the vendor says that it began, Unix ms.
        booked: What the ledger says, and `row` the vendor, only where there is something to be done about it: of the
            many that match no more is kept in memory.
    """

    kind: Kind
    upstream_id: str
    model: str
    ours: int | None
    theirs: int | None
    tenant: str = ""
    job_id: str = ""
    created_ms: int | None = None
    booked: Booked | None = None
    row: HistoryRow | None = None

    @property
    def drift(self) -> int:
        """By how much the two are apart, nanocredits."""
        return abs((self.theirs or 0) - (self.ours or 0)) if self.kind in DRIFTS else 0


@dataclass(frozen=True, slots=True)
class Span:
    """Some time, Unix ms: from ``first_ms`` to before ``end_ms``."""

    first_ms: int
    end_ms: int

    def wider(self, by_ms: int) -> Span:
        """Return it with so much more at either end."""
        return Span(self.first_ms - by_ms, self.end_ms + by_ms)

    def has(self, at_ms: int | None) -> bool:
        """Tell whether a moment is in it; one that nobody knows is."""
        return at_ms is None or self.first_ms <= at_ms < self.end_ms

    def has_day(self, day: str) -> bool:
        """Tell whether a day begins in it."""
        return self.has(int(datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp() * 1000))


def book(jobs: dict[str, Booked], tenant: str, entries: Iterable[Entry], span: Span) -> None:
    """Add up entries of a tenant by job, those of jobs of some days; a job that has not ended has none.

    There may be tens of thousands of jobs: what they have in common is kept once.
    """
    for entry in entries:
        if entry.kind == "hold":
            continue
        before = jobs.get(entry.job_id)
        job = Booked(
            tenant=tenant,
            id=entry.job_id,
            model=intern(entry.model),
            key_id=intern(entry.key_id),
            state=entry.state,
            upstream_id=entry.upstream_id,
            charged=entry.charge + (before.charged if before else 0),
            windows=tuple(map(intern, entry.windows)),
            labels=entry.labels,
        )
        if span.has_day(job.day):
            jobs[job.id] = job


def compare(ours: Iterable[Booked], theirs: Iterable[HistoryRow], owned: Collection[str], span: Span) -> list[Line]:
    """Hold both sides against each other.

    Args:
        ours: Jobs that have ended, those around the span included: a request may begin on one day here and on the next
            one there.
        theirs: The vendor's rows, each request once, those around the span included.
        owned: Vendor's ids that jobs of ours have, or may turn out to have, which have not ended.
        span: What is to be reported: a job by the day of its admission, a row of nobody's by its own time.
    """
    jobs = list(ours)
    by_id: dict[str, Booked] = {}
    for job in jobs:  # of two with one id, which a vendor that answers twice alike would cause, only one was billed
        other = by_id.get(job.upstream_id)
        if job.upstream_id and (other is None or job.charged > other.charged):
            by_id[job.upstream_id] = job
    rows = {row.request_id: row for row in theirs}
    lines = [line for row in rows.values() if (line := _of_row(row, by_id.get(row.request_id), owned, span))]
    lacking = (
        job
        for job in jobs
        if (job.upstream_id not in rows or by_id[job.upstream_id] is not job) and job.charged and span.has_day(job.day)
    )
    lines += [
        Line(
            kind="only_ours",
            upstream_id=job.upstream_id,
            model=job.model,
            ours=job.charged,
            theirs=None,
            tenant=job.tenant,
            job_id=job.id,
            booked=job,
        )
        for job in lacking
    ]
    return lines


def _of_row(row: HistoryRow, job: Booked | None, owned: Collection[str], span: Span) -> Line | None:
    theirs = _billed(row)
    if job is not None:
        if not span.has_day(job.day):
            return None
        kind: Kind = "matched" if job.charged == theirs else "differs"
        return Line(
            kind=kind,
            upstream_id=row.request_id,
            model=row.model,
            ours=job.charged,
            theirs=theirs,
            tenant=job.tenant,
            job_id=job.id,
            created_ms=row.created_ms,
            booked=job if kind == "differs" else None,
        )
    if not span.has(row.created_ms):
        return None
    # One that still runs, and is none of ours so far, may be being sent just now.
    kind = "running" if row.request_id in owned or row.status == "PENDING" else "only_theirs"
    return Line(
        kind=kind,
        upstream_id=row.request_id,
        model=row.model,
        ours=None,
        theirs=theirs,
        created_ms=row.created_ms,
        row=row if kind == "only_theirs" else None,
    )


def _billed(row: HistoryRow) -> int | None:
    """Return what a row bills; None where it tells nothing final: one that is PENDING here may be settled with us."""
    if row.status == "PENDING":
        return None
    return 0 if row.cost is None and row.status == "FAILED" else row.cost
