"""The invariants themselves: books that are in order pass, and each way of cooking them is found."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

import pytest
from support.invariants import Books, violations

from gateway.core.entries import Entry, EntryKind
from gateway.core.inputs import fingerprint
from gateway.core.job import Job, JobState
from gateway.core.quota import Window

MODEL: Final = "flux-2-pro"
BODY: Final = {"prompt": "piece-1"}
RECORD: Final = {"request_id": "v1", "model": MODEL, "body": BODY, "billed": "0.0000000105"}
JOB: Final = Job(
    id="j1", tenant="team", key_id="k", model=MODEL, kind="async", state=JobState.COMPLETED, hold=20, created_ms=0,
    fingerprint=fingerprint(MODEL, BODY), upstream_id="v1", cost=11,
)  # fmt: skip


def entry(kind: EntryKind, amount: int, hold: int, number: int) -> Entry:
    """Write a movement of the job."""
    return Entry(
        id=f"{number}-0", seq=number, kind=kind, job_id="j1", model=MODEL, key_id="k", state=JobState.COMPLETED,
        upstream_id="v1", amount=amount, hold=hold, windows=("day:2026-01-01", "total"), spent=0, held=0, actor="x",
    )  # fmt: skip


BOOKS: Final = Books(
    accepted=[RECORD],
    jobs=[JOB],
    ledger=[entry("hold", 20, 20, 1), entry("settle", 11, 20, 2)],
    windows=[Window("day", None, 11, 0), Window("total", 20, 11, 0)],
)


def test_books_in_order() -> None:
    """A job that was accepted once, charged what it is billed, and held within its budget, breaks no promise."""
    assert violations(BOOKS) == []


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"accepted": [RECORD, {**RECORD, "request_id": "v2", "billed": "0"}]}, "was accepted 2 times"),
        ({"windows": [Window("total", 20, 10, 0)]}, "the vendor bills 11, but 10 is spent"),
        ({"windows": [Window("total", 20, 12, 0)]}, "all is known: 11 is billed, 12 spent"),
        ({"windows": [Window("total", 20, 11, 1)]}, "all is known: 11 is billed, 11 spent"),
        ({"windows": [Window("total", 19, 11, 0)]}, "entry 1 took total to 0 + 20, above 19"),
        ({"jobs": []}, "'piece-1', accepted as v1, is on record nowhere"),
        ({"jobs": [replace(JOB, upstream_id=None, state=JobState.REJECTED)]}, "is on record nowhere"),
        ({"audit": ["total:spent: 1 is 2"]}, "total:spent: 1 is 2"),
    ],
)
def test_cooked_books(change: dict[str, Any], told: str) -> None:
    """A job paid twice, money that does not add up, a budget overdrawn, a job lost, a failed audit: each is told."""
    assert any(told in broken for broken in violations(replace(BOOKS, **change)))


def test_what_is_not_known_yet() -> None:
    """A job whose answer was lost is no loss while it is UNKNOWN and its hold stands."""
    unknown = replace(JOB, state=JobState.UNKNOWN, upstream_id=None, cost=None)
    waiting = replace(BOOKS, jobs=[unknown], ledger=BOOKS.ledger[:1], windows=[Window("total", 20, 0, 20)])
    assert violations(waiting) == []
    by_policy = replace(unknown, state=JobState.EXPIRED, cost=20)
    charged = [Window("total", 20, 20, 0)]
    assert violations(replace(BOOKS, jobs=[by_policy], windows=charged)) == []
    failed_sync = replace(BOOKS, accepted=[{**RECORD, "billed": "0"}], windows=[Window("total", 20, 0, 0)])
    assert violations(replace(failed_sync, jobs=[replace(unknown, state=JobState.REJECTED)])) == []
