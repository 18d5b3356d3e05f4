"""The ledger in memory: `core.ports.Ledger` in plain Python."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from support.memory import Books, Bucket, Memory

from gateway.core.job import TRANSITIONS, Job, JobState, VendorStatus
from gateway.core.movements import Admission, Admitted, Denied, Finished, Release, Settlement, StoredResult
from gateway.core.quota import Quota, window_end
from gateway.errors import StoreUnavailable

SLOT_RETRY_S = 5.0


class MemoryLedger:
    """See `Ledger`.

    Args:
        changed: Told of each job that has changed, as ``tenant, job id``.
    """

    def __init__(self, memory: Memory, changed: Callable[[str, str], None] = lambda _tenant, _job_id: None) -> None:
        self._memory = memory
        self._changed = changed

    async def admit(self, admission: Admission) -> Admitted | Denied:
        """See `Ledger.admit`."""
        books = self._memory.caller(admission.credential)
        if isinstance(books, Denied):
            return books
        bucket = self._memory.bucket(books, "submit", books.policy.submit)
        decision = self._decide(books, bucket, admission)
        if isinstance(decision, Denied) or decision.replayed:
            return decision
        if admission.job_id in books.jobs or admission.job_id in books.voided:
            raise StoreUnavailable("this admission was undone before it arrived")
        job = decision.job
        books.arrivals["submit"] = bucket.arrival_us
        books.jobs[job.id], books.owners[job.id] = job, admission.owner
        books.windows[job.id] = self._memory.window_ids()
        if admission.idempotency_key is not None:
            books.keys[admission.idempotency_key] = (job.id, admission.fingerprint)
        books.move("hold", job, job.hold, job.hold, f"key:{job.key_id}")
        return replace(decision, quota=self._memory.quota(books, decision.quota.rate))

    async def quote(self, admission: Admission) -> Admitted | Denied:
        """See `Ledger.quote`."""
        books = self._memory.caller(admission.credential)
        if isinstance(books, Denied):
            return books
        return self._decide(books, self._memory.bucket(books, "submit", books.policy.submit), admission)

    def _decide(self, books: Books, bucket: Bucket, a: Admission) -> Admitted | Denied:
        """Say what becomes of a request: the first reason not to start a job counts."""
        hold = books.policy.prices.get(a.model, a.estimate)
        reason = next(self._reasons(books, bucket, a, hold), None)
        if reason is not None or hold is None or bucket.after is None:
            assert reason is not None
            return reason
        own = books.policy.webhook_url if a.kind == "async" else None
        return Admitted(self._job(a, hold, a.webhook_url or own), self._memory.quota(books, bucket.after))

    def _reasons(self, books: Books, bucket: Bucket, a: Admission, hold: int | None) -> Iterator[Admitted | Denied]:
        policy, quota = books.policy, self._memory.quota(books, bucket.before)
        if not policy.allows(a.model):
            yield Denied("model_not_allowed", quota)
        if a.idempotency_key in books.keys:
            yield self._seen(books, quota, *books.keys[a.idempotency_key], a.fingerprint)
        if a.idempotency_key is None and policy.require_idempotency_key:
            yield Denied("idempotency_key_required", quota)
        if a.webhook_url is not None and not policy.allows_webhook(a.webhook_url):
            yield Denied("webhook_not_allowed", quota)
        if bucket.after is None:
            yield Denied("rate_limited", self._memory.quota(books, bucket.refusal), bucket.late_s)
        if len(books.active()) >= policy.concurrent_jobs:
            yield Denied("concurrency_limited", quota, SLOT_RETRY_S)
        if hold is None:
            yield Denied("model_not_allowed", quota)
        for window in self._memory.windows(books):
            if hold is not None and window.limit is not None:
                room = window.limit - window.spent - window.held
                if hold > room or room <= 0:
                    end = window_end(window.name, datetime.fromtimestamp(self._memory.now_ms / 1000, UTC))
                    at_ms = None if end is None else int(end.timestamp() * 1000)
                    yield Denied("budget_exhausted", quota, window=window, required=hold, resets_at_ms=at_ms)

    def _seen(self, books: Books, quota: Quota, job_id: str, fingerprint: str, wanted: str) -> Admitted | Denied:
        if fingerprint != wanted:
            return Denied("idempotency_mismatch", quota, job_id=job_id)
        job = books.jobs[job_id]
        if job.state is JobState.SENDING:
            return Denied("idempotency_in_progress", quota, retry_after_s=1.0, job_id=job_id)
        return Admitted(job, quota, replayed=True)

    def _job(self, a: Admission, hold: int, webhook_url: str | None) -> Job:
        return Job(
            id=a.job_id,
            tenant=a.credential.tenant,
            key_id=a.credential.key_id,
            model=a.model,
            kind=a.kind,
            state=JobState.SENDING,
            hold=hold,
            created_ms=self._memory.now_ms,
            fingerprint=a.fingerprint,
            upstream_key=a.upstream_key,
            request_id=a.request_id,
            traceparent=a.traceparent,
            webhook_url=webhook_url,
            labels=a.labels,
        )

    async def void(self, admission: Admission) -> Finished:
        """See `Ledger.void`."""
        books = self._memory.tenants.get(admission.credential.tenant)
        if books is not None and admission.job_id not in books.jobs:
            books.voided.add(admission.job_id)
        release = Release(
            tenant=admission.credential.tenant,
            job_id=admission.job_id,
            forget=admission.idempotency_key,
            state=JobState.REJECTED,
            reason="the store did not confirm the hold, so nothing was sent",
            code="voided",
            actor="gateway",
        )
        return await self.release(release)

    async def accept(self, tenant: str, job_id: str, upstream_id: str) -> Finished:
        """See `Ledger.accept`."""
        return self._accept(tenant, job_id, upstream_id, JobState.SENDING)

    async def adopt(self, tenant: str, job_id: str, upstream_id: str) -> Finished:
        """See `Ledger.adopt`."""
        return self._accept(tenant, job_id, upstream_id, JobState.UNKNOWN)

    def _accept(self, tenant: str, job_id: str, upstream_id: str, before: JobState) -> Finished:
        books, now_ms = self._memory.books(tenant), self._memory.now_ms
        changes = {"upstream_id": upstream_id, "accepted_ms": now_ms, "confirmed_ms": now_ms, "error": None}
        done = self._change(books, job_id, {before}, state=JobState.ACCEPTED, **changes)
        if done.changed:
            books.owners.pop(job_id)
            books.upstream[upstream_id] = job_id
        return done

    async def doubt(self, tenant: str, job_id: str, reason: str) -> Finished:
        """See `Ledger.doubt`."""
        books = self._memory.books(tenant)
        done = self._change(books, job_id, {JobState.SENDING}, state=JobState.UNKNOWN, error=reason)
        if done.changed:
            books.owners[job_id] = None
        return done

    async def progress(self, tenant: str, job_id: str, status: VendorStatus | None) -> Finished:
        """See `Ledger.progress`."""
        books = self._memory.books(tenant)
        job = books.jobs.get(job_id)
        if job is None or job.state is not JobState.ACCEPTED:
            return Finished(changed=False, job=job)
        if status is None:
            changed = job.missing_ms is None
            job = replace(job, missing_ms=job.missing_ms if job.missing_ms is not None else self._memory.now_ms)
        else:
            changed = status == "PROCESSING" and job.vendor_status != status
            word: VendorStatus = "PROCESSING" if changed else job.vendor_status
            job = replace(job, confirmed_ms=self._memory.now_ms, missing_ms=None, vendor_status=word)
        books.jobs[job_id] = job
        if changed:
            self._changed(tenant, job_id)
        return Finished(changed, job)

    async def note_overdue(self, tenant: str, job_id: str, level: int) -> bool:
        """See `Ledger.note_overdue`."""
        books = self._memory.books(tenant)
        job = books.jobs.get(job_id)
        if job is None or job.state is not JobState.ACCEPTED or job.overdue >= level:
            return False
        books.jobs[job_id] = replace(job, overdue=level)
        return True

    async def settle(self, settlement: Settlement) -> Finished:
        """See `Ledger.settle`."""
        s, books = settlement, self._memory.books(settlement.tenant)
        job = books.jobs.get(s.job_id)
        if job is None or s.only_from not in {None, job.state}:
            return Finished(changed=False, job=job)
        cost = job.hold if s.cost is None else s.cost
        changes = {"cost": cost, "estimated": s.cost is None, "error": s.reason or None}
        done = self._end(books, s.job_id, s.state, s.result, **changes, upstream_id=s.upstream_id or job.upstream_id)
        if not done.changed or done.job is None:
            return done
        if s.upstream_id and s.upstream_id != job.upstream_id:
            books.upstream[s.upstream_id] = s.job_id
        books.move("settle", done.job, min(cost, job.hold), job.hold, s.actor)
        if cost > job.hold:
            books.move("overrun", done.job, cost - job.hold, 0, s.actor)
        return done

    async def release(self, release: Release) -> Finished:
        """See `Ledger.release`."""
        r, books = release, self._memory.books(release.tenant)
        done = self._end(books, r.job_id, r.state, r.result, code=r.code or None, error=r.reason or None)
        if done.changed and done.job is not None:
            books.move("release", done.job, done.job.hold, done.job.hold, r.actor)
        refused = done.job is not None and done.job.state is r.state is JobState.REJECTED
        if r.forget is not None and (done.changed or refused) and books.keys.get(r.forget, ("",))[0] == r.job_id:
            del books.keys[r.forget]
        return done

    def _end(self, books: Books, job_id: str, state: JobState, result: StoredResult | None, **changes: Any) -> Finished:  # noqa: ANN401 fields of Job
        before = books.jobs.get(job_id)
        froms = {state_ for state_, after in TRANSITIONS.items() if state in after}
        kept = {"has_result": True} if result is not None else {}
        done = self._change(books, job_id, froms, state=state, finished_ms=self._memory.now_ms, **changes, **kept)
        if not done.changed or before is None:
            return done
        books.owners.pop(job_id, None)
        if result is not None:
            books.results[job_id] = result
        if before.webhook_url is not None and (before.state, state) != (JobState.SENDING, JobState.REJECTED):
            books.webhooks.owed[job_id] = self._memory.now_ms
        return done

    def _change(self, books: Books, job_id: str, froms: Collection[JobState], **changes: Any) -> Finished:  # noqa: ANN401 fields of Job
        """Change a record if it is in one of some states."""
        job = books.jobs.get(job_id)
        if job is None or job.state not in froms:
            return Finished(changed=False, job=job)
        books.jobs[job_id] = job = replace(job, **changes)
        self._changed(job.tenant, job.id)
        return Finished(changed=True, job=job)
