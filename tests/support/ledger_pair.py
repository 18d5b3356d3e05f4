"""The ledger scripts on a real server side by side with the ledger in plain Python: each call goes to both."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeVar

from support.ledger import Store, assert_audited, clocked, dump, nonzero, open_store, replayed, set_clock
from support.ledger_model import LedgerModel, Verdict

from gateway.core.movements import (
    Admission,
    Admitted,
    Denied,
    Finished,
)
from gateway.core.quota import window_end
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
        ledger: The one on the server; its calls go through `write`.
        model: The one in Python.
        now: The time of both.
    """

    def __init__(self, url: str, policy: TenantPolicy, now: datetime) -> None:
        self._runner = asyncio.Runner()
        self._stack = AsyncExitStack()
        self._store = self._run(self._open(url))
        self.ledger = self._store.ledger
        self.model = LedgerModel(policy)
        self.now = now
        self.set_time(now)
        self.apply(policy)
        self.credential: Credential = self._run(self._store.key(TENANT))

    async def _open(self, url: str) -> Store:
        store = await self._stack.enter_async_context(open_store(url, library=clocked(load_scripts())))
        await store.client.flushall()
        return store

    def close(self) -> None:
        """Close the connection and the loop."""
        self._run(self._stack.aclose())
        self._runner.close()

    def apply(self, policy: TenantPolicy) -> None:
        """Put a policy in force."""
        self.model.policy = policy
        self._run(self._store.tenants.put(policy))

    def set_time(self, now: datetime) -> None:
        """Move the time."""
        self.now = now
        self._run(set_clock(self._store.client, (now - EPOCH) // timedelta(microseconds=1)))

    def admit(self, request: Admission) -> None:
        """Admit twice: a refusal changes nothing, nor does the second time."""
        before = self._seen()
        expected = self.model.admit(request, self.now)
        self._check(self._answer(self.ledger.admit, request), expected)
        if expected.code == "admitted":
            self._check_limits()
        else:
            assert self._seen() == before
        after = self._seen()
        again = self._answer(self.ledger.admit, request)
        assert not isinstance(again, Admitted) or again.replayed
        assert self._seen() == after

    def quote(self, request: Admission) -> None:
        """Ask what admission would do, which changes nothing."""
        before = self._seen()
        self._check(self._answer(self.ledger.quote, request), self.model.decide(request, self.now))
        assert self._seen() == before

    def write(self, act: Callable[[], Coroutine[Any, Any, Finished]], *, changed: bool) -> None:
        """Run a write twice: the second time changes nothing."""
        assert self._run(act()).changed is changed
        after = self._seen()
        assert not self._run(act()).changed
        assert self._seen() == after

    def compare(self) -> None:
        """Compare counters, sets and records, and the counters with the replayed ledger."""
        seen, expected = self._seen(), self.model.counters()
        assert nonzero(seen.get(keys.budget(TENANT), {})) == expected
        assert replayed(_ledger(seen)) == expected
        assert set(_texts(seen.get(keys.active(TENANT), {}))) == set(self.model.active())
        sending = seen.get(keys.sending(TENANT), {})
        assert dict(zip(_texts(sending), _texts(sending.values()), strict=True)) == self.model.sending()
        for job_id, job in self.model.jobs.items():
            record = seen[keys.job(TENANT, job_id)]
            assert job.matches(decode_job(TENANT, [record.get(name.encode()) for name in FIELDS]))

    def audit(self) -> None:
        """Let the gateway's own audit judge; what was written is as old as the server's clock says, not the test's."""
        self._run(assert_audited(self._store.client))

    def _answer(
        self, decide: Callable[[Admission], Awaitable[Admitted | Denied]], request: Admission
    ) -> Admitted | Denied | None:
        """Ask; None for an admission that was undone."""

        async def ask() -> Admitted | Denied | None:
            try:
                return await decide(request)
            except StoreUnavailable:
                return None

        return self._run(ask())

    def _check(self, answer: Admitted | Denied | None, expected: Verdict) -> None:
        """Compare a decision, and what it tells of the limits, with the model's."""
        if answer is None:
            assert expected.code == "voided"
            return
        if isinstance(answer, Admitted):
            assert expected.code == ("replayed" if answer.replayed else "admitted")
            assert answer.job.id == expected.job_id if answer.replayed else answer.job.hold == expected.hold
        else:
            window = answer.window and answer.window.name
            assert (answer.code, answer.required, window) == (expected.code, expected.hold, expected.window)
            end = expected.window and window_end(expected.window, self.now)
            assert answer.resets_at_ms == (end and int(end.timestamp() * 1000))
            assert answer.job_id == expected.job_id
        assert answer.quota is not None
        assert answer.quota.active == len(self.model.active())
        assert answer.quota.remaining == self.model.remaining(self.now)

    def _check_limits(self) -> None:
        """Hold what was just admitted against the limits."""
        assert all(room >= 0 for room in self.model.rooms(self.now).values())
        assert len(self.model.active()) <= self.model.policy.concurrent_jobs

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
