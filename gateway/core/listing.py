"""A tenant's list of its own jobs: what is asked for, and one page of it."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.core.job import Job, VendorStatus
from gateway.core.quota import RateState

DEFAULT_LIMIT = 50
MAX_LIMIT = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class JobQuery:
    """Which jobs to list, newest first.

    Attributes:
        statuses: As tenants see them; empty: any.
        model: Empty: any.
        since_ms: Created at this time or later, Unix ms of Redis's clock.
        cursor: `JobPage.next_cursor` of the page before; empty: from the newest.
        limit: Jobs at most, 1 to `MAX_LIMIT`.
    """

    statuses: frozenset[VendorStatus] = frozenset()
    model: str = ""
    since_ms: int = 0
    cursor: str = ""
    limit: int = DEFAULT_LIMIT

    def __post_init__(self) -> None:
        if not 1 <= self.limit <= MAX_LIMIT:
            raise ValueError(f"a page has 1 to {MAX_LIMIT} jobs")


@dataclass(frozen=True, slots=True)
class JobPage:
    """Some of the jobs that were asked for, and where the read limit stands.

    Attributes:
        jobs: Newest first; fewer than the limit, or none, does not mean that there are no more.
        next_cursor: Where the next page begins; None where this is the last.
    """

    jobs: tuple[Job, ...]
    quota: RateState
    next_cursor: str | None = None
