"""What holds before money is spent, and after: a job is on record before it is sent, and is sent once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final, Generic, TypeVar

from gateway.core.alerts import AlertName
from gateway.core.events import Alert
from gateway.core.failure import describe
from gateway.core.faultpoints import NO_FAULTS, FaultPoint, FaultPoints
from gateway.core.inputs import fingerprint
from gateway.core.job import Job, JobKind, JobState
from gateway.core.movements import Admission, Admitted, Denied, Finished, Release
from gateway.core.ports import Doubts, Ledger, Sink, Upstream
from gateway.core.quota import Quota
from gateway.core.record import record
from gateway.core.vendor import CallContext
from gateway.errors import (
    Refused,
    StoreUnavailable,
    UpstreamAmbiguous,
    UpstreamError,
    UpstreamHeldBack,
    UpstreamRefused,
    UpstreamUnsent,
)
from gateway.service.clock import since_boot_s
from gateway.service.finish import ended
from gateway.service.gate import Gate
from gateway.service.inflight import InFlight
from gateway.service.outbox import Outbox, Write
from gateway.service.outcomes import JobRequest, Rejected, Submitted, Uncertain
from gateway.service.refusals import Verdict, judge
from gateway.service.rules import Rules
from gateway.service.sweep import BEAT_TTL_S

T = TypeVar("T")
STALE_AFTER_S: Final = 60.0
"""A job leaves within so many seconds of being asked for, or not at all: its row is looked for among those made up to
`adoption.LATER_S` after it, which is meant for the vendor's queues and for clocks too."""
HELD_FOR_S: Final = BEAT_TTL_S / 2
"""Nobody gives up a job sooner, whatever the policy: the heartbeat before it, one in BEAT_S, still vouches for it."""
STALE_RETRY_S: Final = 1.0
Call = Callable[[str, bytes, Mapping[str, str], CallContext], Awaitable[T]]


@record()
class Sent(Generic[T]):
    """The vendor took a job, and answered."""

    admitted: Admitted
    answer: T


@dataclass(frozen=True, slots=True)
class Sending:
    """What submits and sync calls share: the order of things, the ports, and this process's own id."""

    ledger: Ledger
    upstream: Upstream
    gate: Gate
    rules: Rules
    outbox: Outbox
    in_flight: InFlight
    sink: Sink
    doubts: Doubts
    owner: str
    faults: FaultPoints = NO_FAULTS
    clock: Callable[[], float] = since_boot_s

    def admission(self, request: JobRequest, kind: JobKind) -> Admission:
        """Check the parameters and write down what admission needs.

        Raises:
            InvalidRequest: The catalogue's schema refuses a parameter.
        """
        self.rules.catalogue.check(request.model, request.params)
        return Admission(
            credential=request.credential,
            job_id=request.job_id,
            model=request.model,
            kind=kind,
            estimate=self.rules.estimate(request.model),
            fingerprint=fingerprint(request.model, request.params),
            owner=self.owner,
            upstream_key=self.upstream.current_key(),
            idempotency_key=request.idempotency_key,
            request_id=request.request_id,
            traceparent=request.traceparent,
            webhook_url=request.webhook_url,
            labels=request.labels,
        )

    async def quote(self, admission: Admission) -> Admitted | Denied | Rejected:
        """Say what `start` would decide, and hold, now; writes nothing. Raises `StoreUnavailable`."""
        against = self.in_flight.refusal() or self.gate.held_back(admission.credential.tenant)
        return await self._foretell(admission, against)

    async def start(
        self, request: JobRequest, admission: Admission, call: Call[T]
    ) -> Sent[T] | Submitted | Admitted | Denied | Rejected | Uncertain:
        """Admit and send, once; an `Admitted` was so before (``replayed``), and nothing was sent.

        Args:
            request: What is sent.
            admission: The same, as `admission` wrote it down.
            call: `Upstream.submit` or `Upstream.sync`.

        Raises:
            StoreUnavailable: The store did not confirm the hold; nothing was sent.
        """
        asked_s = self.clock()
        decision = await self._admit(admission)
        if not isinstance(decision, Admitted) or decision.replayed:
            return decision
        context = _context(decision, request, lambda: self._refuse_stale(asked_s))
        try:
            answer = await self.gate.run(
                context.tenant, lambda: call(request.model, request.body, request.headers, context)
            )
        except UpstreamError as exc:
            return await self._failed(decision, exc, request.idempotency_key)
        except BaseException:
            await self._doubt(decision, "sending was cut off")
            raise
        return Sent(decision, answer)

    def _refuse_stale(self, asked_s: float) -> None:
        """Keep a job from leaving that others may have released by now: this process, or its machine, stood still.

        Raises:
            UpstreamHeldBack: It was asked for too long ago; half the time is left to what the vendor takes.
        """
        within_s = max(HELD_FOR_S, min(STALE_AFTER_S, self.rules.policy.unknown_after_s / 2))
        if self.clock() - asked_s > within_s:
            detail = "it could not be sent in time after it was admitted, so it was not sent"
            raise UpstreamHeldBack("overloaded", detail, retry_after_s=STALE_RETRY_S, limited_by="gateway")

    async def _admit(self, admission: Admission) -> Admitted | Denied | Rejected:
        """Admit; an admission whose answer is lost is undone as soon as the store answers.

        While no job can be sent, nothing is written: a caller of ours hears of that, or of the job that was started
        with the same idempotency key.

        Raises:
            StoreUnavailable: Nothing was sent, and nothing will stay held.
        """
        held_back = self.gate.held_back(admission.credential.tenant)
        if held_back is not None:
            return await self._foretell(admission, held_back)
        self.faults.reach(FaultPoint.BEFORE_ADMISSION)
        try:
            decision = await self.ledger.admit(admission)
        except StoreUnavailable:
            self.outbox.keep(admission.credential.tenant, admission.job_id, lambda: self.ledger.void(admission))
            raise
        if isinstance(decision, Admitted) and not decision.replayed:
            self.faults.reach(FaultPoint.ADMITTED)
        return decision

    async def _foretell(
        self, admission: Admission, against: Refused | UpstreamHeldBack | None
    ) -> Admitted | Denied | Rejected:
        """Tell what admission would decide; where it would admit, what stands against the job all the same."""
        decision = await self.ledger.quote(admission)
        if against is None or isinstance(decision, Denied) or decision.replayed:
            return decision
        return rejected(judge(against), decision.quota)

    def mind_loss(self, job: Job, upstream_id: str | None, done: Finished) -> Finished:
        """Tell of a job that the vendor took, and the ledger knows nothing of that: its id is here and nowhere else.

        Either the store lost its last writes, hold included, which may be too young a loss for `StoreWatch` to see; or
        the job was given up on, and ended, before this answer came.
        """
        known = done.job
        if known is None:
            self._tell_loss(job, upstream_id, "job.record_lost", "Redis lost this job's record")
        elif known.state.terminal and not done.changed and known.upstream_id is None and upstream_id is not None:
            # One that has an id may have that of an equal job: what both are charged is right.
            detail = f"it was ended as {known.state} before the vendor's answer came"
            self._tell_loss(job, upstream_id, "job.taken_late", detail)
        return done

    def _tell_loss(self, job: Job, upstream_id: str | None, event: AlertName, detail: str) -> None:
        told = f"{detail}; the vendor runs and bills it: run `gateway reconcile`"
        self.sink(Alert.of(replace(job, upstream_id=upstream_id), event, told))

    async def _reject(self, admitted: Admitted, verdict: Verdict, forget: str | None) -> Rejected | Submitted:
        """Release the hold of a job that the vendor did not take.

        An answer that invites a retry forgets the idempotency key: the retry may be sent, since nothing was accepted.
        A job that was given up on meanwhile, and has become something else, stays what it is, and that is the answer.
        """
        job = admitted.job
        if verdict.alert is not None:
            said = f"{verdict.detail} (key {job.upstream_key}); {verdict.to_do}"
            self.sink(Alert.of(job, verdict.alert, said))
        release = Release(
            tenant=job.tenant,
            job_id=job.id,
            state=JobState.REJECTED,
            code=verdict.code,
            reason=verdict.detail,
            forget=forget if verdict.retry_after_s is not None else None,
            actor="gateway",
        )
        done = await self.record(admitted.job, lambda: self.ledger.release(release))
        released = None if done is None else done.job
        if released is not None and released.state is not JobState.REJECTED:
            return Submitted(released, admitted.quota)
        if released is not None and done is not None and done.changed:
            self.sink(ended(released))
        quota = admitted.quota if released is None else admitted.quota.released(job.hold)
        return rejected(verdict, quota, released or job)

    async def _doubt(self, admitted: Admitted, reason: str, *, unfit: bool = False) -> Uncertain:
        """Record that the vendor may have the job; the hold stays and nothing is sent again."""
        job = admitted.job
        detail = f"{reason}; it is looked up in the vendor's history, see `gateway jobs --unknown`"
        self.sink(Alert.of(job, "job.unknown", detail))
        done = await self.record(job, lambda: self.ledger.doubt(job.tenant, job.id, reason))
        code = "upstream_invalid_response" if unfit else "outcome_unknown"
        return Uncertain((done and done.job) or job, admitted.quota, code)

    async def doubt_answer(self, job: Job, exc: Exception) -> Finished:
        """Record that a job, which has its vendor's id here, is not on record as taken, by a mistake of ours.

        So it is looked up at once. While this process lives, the sweep would let it be sent for as long as any call
        takes. Raises `StoreUnavailable`.
        """
        reason = "the vendor took it, and its answer could not be recorded"
        detail = f"{reason} ({describe(exc)}); it is looked up in the vendor's history, see `gateway jobs --unknown`"
        self.sink(Alert.of(job, "job.unknown", detail))
        return await self.ledger.doubt(job.tenant, job.id, reason)

    async def _failed(
        self, admitted: Admitted, error: UpstreamError, forget: str | None
    ) -> Submitted | Rejected | Uncertain:
        """Record that a call did not go well: refused or provably unsent, else nobody knows what became of it."""
        if isinstance(error, UpstreamUnsent | UpstreamRefused):
            return await self._reject(admitted, judge(error), forget)
        unfit = isinstance(error, UpstreamAmbiguous) and error.unfit
        return await self._doubt(admitted, str(error), unfit=unfit)

    async def record(self, job: Job, write: Write) -> Finished | None:
        """Write what is now true of a job; None where the store will only hear of it later."""
        try:
            return await self.outbox.write(job.tenant, job.id, write)
        except StoreUnavailable:
            return None


def rejected(verdict: Verdict, quota: Quota | None = None, job: Job | None = None) -> Rejected:
    """Tell that the vendor did not take something, and why."""
    return Rejected(verdict.code, verdict.detail, verdict.limited_by, verdict.retry_after_s, job, quota)


def _context(admitted: Admitted, request: JobRequest, leaving: Callable[[], None]) -> CallContext:
    """Say who a call is made for."""
    job = admitted.job
    return CallContext(
        tenant=job.tenant,
        key_id=job.key_id,
        model=job.model,
        job_id=job.id,
        request_id=request.request_id,
        traceparent=request.traceparent,
        held=job.hold,
        upstream_key=job.upstream_key or "",
        leaving=leaving,
    )
