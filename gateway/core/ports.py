"""What the services need of the outside, as small protocols. Each docstring states the failure contract."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from gateway.core.adoption import Doubt, History, Traces
from gateway.core.breaker import BreakerName
from gateway.core.events import Event
from gateway.core.job import Job, VendorStatus
from gateway.core.learning import Observed
from gateway.core.listing import JobPage, JobQuery
from gateway.core.movements import (
    AccountView,
    Admission,
    Admitted,
    Denied,
    Finished,
    Reading,
    Release,
    Settlement,
    StoredResult,
)
from gateway.core.queue import ActiveJob, Claim, DueEntry, Standing
from gateway.core.quota import Window
from gateway.core.tenant import Credential
from gateway.core.vendor import CallContext, VendorAnswer, VendorState


class Ledger(Protocol):
    """The money: each method is one script, one round trip, all or nothing.

    Raises `StoreUnavailable` when Redis did not answer: the write may or may not have happened. Every method
    but `admit` may be run again until it answers; `admit` is undone by `void`.
    """

    async def admit(self, admission: Admission) -> Admitted | Denied:
        """Decide and, if admitted, write hold, job, idempotency record and ledger entry."""

    async def quote(self, admission: Admission) -> Admitted | Denied:
        """Decide as `admit` would, and write nothing. The job of the answer is not on record."""

    async def void(self, admission: Admission) -> Finished:
        """Undo an `admit` whose answer was lost and whose job was not sent, now or whenever it arrives."""

    async def accept(self, tenant: str, job_id: str, upstream_id: str) -> Finished:
        """Record the vendor's id: SENDING -> ACCEPTED. An UNKNOWN job stays: its id may be another's by now."""

    async def adopt(self, tenant: str, job_id: str, upstream_id: str) -> Finished:
        """Record a vendor's id that the job has claimed (`Doubts.claim`): UNKNOWN -> ACCEPTED."""

    async def doubt(self, tenant: str, job_id: str, reason: str) -> Finished:
        """Record that the outcome is unknown: SENDING -> UNKNOWN, the hold stays."""

    async def progress(self, tenant: str, job_id: str, status: VendorStatus | None) -> Finished:
        """Record the vendor's word on a running job; an older word than the last one changes nothing.

        None: the vendor does not know the job; `Job.missing_ms` then says since when.
        """

    async def note_overdue(self, tenant: str, job_id: str, level: int) -> bool:
        """Record how overdue a running job is; True where this is more than was on record."""

    async def settle(self, settlement: Settlement) -> Finished:
        """End the hold by charging: COMPLETED, or EXPIRED at the hold. Stores the result in the same write."""

    async def release(self, release: Release) -> Finished:
        """End the hold without a charge: FAILED or REJECTED."""


class Jobs(Protocol):
    """Reads for tenants, each one round trip: key check, read limit, data. Raises `StoreUnavailable`."""

    async def refusal(self, credential: Credential) -> Denied | None:
        """Say why a caller may do nothing at all, if that is so; counts against no limit."""

    async def read(self, credential: Credential, job_id: str, *, with_result: bool) -> Reading | Denied:
        """Read a job of the caller's tenant."""

    async def page(self, credential: Credential, query: JobQuery) -> JobPage | Denied:
        """List jobs of the caller's tenant, newest first; counts as one read."""

    async def account(self, credential: Credential) -> AccountView | Denied:
        """Read the caller's own limits and budgets; counts as a read."""

    async def upload_account(self, credential: Credential) -> AccountView | Denied:
        """As `account`, counting against the submit limit."""

    async def find(self, tenant: str, job_id: str) -> Job | None:
        """Read a job for the tracker and operators: no key, no limit."""

    async def kept(self, tenant: str, job_id: str) -> StoredResult | None:
        """Read a job's result for a replay; None where none is kept."""

    async def windows(self, tenant: str) -> tuple[Window, ...]:
        """Read where a tenant's budgets stand."""


class Watch(Protocol):
    """One caller's interest in one job."""

    async def changed(self, within_s: float) -> bool:
        """Wait until the job may have changed; False where nothing was said for so long.

        True means no more than "read it again": it also comes now and then without a word, since words may be lost.
        """


class Notifications(Protocol):
    """Word of changed jobs, from whichever process changed them. Raises nothing: a lost word costs some seconds."""

    def __len__(self) -> int:
        """Count the watches that are open."""

    def watch(self, tenant: str, job_id: str) -> AbstractAsyncContextManager[Watch]:
        """Hear of a job while the block runs. What changed before it began is not told: read once inside."""

    def wake_all(self) -> None:
        """Let every watch return as if its job had changed."""


class Due(Protocol):
    """The tracker's queue: who is to be polled when. Losing an entry loses no job: `Sweeper` repairs it."""

    async def schedule(self, entries: Sequence[DueEntry], *, only_new: bool = False, only_sooner: bool = False) -> int:
        """Set when each job is due. Return how many were not queued.

        With ``only_new`` a queued job stays where it is, unless this puts it ahead and it is late already, or due so
        late (ten minutes from now) that Redis's clock must have been set back since;
        with ``only_sooner`` unless this puts it ahead at all.
        """

    async def claim(self, *, limit: int, lease_s: float) -> Claim:
        """Lease jobs that are due, up to the limit: nobody else gets them before the lease ends."""

    async def remove(self, entries: Sequence[DueEntry]) -> None:
        """Forget jobs that have ended."""

    async def pace(self, polls: int, *, per_second: float) -> float:
        """Count polls against the rate of the whole fleet; return the seconds to wait before the next ones."""


class Sweeper(Protocol):
    """What keeps promises when a process dies. Raises `StoreUnavailable`."""

    async def beat(self, owner: str, *, ttl_s: float) -> None:
        """Say that a process lives."""

    async def turn(self, name: str, *, ttl_s: float) -> bool:
        """Take the turn at a piece of periodic work; False where another process has it."""

    async def orphans(self) -> Sequence[DueEntry]:
        """List SENDING jobs whose process no longer beats, or that have been sent for longer than any call takes."""

    def active(self) -> AsyncIterator[Sequence[ActiveJob]]:
        """Walk every tenant's jobs that have not ended."""

    def standings(self) -> AsyncIterator[Sequence[Standing]]:
        """Walk every tenant."""

    def owing(self) -> AsyncIterator[Sequence[str]]:
        """Walk the tenants that owe webhooks."""


class Experience(Protocol):
    """What the last jobs of each model cost and how long they took, shared by all processes."""

    async def add(self, model: str, *, cost: int | None, duration_ms: int | None) -> None:
        """Note what a COMPLETED job really cost (nanocredits) and took; None where that is not known.

        Raises:
            StoreUnavailable: It may be lost.
        """

    async def read(self) -> Mapping[str, Observed]:
        """Read what was noted, by model. Raises `StoreUnavailable`."""


class CallWatch(Protocol):
    """Is told of calls to Redis. Never raises and never blocks."""

    def observe_redis(self, operation: str, duration_s: float) -> None:
        """Record how long a call took that was answered; ``operation`` is a script's name."""

    def count_redis_failure(self) -> None:
        """Count a call that was not answered, or that Redis could not serve."""


class Gauges(CallWatch, Protocol):
    """Takes figures that no event tells. Never raises and never blocks."""

    def set_jobs(self, counts: Mapping[str, int]) -> None:
        """Set how many jobs are in each state that is not an end; every such state in each call."""

    def set_due_jobs(self, count: int) -> None:
        """Set how many jobs wait for a poll that is due."""

    def set_upstream_credits(self, nano: int) -> None:
        """Set what is left on the vendor's account, nanocredits. Never logged, and no tenant is told."""

    def observe_tracker_lag(self, lag_s: float) -> None:
        """Record by how many seconds a job was polled after it was due."""

    def set_budgets(self, budgets: Mapping[str, Sequence[Window]]) -> None:
        """Set where the budgets of all tenants stand, in place of what was set before."""


class Doubts(Protocol):
    """The UNKNOWN jobs of all tenants, and what tells whose a vendor's id is. Raises `StoreUnavailable`."""

    async def unknown(self) -> tuple[Sequence[Doubt], int]:
        """Read every UNKNOWN job, and Redis's clock before, Unix ms."""

    async def traces(self, upstream_ids: Collection[str], fingerprints: Collection[str]) -> Traces:
        """Say which of some vendor ids are ours, and which jobs with some inputs have no vendor's id."""

    async def claim(self, upstream_id: str, job: Job) -> bool:
        """Claim a vendor's id for one job of all tenants; True for the job that has the claim.

        It is for good, unless it is void by now (`core.adoption.claim_stands`): then it counts for nothing.
        """

    async def note(self, job: Job, *, readable: bool) -> int | None:
        """Record a look in vain; return since when every look could read the history, Unix ms."""


class HistoryReader(Protocol):
    """The vendor's request history."""

    async def history(self, model: str, *, since_ms: int, now_ms: int, upstream_key: str) -> History:
        """Read what was asked of a model since a moment, with the company key of a job.

        Raises:
            UpstreamError: It could not be read, which says nothing of what is in it.
        """


class SyncStream(Protocol):
    """A sync call's answer, while it streams. Iterate `chunks`, then read nothing more; always `aclose`."""

    status: int
    headers: Mapping[str, str]
    cost: int | None
    upstream_id: str | None

    def chunks(self) -> AsyncIterator[bytes]:
        """Yield the body as it comes. Raises `UpstreamAmbiguous` when it breaks off."""

    async def aclose(self) -> None:
        """Give the connection back."""


class Upstream(Protocol):
    """Segmind. The company's key is added here and nowhere else.

    Writes raise `UpstreamUnsent` (provably nothing left; `UpstreamHeldBack`: not even tried), `UpstreamRefused`
    (definitely not accepted) or `UpstreamAmbiguous` (anything after bytes may have left). Nothing here sends a POST
    twice unless the first was provably unsent, nor one that `CallContext.leaving` holds back. Reads raise the same and
    `UpstreamInvalidResponse`.
    """

    def current_key(self) -> str:
        """Return the name of the company key that new jobs are sent with."""

    def wait_s(self, host: BreakerName) -> float:
        """Return the seconds for which a host's breaker lets no call go, each of which would be held back; 0: none."""

    async def submit(self, model: str, body: bytes, headers: Mapping[str, str], context: CallContext) -> str:
        """Submit a job; return the vendor's id."""

    async def status(self, upstream_id: str, context: CallContext) -> VendorState:
        """Ask how a job stands."""

    async def result(self, upstream_id: str, context: CallContext) -> VendorState:
        """Fetch the full result."""

    async def sync(self, model: str, body: bytes, headers: Mapping[str, str], context: CallContext) -> SyncStream:
        """Make a blocking call; the answer streams. A refusal is raised, not streamed."""

    async def upload(self, body: bytes, headers: Mapping[str, str], context: CallContext) -> VendorAnswer:
        """Pass an asset on."""


class Sink(Protocol):
    """Takes events. Never raises and never blocks."""

    def __call__(self, event: Event, /) -> None:
        """Take one event."""
