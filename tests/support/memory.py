"""The store in memory: tenants, jobs and money in plain Python, written without looking at how the scripts do it.

Behind the same ports as the real one, and held to the same contracts (``tests/contracts``, ``test_ledger_machine``).
Nothing grows old in it: no record, idempotency key or claim expires.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Final

from support.ledger import CLOCK_START_US, window_ids

from gateway.core.job import Job, JobState
from gateway.core.movements import Denied, StoredResult
from gateway.core.quota import Quota, RateState, Window, least_remaining
from gateway.core.tenant import MICROSECONDS, WINDOWS, Credential, RateLimit, Secret, TenantPolicy
from gateway.core.webhook import Attempt, DeliveryState

OPEN: Final = frozenset({JobState.SENDING, JobState.UNKNOWN, JobState.ACCEPTED})
UNSENT: Final = frozenset({JobState.SENDING, JobState.UNKNOWN})


@dataclass(frozen=True, slots=True)
class Movement:
    """One ledger entry; amounts in nanocredits, `spent` and `held` those of window ``total`` after it."""

    kind: str
    job_id: str
    amount: int
    hold: int
    windows: tuple[str, ...]
    spent: int
    held: int
    actor: str


@dataclass(frozen=True, slots=True)
class Bucket:
    """A rate limit asked about one more request: where it stands without it and with it (None: it is refused)."""

    before: RateState
    after: RateState | None
    late_s: float
    arrival_us: int

    @property
    def refusal(self) -> RateState:
        """Where the limit stands, with the seconds after which one more request is admitted."""
        return replace(self.before, retry_after_s=self.late_s)


@dataclass(frozen=True, slots=True)
class Hook:
    """What is on record of one job's webhook."""

    state: DeliveryState
    attempts: int
    log: tuple[Attempt, ...]


@dataclass(slots=True)
class Webhooks:
    """Everything of one tenant's webhooks; times in Unix milliseconds.

    Attributes:
        owed: When a job's webhook is due.
        held: Until when nothing is sent to a receiver.
        unsent: When a job's webhook was given up.
        old: The secret before, and until when it still signs.
        disabled: The tenant's endpoint, where it answered 410.
    """

    owed: dict[str, int] = field(default_factory=dict)
    hooks: dict[str, Hook] = field(default_factory=dict)
    held: dict[str, int] = field(default_factory=dict)
    unsent: dict[str, int] = field(default_factory=dict)
    secret: Secret | None = None
    old: tuple[Secret, int] | None = None
    disabled: str | None = None


@dataclass(slots=True)
class Books:
    """Everything of one tenant.

    Attributes:
        digests: Of the secrets of keys that are in force, by key id.
        owners: Which process sends a SENDING job; None for an UNKNOWN one, which is nobody's.
        keys: Job and fingerprint that an idempotency key stands for.
        looks: Since when looks at an UNKNOWN job could read the history, and the last one; Unix ms.
        arrivals: Theoretical arrival times of the rate limits, microseconds.
    """

    policy: TenantPolicy
    suspended: bool = False
    removed: bool = False
    digests: dict[str, str] = field(default_factory=dict)
    jobs: dict[str, Job] = field(default_factory=dict)
    windows: dict[str, tuple[str, ...]] = field(default_factory=dict)
    owners: dict[str, str | None] = field(default_factory=dict)
    keys: dict[str, tuple[str, str]] = field(default_factory=dict)
    voided: set[str] = field(default_factory=set)
    webhooks: Webhooks = field(default_factory=Webhooks)
    spent: Counter[str] = field(default_factory=Counter)
    held: Counter[str] = field(default_factory=Counter)
    ledger: list[Movement] = field(default_factory=list)
    upstream: dict[str, str] = field(default_factory=dict)
    results: dict[str, StoredResult] = field(default_factory=dict)
    looks: dict[str, tuple[int | None, int]] = field(default_factory=dict)
    arrivals: dict[str, int] = field(default_factory=dict)

    def active(self) -> Mapping[str, Job]:
        """Return the jobs whose hold stands, oldest first."""
        jobs = [job for job in self.jobs.values() if job.state in OPEN]
        return {job.id: job for job in sorted(jobs, key=lambda job: (job.created_ms, job.id))}

    def move(self, kind: str, job: Job, amount: int, hold: int, actor: str) -> None:
        """Add to the counters and to the ledger: a hold is opened, or ended by a charge of ``amount`` or of nothing."""
        windows = self.windows[job.id]
        for window in windows:
            self.spent[window] += amount if kind in {"settle", "overrun"} else 0
            self.held[window] += hold if kind == "hold" else -hold
        total = self.spent["total"], self.held["total"]
        self.ledger.append(Movement(kind, job.id, amount, hold, windows, *total, actor))

    def counters(self) -> dict[str, int]:
        """Return the counters as the store names them, those at zero left out."""
        spent = {f"{window}:spent": amount for window, amount in self.spent.items() if amount}
        return spent | {f"{window}:held": amount for window, amount in self.held.items() if amount}


@dataclass(slots=True)
class Memory:
    """Everything in the store, and its clock, which stands still until `pass_time`.

    Attributes:
        claims: Jobs (``tenant/job``) that have claimed a vendor's id.
        until: When a heartbeat or a turn ends, by its kind and name, microseconds.
    """

    now_us: int = CLOCK_START_US
    tenants: dict[str, Books] = field(default_factory=dict)
    claims: dict[str, str] = field(default_factory=dict)
    until: dict[tuple[str, str], int] = field(default_factory=dict)
    learned: dict[str, list[tuple[int | None, int | None]]] = field(default_factory=dict)

    @property
    def now_ms(self) -> int:
        """The time, Unix milliseconds."""
        return self.now_us // 1000

    def pass_time(self, seconds: float) -> None:
        """Let time go by."""
        self.now_us += round(seconds * MICROSECONDS)

    def books(self, tenant: str) -> Books:
        """Return what there is of a tenant, for reads: nothing at all of one that is not on record."""
        return self.tenants.get(tenant) or Books(TenantPolicy(tenant))

    def caller(self, credential: Credential) -> Books | Denied:
        """Find the tenant of a caller who may act for it."""
        books = self.tenants.get(credential.tenant)
        if books is None or books.removed or books.digests.get(credential.key_id) != credential.digest:
            return Denied("unauthenticated")
        return Denied("tenant_suspended") if books.suspended else books

    def window_ids(self) -> tuple[str, ...]:
        """Name the budget windows of this moment."""
        return tuple(window_ids(datetime.fromtimestamp(self.now_us / MICROSECONDS, UTC)))

    def windows(self, books: Books) -> tuple[Window, ...]:
        """Return where a tenant's budgets stand."""
        return tuple(
            Window(name, books.policy.budgets.get(name), books.spent[id_], books.held[id_])
            for name, id_ in zip(WINDOWS, self.window_ids(), strict=True)
        )

    def bucket(self, books: Books, name: str, limit: RateLimit) -> Bucket:
        """Ask a rate limit about one more request."""
        interval, size = limit.interval_us, limit.interval_us * limit.burst
        arrival, late_us = gcra(books.arrivals.get(name, 0), self.now_us, interval, limit.burst)

        def state(arrival: int) -> RateState:
            used = arrival - self.now_us
            return RateState(name, limit, (size - used) // interval, used / MICROSECONDS)

        after = None if late_us else state(arrival + interval)
        return Bucket(state(arrival), after, late_us / MICROSECONDS, arrival + interval)

    def quota(self, books: Books, rate: RateState) -> Quota:
        """Say where all limits stand."""
        remaining = least_remaining(self.windows(books))
        return Quota(rate, books.policy.concurrent_jobs, len(books.active()), remaining)


def gcra(arrival: int, now: int, interval: int, burst: int) -> tuple[int, int]:
    """Return the arrival time that counts for one more request, and by how much it comes too early; microseconds.

    The bucket's ``burst`` fills by one in each interval; an arrival time of another policy or clock is cut to a burst.
    """
    size, arrival = interval * burst, max(arrival, now)
    if arrival > now + size:
        arrival = now + size - interval
    return arrival, max(0, arrival + interval - now - size)


class MemoryTenants:
    """The tenants, as operators change them."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory

    async def put(self, policy: TenantPolicy) -> None:
        """Put a tenant on record, or its policy in the place of the last."""
        books = self._memory.tenants.setdefault(policy.id, Books(policy))
        books.policy, books.removed = policy, False

    async def add_key(self, credential: Credential, name: str, *, ttl_s: int | None) -> object:
        """Add a key."""
        del name, ttl_s
        self._memory.tenants[credential.tenant].digests[credential.key_id] = credential.digest
        return True

    async def revoke_key(self, tenant: str, key_id: str) -> object:
        """End a key."""
        return self._memory.tenants[tenant].digests.pop(key_id, None) is not None

    async def suspend(self, tenant: str, *, suspended: bool) -> bool:
        """Have every call of a tenant refused, or no longer."""
        self._memory.tenants[tenant].suspended = suspended
        return True

    async def remove(self, tenant: str) -> None:
        """Forget a tenant's right to call."""
        self._memory.tenants[tenant].removed = True
