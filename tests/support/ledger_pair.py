"""The ledger scripts on a real server side by side with the ledger in memory: each call goes to both."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeVar

from support.ledger import Store, assert_audited, clocked, dump, nonzero, open_store, replayed, set_clock
from support.memory import Books, Memory, MemoryTenants
from support.memory_ledger import MemoryLedger

from gateway.core.movements import Admission, Admitted, Finished
from gateway.core.ports import Ledger
from gateway.core.tenant import Credential, TenantPolicy
from gateway.errors import StoreUnavailable
from gateway.store import keys
from gateway.store.records import FIELDS, decode_job
from gateway.store.scripts import load_scripts

T = TypeVar("T")
TENANT: Final = "team"
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class LedgerPair:
    """One tenant on both ledgers, at a time that the test sets. Blocking, on an event loop of its own.

    Attributes:
        books: The tenant's, in memory.
        now: The time of both.
    """

    def __init__(self, url: str, policy: TenantPolicy, now: datetime) -> None:
        self._runner = asyncio.Runner()
        self._stack = AsyncExitStack()
        self._store = self._run(self._open(url))
        self._memory = Memory()
        self._ledgers: tuple[Ledger, Ledger] = self._store.ledger, MemoryLedger(self._memory)
        self.set_time(now)
        self.apply(policy)
        self.credential: Credential = self._run(self._store.key(TENANT))
        self._run(MemoryTenants(self._memory).add_key(self.credential, "test", ttl_s=None))

    async def _open(self, url: str) -> Store:
        store = await self._stack.enter_async_context(open_store(url, library=clocked(load_scripts())))
        await store.client.flushall()
        return store

    @property
    def books(self) -> Books:
        """The tenant as it stands in memory."""
        return self._memory.tenants[TENANT]

    def close(self) -> None:
        """Close the connection and the loop."""
        self._run(self._stack.aclose())
        self._runner.close()

    def apply(self, policy: TenantPolicy) -> None:
        """Put a policy in force."""
        self._run(MemoryTenants(self._memory).put(policy))
        self._run(self._store.tenants.put(policy))

    def set_time(self, now: datetime) -> None:
        """Move the time."""
        self.now = now
        self._memory.now_us = (now - EPOCH) // timedelta(microseconds=1)
        self._run(set_clock(self._store.client, self._memory.now_us))

    def admit(self, request: Admission) -> None:
        """Admit twice: a refusal changes nothing, nor does the second time."""
        before = self._seen()
        answer = self._both(lambda ledger: ledger.admit(request))
        if isinstance(answer, Admitted) and not answer.replayed:
            self._check_limits()
        else:
            assert self._seen() == before
        after = self._seen()
        again = self._both(lambda ledger: ledger.admit(request))
        assert not isinstance(again, Admitted) or again.replayed
        assert self._seen() == after

    def quote(self, request: Admission) -> None:
        """Ask what admission would do, which changes nothing."""
        before = self._seen()
        self._both(lambda ledger: ledger.quote(request))
        assert self._seen() == before

    def write(self, act: Callable[[Ledger], Awaitable[Finished]]) -> None:
        """Run a write twice: the second time changes nothing."""
        self._both(act)
        after = self._seen()
        again = self._both(act)
        assert again is not None
        assert not again.changed
        assert self._seen() == after

    def note_overdue(self, job_id: str, level: int) -> None:
        """Note how overdue a job is, twice: it is news once at most."""
        self._both(lambda ledger: ledger.note_overdue(TENANT, job_id, level))
        after = self._seen()
        assert not self._both(lambda ledger: ledger.note_overdue(TENANT, job_id, level))
        assert self._seen() == after

    def compare(self) -> None:
        """Compare counters, sets and records, and the counters with the replayed ledger."""
        seen, books = self._seen(), self.books
        expected = books.counters()
        assert nonzero(seen.get(keys.budget(TENANT), {})) == expected
        ledger = _ledger(seen)
        assert replayed(ledger) == expected
        assert [(entry["kind"], entry["job"], entry["actor"]) for entry in ledger] == [
            (entry.kind, entry.job_id, entry.actor) for entry in books.ledger
        ]
        assert set(_texts(seen.get(keys.active(TENANT), {}))) == set(books.active())
        sending = seen.get(keys.sending(TENANT), {})
        owners = {job_id: owner or keys.UNKNOWN_OWNER for job_id, owner in books.owners.items()}
        assert dict(zip(_texts(sending), _texts(sending.values()), strict=True)) == owners
        for job_id, job in books.jobs.items():
            record = seen[keys.job(TENANT, job_id)]
            assert decode_job(TENANT, [record.get(name.encode()) for name in FIELDS]) == job

    def audit(self) -> None:
        """Let the gateway's own audit judge; what was written is as old as the server's clock says, not the test's."""
        self._run(assert_audited(self._store.client))

    def _both(self, act: Callable[[Ledger], Awaitable[T]]) -> T | None:
        """Call both, which must answer the same; None for an admission that was undone."""

        async def ask(ledger: Ledger) -> T | None:
            try:
                return await act(ledger)
            except StoreUnavailable:
                return None

        real, memory = [self._run(ask(ledger)) for ledger in self._ledgers]
        assert real == memory
        return real

    def _check_limits(self) -> None:
        """Hold what was just admitted against the limits."""
        windows = self._memory.windows(self.books)
        assert all(window.limit is None or window.spent + window.held <= window.limit for window in windows)
        assert len(self.books.active()) <= self.books.policy.concurrent_jobs

    def _seen(self) -> dict[str, Any]:
        """Read everything in the store."""
        return self._run(dump(self._store.client))

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return self._runner.run(work)


def _texts(values: Iterable[bytes]) -> list[str]:
    return [value.decode() for value in values]


def _ledger(seen: Mapping[str, Any]) -> list[dict[str, str]]:
    stream = (_texts(fields) for _, fields in seen.get(keys.ledger(TENANT), ()))
    return [dict(zip(fields[::2], fields[1::2], strict=True)) for fields in stream]
