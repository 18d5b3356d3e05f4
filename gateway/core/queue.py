"""Jobs as the due queues and the sweep see them, as values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class DueEntry:
    """A job in the due queue; ``due_in_s`` from now, by Redis's clock (negative: it is late by that much).

    Without a job it is a tenant's entry, in the queue of those that owe webhooks.
    """

    tenant: str
    job_id: str
    due_in_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Claim:
    """What was leased, and how the queue stands.

    Attributes:
        entries: The latest first.
        waiting: About how many jobs are due and were left, for want of room.
        next_in_s: Seconds until the next job may be due; None for an empty queue.
        now_ms: Redis's clock.
    """

    entries: Sequence[DueEntry]
    waiting: int
    next_in_s: float | None
    now_ms: int


@dataclass(frozen=True, slots=True)
class ActiveJob:
    """A job that has not ended; ``created_ms`` by Redis's clock."""

    tenant: str
    job_id: str
    created_ms: int


@dataclass(frozen=True, slots=True)
class Standing:
    """How many jobs of a tenant have not ended; of them, those being sent and those whose outcome is unknown."""

    tenant: str
    active: int
    sending: int
    unknown: int
