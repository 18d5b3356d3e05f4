"""Reconciliation: our ledger against the vendor's request history, and what an operator does about differences."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Final, Protocol

from gateway.core.adoption import HistoryRow, Traces, may_own
from gateway.core.job import JobState
from gateway.core.reconcile import Booked, Kind, Line, Span, book, compare
from gateway.errors import InvalidRequest
from gateway.service.export import PAGE, Entries

MAX_DAYS: Final = 31
DAYS_AT_ONCE: Final = 5
"""With the days around them a week: one reading of the history, two where it lacks something, and all of it that is in
memory at a time."""
ACTOR: Final = "operator:reconcile"
_DAY_MS: Final = 86_400_000


class Statement(Protocol):
    """The vendor's request history."""

    async def statement(self, *, first_ms: int, end_ms: int) -> Sequence[HistoryRow]:
        """Read every request of some time, and of a day around it.

        Raises:
            UpstreamError: It could not be read, which says nothing of what is in it.
        """

    async def ensure_shown(self, *, end_ms: int) -> None:
        """Make sure that it shows any request of the month before, so that showing none of ours means something.

        Raises:
            UpstreamError: It could not be read, or shows none.
        """


class Owners(Protocol):
    """Tells whose a vendor's id is. Raises `StoreUnavailable`."""

    async def traces(self, upstream_ids: Collection[str], fingerprints: Collection[str]) -> Traces:
        """Say which of some vendor ids are ours, and which jobs with some inputs have none yet."""


class Adjustments(Protocol):
    """Writes adjusting entries. Raises `StoreUnavailable`; each may then be run again."""

    async def adjust(self, booked: Booked, target: int, *, at_ms: int = 0) -> bool:
        """Charge ``target`` nanocredits from now on; False where by now not ``booked.charged`` is charged.

        What has no windows yet counts in those of ``at_ms``, Unix milliseconds.
        """

    async def claim(self, booked: Booked) -> bool:
        """Claim a vendor's id for one tenant, for good; True for the tenant that has it."""


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """What came of a comparison of some days."""

    first: date
    last: date
    lines: Sequence[Line]

    @property
    def drift(self) -> int:
        """By how much ours and theirs are apart, row by row, nanocredits."""
        return sum(line.drift for line in self.lines)

    @property
    def agrees(self) -> bool:
        """Tell whether every row of one side is on the other, at the same cost."""
        return all(line.kind in {"matched", "running"} for line in self.lines)

    def of(self, *kinds: Kind) -> list[Line]:
        """List the lines of some kinds."""
        return [line for line in self.lines if line.kind in kinds]

    def counts(self) -> Counter[str]:
        """Count the lines by kind."""
        return Counter(line.kind for line in self.lines)


class Reconciler:
    """Compares, adjusts and adopts. Raises `StoreUnavailable` and `UpstreamError`."""

    def __init__(self, statement: Statement, entries: Entries, owners: Owners, adjustments: Adjustments) -> None:
        self._statement = statement
        self._entries = entries
        self._owners = owners
        self._adjustments = adjustments

    async def compare(self, first: date, last: date) -> Reconciliation:
        """Hold some days (UTC, both included) of the ledger against the vendor's history.

        Raises:
            InvalidRequest: No such span, or the ledger no longer has its entries.
            UpstreamError: The history could not be read: nothing is said of what it holds.
        """
        if not timedelta(0) <= last - first < timedelta(days=MAX_DAYS):
            raise InvalidRequest(f"from must not be later than to, and they span {MAX_DAYS} days at most", field="from")
        lines: list[Line] = []
        timeless: dict[str, Line] = {}  # nobody's, and in the readings of several spans
        shown = False
        for span in _spans(first, last):
            # The vendor's side first: what ends meanwhile is then on ours.
            rows = await self._statement.statement(first_ms=span.first_ms, end_ms=span.end_ms)
            shown = shown or bool(rows)
            for line in await self._compare(span, rows):
                if line.created_ms is None and not line.job_id:
                    timeless[line.upstream_id] = line
                else:
                    lines.append(line)
        if not shown:
            await self._statement.ensure_shown(end_ms=_midnight_ms(last + timedelta(days=1)))
        told = {line.upstream_id for line in lines} if timeless else set()
        lines += [line for name, line in timeless.items() if name not in told]
        return Reconciliation(first, last, lines)

    async def _compare(self, span: Span, rows: Sequence[HistoryRow]) -> Sequence[Line]:
        ours = [job for tenant in await self._entries.tenants() for job in await self._booked(tenant, span)]
        known = {row.request_id for row in rows if row.status != "PENDING"}
        charged = {job.upstream_id for job in ours if job.charged and job.upstream_id and span.has_day(job.day)}
        if lacking := charged - known:
            # They may have begun, or ended, while the vendor's side was read: it is read again for them.
            again = await self._statement.statement(first_ms=span.first_ms, end_ms=span.end_ms)
            rows = [*rows, *(row for row in again if row.request_id in lacking)]
        settled = {one.upstream_id for one in ours}
        owned = await self._owned([row for row in rows if row.request_id not in settled])
        return compare(ours, rows, owned, span)

    async def adjust(self, lines: Sequence[Line]) -> int:
        """Charge what the vendor billed, nothing where it knows of no request; return how many entries it took."""
        written = 0
        for line in lines:
            known = line.kind == "only_ours" or (line.kind == "differs" and line.theirs is not None)
            if known and line.booked is not None:
                written += await self._adjustments.adjust(line.booked, line.theirs or 0)
        return written

    async def adopt(self, lines: Sequence[Line], tenant: str) -> int:
        """Charge a tenant for requests that are none of ours; return how many entries were written."""
        written = 0
        for line in lines:
            if line.kind != "only_theirs" or line.row is None or not line.theirs:
                continue
            orphan = _orphan(line.row, tenant)
            at_ms = line.row.created_ms
            if at_ms is not None and await self._adjustments.claim(orphan):
                written += await self._adjustments.adjust(orphan, line.theirs, at_ms=at_ms)
        return written

    async def _owned(self, strange: Sequence[HistoryRow]) -> set[str]:
        """Of requests that no settled job has, list those of jobs that run, or may yet turn out to be one's."""
        if not strange:
            return set()
        inputs = {row.fingerprint for row in strange if row.fingerprint is not None}
        traces = await self._owners.traces({row.request_id for row in strange}, inputs)
        # What an operator claimed for a tenant, but did not come to charge, is owned by its own id: still nobody's.
        owned = {named for named, owner in traces.owners.items() if owner.partition("/")[2] != named}
        return owned | {row.request_id for row in strange if any(may_own(twin, row) for twin in traces.without)}

    async def _booked(self, tenant: str, span: Span) -> Collection[Booked]:
        """Read a tenant's jobs of a span and of the days around it, with all that was ever charged for them."""
        folded = (await self._entries.opening(tenant)).day
        if folded and span.first_ms <= _midnight_ms(date.fromisoformat(folded)):
            detail = f"ledger entries of {tenant} up to {folded} are no longer kept: begin later"
            raise InvalidRequest(detail, field="from")
        jobs: dict[str, Booked] = {}
        around = span.wider(_DAY_MS)
        after = f"{around.first_ms}-0"
        while page := await self._entries.entries(tenant, after, PAGE):
            book(jobs, tenant, page, around)
            after = page[-1].id
        return jobs.values()


def _spans(first: date, last: date) -> Iterator[Span]:
    """Divide some days, both included, into what is compared at once."""
    while first <= last:
        end = min(first + timedelta(days=DAYS_AT_ONCE), last + timedelta(days=1))
        yield Span(_midnight_ms(first), _midnight_ms(end))
        first = end


def _orphan(row: HistoryRow, tenant: str) -> Booked:
    return Booked(
        tenant=tenant,
        id=row.request_id,
        model=row.model,
        key_id="",
        state=JobState.COMPLETED,
        upstream_id=row.request_id,
        charged=0,
        windows=(),
    )


def _midnight_ms(day: date) -> int:
    return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp() * 1000)
