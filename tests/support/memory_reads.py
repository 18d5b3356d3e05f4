"""Reads of the store in memory: `core.ports.Jobs`, `core.ports.Doubts` and `service.resolve.Survey`."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from support.memory import UNSENT, Books, Memory

from gateway.core.adoption import Doubt, Traces, Twin, claim_stands, owner_name
from gateway.core.job import Job, JobState
from gateway.core.listing import JobPage, JobQuery
from gateway.core.movements import AccountView, Denied, Reading, StoredResult
from gateway.core.quota import RateState, Window
from gateway.core.tenant import Credential


class MemoryJobs:
    """See `Jobs`."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory

    async def refusal(self, credential: Credential) -> Denied | None:
        """See `Jobs.refusal`."""
        books = self._memory.caller(credential)
        return books if isinstance(books, Denied) else None

    async def read(self, credential: Credential, job_id: str, *, with_result: bool) -> Reading | Denied:
        """See `Jobs.read`."""
        asked = self._ask(credential)
        if isinstance(asked, Denied):
            return asked
        books, rate = asked
        result = books.results.get(job_id) if with_result else None
        return Reading(books.jobs.get(job_id), rate, self._memory.now_ms, result)

    async def page(self, credential: Credential, query: JobQuery) -> JobPage | Denied:
        """See `Jobs.page`."""
        asked = self._ask(credential)
        if isinstance(asked, Denied):
            return asked
        books, rate = asked
        newest = sorted(books.jobs.values(), key=lambda job: (job.created_ms, job.id), reverse=True)
        ids = [job.id for job in newest]
        if query.cursor:
            newest = newest[ids.index(query.cursor) + 1 :] if query.cursor in ids else []
        found: list[Job] = []
        for at, job in enumerate(newest):
            if job.created_ms < query.since_ms:
                break
            if len(found) == query.limit:
                return JobPage(tuple(found), rate, newest[at - 1].id)
            if (not query.model or job.model == query.model) and (not query.statuses or job.status in query.statuses):
                found.append(job)
        return JobPage(tuple(found), rate)

    async def account(self, credential: Credential) -> AccountView | Denied:
        """See `Jobs.account`."""
        return self._view(credential, "read")

    async def upload_account(self, credential: Credential) -> AccountView | Denied:
        """See `Jobs.upload_account`."""
        return self._view(credential, "submit")

    async def find(self, tenant: str, job_id: str) -> Job | None:
        """See `Jobs.find`."""
        return self._memory.books(tenant).jobs.get(job_id)

    async def kept(self, tenant: str, job_id: str) -> StoredResult | None:
        """See `Jobs.kept`."""
        return self._memory.books(tenant).results.get(job_id)

    async def windows(self, tenant: str) -> tuple[Window, ...]:
        """See `Jobs.windows`."""
        return self._memory.windows(self._memory.books(tenant))

    def _ask(self, credential: Credential) -> tuple[Books, RateState] | Denied:
        """Count a read."""
        books = self._memory.caller(credential)
        if isinstance(books, Denied):
            return books
        bucket = self._memory.bucket(books, "read", books.policy.read)
        if bucket.after is None:
            return Denied("rate_limited", retry_after_s=bucket.late_s, rate=bucket.refusal)
        books.arrivals["read"] = bucket.arrival_us
        return books, bucket.after

    def _view(self, credential: Credential, name: str) -> AccountView | Denied:
        books = self._memory.caller(credential)
        if isinstance(books, Denied):
            return books
        limit = books.policy.read if name == "read" else books.policy.submit
        bucket = self._memory.bucket(books, name, limit)
        if bucket.after is None:
            return Denied("rate_limited", self._memory.quota(books, bucket.refusal), bucket.late_s)
        books.arrivals[name] = bucket.arrival_us
        quota, windows = self._memory.quota(books, bucket.after), self._memory.windows(books)
        return AccountView(books.policy, quota, windows, self._memory.now_ms)


class MemoryDoubts:
    """See `Doubts`."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory

    async def unknown(self) -> tuple[Sequence[Doubt], int]:
        """See `Doubts.unknown`."""
        found = [
            Doubt(job, *books.looks.get(job.id, (None, None)))
            for _, books in sorted(self._memory.tenants.items())
            for job in books.jobs.values()
            if job.state is JobState.UNKNOWN
        ]
        return found, self._memory.now_ms if self._memory.tenants else 0

    async def traces(self, upstream_ids: Collection[str], fingerprints: Collection[str]) -> Traces:
        """See `Doubts.traces`."""
        tenants = sorted(self._memory.tenants.items())
        owners = {
            named: f"{tenant}/{books.upstream[named]}"
            for tenant, books in tenants
            for named in upstream_ids
            if named in books.upstream
        }
        claims = {named: self._memory.claims[named] for named in upstream_ids if named in self._memory.claims}
        owners = {named: owner for named, owner in claims.items() if self._stands(named, owner)} | owners
        without = [
            Twin(job.id, job.fingerprint, job.created_ms)
            for _, books in tenants
            for job in books.jobs.values()
            if job.state in UNSENT and job.fingerprint in fingerprints
        ]
        known = {
            named: books.jobs[books.upstream[named]]
            for _, books in tenants
            for named in upstream_ids
            if books.upstream.get(named) in books.jobs
        }
        prints = {named: job.fingerprint for named, job in known.items()}
        used = frozenset(job.upstream_key for job in known.values() if job.upstream_key)
        return Traces(owners, without, prints, used)

    async def claim(self, upstream_id: str, job: Job) -> bool:
        """See `Doubts.claim`."""
        owner = self._memory.claims.setdefault(upstream_id, owner_name(job))
        if owner != owner_name(job) and self._stands(upstream_id, owner):
            return False
        self._memory.claims[upstream_id] = owner_name(job)
        return True

    def _stands(self, upstream_id: str, owner: str) -> bool:
        tenant, _, job_id = owner.partition("/")
        return claim_stands(self._memory.books(tenant).jobs.get(job_id), upstream_id)

    async def note(self, job: Job, *, readable: bool) -> int | None:
        """See `Doubts.note`."""
        books = self._memory.books(job.tenant)
        found = books.jobs.get(job.id)
        if found is None or found.state is not JobState.UNKNOWN:
            return None
        since_ms = books.looks.get(job.id, (None, 0))[0] or self._memory.now_ms
        books.looks[job.id] = (since_ms if readable else None, self._memory.now_ms)
        return since_ms if readable else None


class MemorySurvey:
    """See `Survey`."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory

    async def newest(self, *, limit: int, state: JobState | None = None, tenant: str | None = None) -> Sequence[Job]:
        """See `Survey.newest`."""
        tenants = self._memory.tenants.values() if tenant is None else [self._memory.books(tenant)]
        jobs = [job for books in tenants for job in books.jobs.values() if state is None or job.state is state]
        return sorted(jobs, key=lambda job: (job.created_ms, job.id), reverse=True)[:limit]

    async def find(self, job_id: str) -> Job | None:
        """See `Survey.find`."""
        return next((b.jobs[job_id] for b in self._memory.tenants.values() if job_id in b.jobs), None)
