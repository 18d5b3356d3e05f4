"""The five promises about money, held against the vendor's own record of what it accepted.

The oracle is a file: the sandbox, a process of its own, appends and syncs each accepted job before it answers. What
the test calls a piece of work, its logical id, travels in the prompt.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import Any

from support.ledger import Store, audited, ledgers_of

from gateway.core.entries import Entry
from gateway.core.inputs import fingerprint
from gateway.core.job import Job, JobState
from gateway.core.movements import Reading
from gateway.core.quota import Window
from gateway.core.tenant import Credential


@dataclass(frozen=True, slots=True)
class Books:
    """One tenant, as the vendor and the store have it.

    Attributes:
        accepted: The oracle's record.
        jobs: Those that the tenant can read.
        ledger: Its entries, oldest first; `audit` says what of the store differs from them.
        windows: Where its budgets stand.
    """

    accepted: Sequence[Mapping[str, Any]]
    jobs: Sequence[Job]
    ledger: Sequence[Entry]
    windows: Sequence[Window]
    audit: Sequence[object] = ()


async def books_of(store: Store, credential: Credential, oracle: Path) -> Books:
    """Read both sides; nothing may be under way."""
    ledger = await _ledger(store, credential.tenant)
    held = [entry.job_id for entry in ledger if entry.kind == "hold"]
    readings = [await store.jobs.read(credential, job_id, with_result=False) for job_id in held]
    tenant = credential.tenant
    seen = [reading.job.id for reading in readings if isinstance(reading, Reading) and reading.job is not None]
    records = [await store.jobs.find(tenant, job_id) for job_id in seen]
    return Books(
        accepted=[json.loads(line) for line in oracle.read_bytes().splitlines()],  # noqa: ASYNC240 read once
        jobs=[job for job in records if job is not None],
        ledger=ledger,
        windows=await store.jobs.windows(credential.tenant),
        audit=await audited(store.client),
    )


async def _ledger(store: Store, tenant: str) -> list[Entry]:
    ledgers, found = ledgers_of(store.client), list[Entry]()
    while True:
        page = await ledgers.page(tenant, found[-1].id if found else "")
        found += page.entries
        if page.books is not None:
            return found


def violations(books: Books) -> list[str]:
    """Say which promises are broken, and by what."""
    return [*_sent_twice(books), *_money(books), *_limits(books), *_lost(books), *map(str, books.audit)]


def billed_nano(record: Mapping[str, Any]) -> int:
    """Return what the vendor bills for an accepted job once it has ended, rounded as the gateway promises."""
    return int(Decimal(str(record["billed"])).scaleb(9).to_integral_value(ROUND_HALF_UP))


def _sent_twice(books: Books) -> Iterator[str]:
    """1: a piece of work is accepted at most once."""
    counts = Counter(str(record["body"]["prompt"]) for record in books.accepted)
    yield from (f"{prompt!r} was accepted {count} times" for prompt, count in counts.items() if count > 1)


def _money(books: Books) -> Iterator[str]:
    """2: what is spent and held covers the vendor's bill, and equals it once every job has ended as the vendor says.

    A job that was charged at its hold by policy, or because the vendor forgot it, may have cost nothing.
    """
    total = books.windows[-1]
    bill = sum(map(billed_nano, books.accepted))
    guessed = sum(job.cost or 0 for job in books.jobs if job.state is JobState.EXPIRED)
    known = {job.upstream_id for job in books.jobs if job.state is not JobState.EXPIRED}
    unknown = sum(billed_nano(record) for record in books.accepted if record["request_id"] not in known)
    if total.spent + total.held < bill:
        yield f"the vendor bills {bill}, but {total.spent} is spent and {total.held} held"
    if all(job.state.terminal for job in books.jobs) and (total.spent - guessed, total.held) != (bill - unknown, 0):
        by_policy = f"{guessed} of it by policy, for which the vendor bills {unknown}"
        yield f"all is known: {bill} is billed, {total.spent} spent ({by_policy}) and {total.held} held"


def _limits(books: Books) -> Iterator[str]:
    """3: no admission takes a window above its limit."""
    limits = {window.name: window.limit for window in books.windows if window.limit is not None}
    spent, held = Counter[str](), Counter[str]()
    for entry in books.ledger:
        for window in entry.windows:
            spent[window] += entry.charge
            held[window] += entry.holding
            limit = next((limit for name, limit in limits.items() if window.startswith(name)), None)
            if entry.kind == "hold" and limit is not None and spent[window] + held[window] > limit:
                yield f"entry {entry.seq} took {window} to {spent[window]} + {held[window]}, above {limit}"


def _lost(books: Books) -> Iterator[str]:
    """4: who was accepted is reachable by its owner, or UNKNOWN, or was UNKNOWN until policy charged it at its hold.

    A sync call that failed is accepted too, but its 500 names no id and bills nothing: its job has ended without one.
    """
    found = {job.upstream_id for job in books.jobs}
    without = Counter((job.state, job.fingerprint) for job in books.jobs if job.upstream_id is None)
    for record in books.accepted:
        if record["request_id"] in found:
            continue
        inputs = fingerprint(record["model"], record["body"])
        states = [JobState.UNKNOWN, JobState.EXPIRED]
        free = [] if billed_nano(record) else [JobState.REJECTED, JobState.FAILED]
        state = next((state for state in (*states, *free) if without[state, inputs]), None)
        if state is None:
            yield f"{record['body']['prompt']!r}, accepted as {record['request_id']}, is on record nowhere"
        else:
            without[state, inputs] -= 1
