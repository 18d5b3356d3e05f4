"""The audit: every tenant's ledger replayed, and held against what stands in the store."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from gateway.core.audit import Books, Difference, Ended, Opening, Replay
from gateway.core.entries import Entry
from gateway.core.job import JobState
from gateway.core.policy import KEY_LIFE_S

RECORD_GRACE_MS: Final = 3_600_000
"""A record so near its end may be gone already."""
_TRIES: Final = 5


@dataclass(frozen=True, slots=True)
class LedgerPage:
    """Some entries, and the opening balance at that moment; `books`, of the same moment, with the last page only."""

    opening: Opening
    entries: Sequence[Entry]
    books: Books | None = None
    now_ms: int = 0


class Ledgers(Protocol):
    """The ledgers of all tenants, read. Raises `StoreUnavailable`."""

    async def tenants(self) -> Sequence[str]:
        """List every tenant that is or was."""

    async def page(self, tenant: str, after: str, periods: Sequence[str] = ()) -> LedgerPage:
        """Read the entries after one, or from the oldest; with the last page the usage of some periods."""

    async def ends(self, tenant: str, job_ids: Collection[str]) -> Mapping[str, tuple[str, int]]:
        """Read state and cost (nanocredits) of jobs; those without a record are left out."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What an audit found: no differences, and the ledger is exact.

    Attributes:
        tenants: Audited; `entries` of them replayed.
    """

    tenants: int
    entries: int
    differences: Sequence[Difference]


class Auditor:
    """Audits ledgers. Exact also while the gateway runs: the last entries and the counters are read at one moment.

    Args:
        ledgers: What to read.
        job_ttl_s: Seconds for which the record of a job that has ended is kept (`Policy`); read anew for each audit.
    """

    def __init__(self, ledgers: Ledgers, job_ttl_s: Callable[[], int]) -> None:
        self._ledgers = ledgers
        self._job_ttl_s = job_ttl_s

    async def verify(self, tenant: str | None = None) -> Verdict:
        """Replay every tenant's ledger, or one's. Raises `StoreUnavailable`."""
        tenants = await self._ledgers.tenants() if tenant is None else [tenant]
        replayed, differences = 0, list[Difference]()
        for name in tenants:
            count, found = await self._verify(name)
            replayed += count
            differences += found
        return Verdict(len(tenants), replayed, differences)

    async def _verify(self, tenant: str) -> tuple[int, Sequence[Difference]]:
        """Replay a ledger; again, should old entries have been folded meanwhile."""
        for _ in range(_TRIES):
            found = await self._replay(tenant)
            if found is not None:
                return found
        return 0, [Difference(tenant, "ledger", "to be read", "old entries were folded all the while: try again")]

    async def _replay(self, tenant: str) -> tuple[int, Sequence[Difference]] | None:
        """Feed a replay page by page; the last page is read again until it comes with all usage that is to compare."""
        page = await self._ledgers.page(tenant, "")
        opening, replay, count, after = page.opening, Replay(tenant, page.opening), 0, ""
        asked: Sequence[str] = []
        while True:
            if page.opening != opening:
                return None
            replay.feed(page.entries)
            count += len(page.entries)
            after = page.entries[-1].id if page.entries else after
            if page.books is not None and asked == replay.periods:
                await self._compare(tenant, replay, replay.close(page.books), page.now_ms)
                return count, replay.finish()
            await self._compare(tenant, replay, replay.ended(), page.now_ms)
            asked = replay.periods
            page = await self._ledgers.page(tenant, after, asked)

    async def _compare(self, tenant: str, replay: Replay, ended: Sequence[Ended], now_ms: int) -> None:
        """Compare jobs with their records, which must be there for as long as they are kept."""
        records = await self._ledgers.ends(tenant, [job.job_id for job in ended])
        for job in ended:
            record = records.get(job.job_id)
            if record is not None or now_ms - job.at_ms <= self._kept_ms(job) - RECORD_GRACE_MS:
                replay.settled(job, *(record or (None, 0)))

    def _kept_ms(self, job: Ended) -> int:
        """Say for how long a record is surely kept; an entry does not tell whether a job was REJECTED at once."""
        job_ttl_s = self._job_ttl_s()
        return 1000 * (min(job_ttl_s, KEY_LIFE_S) if job.state is JobState.REJECTED else job_ttl_s)
