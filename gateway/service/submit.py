"""A submit: check, hold, send once, record. The order is the guarantee: nothing is sent before it is on record."""

from __future__ import annotations

from dataclasses import replace

from gateway.core.faultpoints import FaultPoint
from gateway.core.job import JobState
from gateway.core.movements import Admission, Admitted, Denied, Finished
from gateway.core.queue import DueEntry
from gateway.core.schedule import FIRST_POLL_S, spread_s
from gateway.errors import StoreUnavailable
from gateway.service.adopt import accept
from gateway.service.outcomes import JobRequest, Rejected, Submitted, Uncertain, replay
from gateway.service.sending import Sending, Sent
from gateway.service.watchlist import Watchlist

Outcome = Submitted | Denied | Rejected | Uncertain


class SubmitService:
    """Starts jobs.

    Args:
        sending: The ports.
        watchlist: Where accepted jobs are put for the tracker.
    """

    def __init__(self, sending: Sending, watchlist: Watchlist) -> None:
        self._sending = sending
        self._watchlist = watchlist

    async def submit(self, request: JobRequest) -> Outcome:
        """Start a job, at most once for an idempotency key.

        Raises:
            InvalidRequest: The parameters are wrong; nothing was held.
            Refused: The gateway is draining or overloaded; nothing was held.
            StoreUnavailable: The store did not confirm the hold; nothing was sent.
        """
        admission = self._sending.admission(request, "async")
        return await self._sending.in_flight.run(lambda: self._run(request, admission))

    async def quote(self, request: JobRequest) -> Admitted | Denied | Rejected:
        """Say what `submit` would decide and hold now; changes nothing."""
        return await self._sending.quote(self._sending.admission(request, "async"))

    async def _run(self, request: JobRequest, admission: Admission) -> Outcome:
        started = await self._sending.start(request, admission, self._sending.upstream.submit)
        if isinstance(started, Sent):
            return await self._accept(started.admitted, started.answer)
        return replay(started) if isinstance(started, Admitted) else started

    async def _accept(self, admitted: Admitted, upstream_id: str) -> Submitted | Uncertain:
        """Record the vendor's id; without a store the answer is 504, and the record follows when it is back."""
        job = admitted.job
        sending = self._sending

        async def write() -> Finished:
            # However late the record is, the tracker hears of it then, and not by a repair half a minute later.
            try:
                sending.faults.reach(FaultPoint.ANSWERED)
                done = await accept(sending.ledger, sending.doubts, job, upstream_id)
            except StoreUnavailable:
                raise
            except Exception as exc:  # noqa: BLE001 the vendor runs the job, and forgets its result in an hour
                done = await sending.doubt_answer(replace(job, upstream_id=upstream_id), exc)
            if done.job is not None and done.job.state is JobState.ACCEPTED:
                self._watchlist.add(DueEntry(job.tenant, job.id, spread_s(FIRST_POLL_S, job.id)))
            return sending.mind_loss(job, upstream_id, done)

        done = await sending.record(job, write)
        accepted = None if done is None else done.job
        sending.faults.reach(FaultPoint.RECORDED)
        if accepted is None or accepted.state is JobState.UNKNOWN:
            return Uncertain(job, admitted.quota)
        return Submitted(accepted, admitted.quota)
