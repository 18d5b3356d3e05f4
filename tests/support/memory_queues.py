"""Queues, heartbeats and experience in memory: `core.ports.Due`, `core.ports.Sweeper` and `core.ports.Experience`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence

from support.memory import Memory

from gateway.core.job import JobState
from gateway.core.learning import KEPT_JOBS, Observed
from gateway.core.queue import ActiveJob, Claim, DueEntry, Standing
from gateway.core.tenant import MICROSECONDS

SENDING_MAX_S = 3600.0


class MemoryDue:
    """See `Due`: one queue, where the real one has shards."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self._at_ms: dict[tuple[str, str], int] = {}
        self._free_us = 0

    async def schedule(self, entries: Sequence[DueEntry], *, only_new: bool = False, only_sooner: bool = False) -> int:
        """See `Due.schedule`."""
        now_ms, added = self._memory.now_ms, 0
        for entry in entries:
            job, at_ms = (entry.tenant, entry.job_id), now_ms + round(entry.due_in_s * 1000)
            queued_ms = self._at_ms.get(job)
            ahead = queued_ms is not None and at_ms < queued_ms
            astray = queued_ms is not None and not now_ms < queued_ms <= now_ms + 600_000
            if queued_ms is not None and only_new and not (ahead and astray):
                continue
            if queued_ms is not None and only_sooner and not ahead:
                continue
            self._at_ms[job] = at_ms
            added += queued_ms is None
        return added

    async def claim(self, *, limit: int, lease_s: float) -> Claim:
        """See `Due.claim`."""
        now_ms = self._memory.now_ms
        late = sorted((at_ms, job) for job, at_ms in self._at_ms.items() if at_ms <= now_ms)
        for _, job in late[:limit]:
            self._at_ms[job] = now_ms + round(lease_s * 1000)
        return Claim(
            entries=[DueEntry(*job, (at_ms - now_ms) / 1000) for at_ms, job in late[:limit]],
            waiting=len(late[limit:]),
            next_in_s=max(0, min(self._at_ms.values()) - now_ms) / 1000 if self._at_ms else None,
            now_ms=now_ms,
        )

    async def remove(self, entries: Sequence[DueEntry]) -> None:
        """See `Due.remove`."""
        for entry in entries:
            self._at_ms.pop((entry.tenant, entry.job_id), None)

    async def pace(self, polls: int, *, per_second: float) -> float:
        """See `Due.pace`."""
        now_us, each_us = self._memory.now_us, max(1, round(MICROSECONDS / per_second))
        free_us = min(max(self._free_us, now_us), now_us + 60 * MICROSECONDS + 100 * each_us)
        self._free_us = free_us + polls * each_us
        return (self._free_us - now_us) / MICROSECONDS


class MemorySweeper:
    """See `Sweeper`."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory

    async def beat(self, owner: str, *, ttl_s: float) -> None:
        """See `Sweeper.beat`."""
        self._memory.until["beat", owner] = self._memory.now_us + round(ttl_s * MICROSECONDS)

    async def turn(self, name: str, *, ttl_s: float) -> bool:
        """See `Sweeper.turn`."""
        ends_us = self._memory.now_us + round(ttl_s * 0.9 * MICROSECONDS)
        if self._memory.now_us < self._memory.until.get(("turn", name), 0) <= ends_us:
            return False
        self._memory.until["turn", name] = ends_us
        return True

    async def orphans(self) -> Sequence[DueEntry]:
        """See `Sweeper.orphans`."""
        lost_ms = self._memory.now_ms - SENDING_MAX_S * 1000
        return [
            DueEntry(tenant, job_id)
            for tenant, books in sorted(self._memory.tenants.items())
            for job_id, owner in books.owners.items()
            if owner is not None and (not self._lasts("beat", owner) or books.jobs[job_id].created_ms < lost_ms)
        ]

    async def active(self) -> AsyncIterator[Sequence[ActiveJob]]:
        """See `Sweeper.active`."""
        for tenant, books in sorted(self._memory.tenants.items()):
            yield [ActiveJob(tenant, job.id, job.created_ms) for job in books.active().values()]

    async def standings(self) -> AsyncIterator[Sequence[Standing]]:
        """See `Sweeper.standings`."""
        for tenant, books in sorted(self._memory.tenants.items()):
            states = [job.state for job in books.active().values()]
            counts = [states.count(state) for state in (JobState.SENDING, JobState.UNKNOWN)]
            yield [Standing(tenant, len(states), *counts)]

    async def owing(self) -> AsyncIterator[Sequence[str]]:
        """See `Sweeper.owing`."""
        yield [tenant for tenant, books in sorted(self._memory.tenants.items()) if books.webhooks.owed]

    def _lasts(self, kind: str, name: str) -> bool:
        return self._memory.until.get((kind, name), 0) > self._memory.now_us


class MemoryExperience:
    """See `Experience`."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory

    async def add(self, model: str, *, cost: int | None, duration_ms: int | None) -> None:
        """See `Experience.add`."""
        jobs = [(cost, duration_ms), *self._memory.learned.get(model, ())][:KEPT_JOBS]
        self._memory.learned[model] = jobs

    async def read(self) -> Mapping[str, Observed]:
        """See `Experience.read`."""
        return {
            model: Observed([c for c, _ in jobs if c is not None], [took for _, took in jobs if took is not None])
            for model, jobs in self._memory.learned.items()
        }
