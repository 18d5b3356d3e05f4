"""Sync (v1) calls: held like any job, streamed through, settled by ``x-cost``.

The vendor's answer is read by a task of this service, not by the caller: a caller that goes away neither stops the
reading, nor leaves the hold open, nor loses the result that a replay of its idempotency key asks for.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from typing import Final

from gateway.core.credits import format_credits
from gateway.core.events import Alert
from gateway.core.failure import describe
from gateway.core.faultpoints import FaultPoint
from gateway.core.job import Job, JobState
from gateway.core.movements import Admission, Admitted, Denied, Finished
from gateway.core.ports import Jobs, SyncStream
from gateway.core.vendor import VendorState
from gateway.errors import StoreUnavailable
from gateway.service.finish import Finisher
from gateway.service.outcomes import JobRequest, Rejected, Submitted, SyncAnswer, Uncertain, replay
from gateway.service.room import Lease, Room
from gateway.service.sending import Sending, Sent

MAX_KEPT_BYTES = 8 * 1024 * 1024
READER_GONE_S = 60.0
_QUEUE_CHUNKS = 4
"""Of 16 KiB each: a caller who reads slowly holds up the reading, and takes up no memory."""
_DEFAULT_TYPE = "application/octet-stream"
_OK: Final = 200
_REPLAYED: Final = frozenset({"x-cost", "x-generation-time", "x-seed-value"})
"""Headers of the vendor's answer that a replay gives again."""

SyncOutcome = SyncAnswer | Submitted | Denied | Rejected | Uncertain


class Relay:
    """Hands an answer from the task that reads it to the caller who streams it; keeps a copy while there is room.

    Iterating raises `UpstreamAmbiguous` where the vendor broke off, `TimeoutError` where the caller counts as gone.

    Args:
        lease: For the copy.
        patience_s: Seconds; a caller who takes no chunk for so long counts as gone.
    """

    def __init__(self, lease: Lease, patience_s: float = READER_GONE_S) -> None:
        self.lease = lease
        self._patience_s = patience_s
        self._queue: asyncio.Queue[bytes | Exception | None] = asyncio.Queue(_QUEUE_CHUNKS)
        self._gone = False
        self._kept: bytearray | None = bytearray()

    async def put(self, chunk: bytes) -> None:
        """Pass a chunk on; waits while the caller has not taken those before it."""
        if self._kept is not None:
            if len(self._kept) + len(chunk) > MAX_KEPT_BYTES or not self.lease.grow(len(chunk)):
                self._kept = None
                self.lease.release()
            else:
                self._kept += chunk
        await self._pass(chunk)

    async def end(self, error: Exception | None = None) -> None:
        """Say that the answer is complete, or broke off."""
        await self._pass(error)

    def kept(self) -> bytes | None:
        """Return the whole body; None where it was too large to keep, or there was no room."""
        return None if self._kept is None else bytes(self._kept)

    async def _pass(self, item: bytes | Exception | None) -> None:
        if self._gone:
            return
        if not self._queue.full():  # as most often: no need of a task and a timer
            self._queue.put_nowait(item)
            return
        try:
            await asyncio.wait_for(self._queue.put(item), self._patience_s)
        except TimeoutError:
            await self.aclose()
            # Should it come back after all, it must see that its answer is not whole, and wait for no more of it.
            self._queue.put_nowait(TimeoutError("the caller did not take its answer"))

    def __aiter__(self) -> Relay:
        return self

    async def __anext__(self) -> bytes:
        item = await self._queue.get()
        if item is None:
            raise StopAsyncIteration
        if isinstance(item, Exception):
            raise item
        return item

    async def aclose(self) -> None:
        """Let the caller go: what is still read is kept, not handed on. Safe before the first chunk, and twice."""
        self._gone = True
        while not self._queue.empty():
            self._queue.get_nowait()


class SyncService:
    """Makes blocking calls."""

    def __init__(self, sending: Sending, finisher: Finisher, jobs: Jobs, room: Room) -> None:
        self._sending = sending
        self._room = room
        self._finisher = finisher
        self._jobs = jobs

    async def call(self, request: JobRequest) -> SyncOutcome:
        """Make a call, at most once for an idempotency key. Raises as `SubmitService.submit`."""
        admission = self._sending.admission(request, "sync")
        return await self._sending.in_flight.run(lambda: self._run(request, admission))

    async def _run(self, request: JobRequest, admission: Admission) -> SyncOutcome:
        started = await self._sending.start(request, admission, self._sending.upstream.sync)
        if isinstance(started, Sent):
            return self._stream(started.admitted, started.answer)
        return await self._replay(started) if isinstance(started, Admitted) else started

    async def _replay(self, admitted: Admitted) -> SyncAnswer | Submitted | Rejected:
        """Give the kept answer again; without one, the job itself."""
        outcome = replay(admitted)
        if isinstance(outcome, Rejected) or not outcome.job.has_result:
            return outcome
        kept = await self._jobs.kept(outcome.job.tenant, outcome.job.id)
        if kept is None:
            return outcome
        kept_headers = {"content-type": kept.content_type, "content-length": str(len(kept.body)), **kept.headers}
        headers = _with_balance(kept_headers, admitted)
        return SyncAnswer(_OK, headers, _once(kept.body), outcome.job, admitted.quota, replayed=True)

    def _stream(self, admitted: Admitted, stream: SyncStream) -> SyncAnswer:
        relay = Relay(Lease(self._room))
        self._sending.in_flight.own(self._pump(stream, relay, admitted.job))
        headers = _with_balance(stream.headers, admitted)
        return SyncAnswer(stream.status, headers, relay, admitted.job, admitted.quota)

    async def _pump(self, stream: SyncStream, relay: Relay, job: Job) -> None:
        """Read the answer to its end and settle: the vendor bills it once its headers are out."""
        broke: Exception | None = None
        try:
            async for chunk in stream.chunks():
                await relay.put(chunk)
        except Exception as exc:  # noqa: BLE001 whatever ends the reading, the call is settled and its caller let go
            broke = exc
        finally:
            await stream.aclose()
        body = relay.kept() if broke is None else None
        try:
            await self._settle(job, stream, body, relay.lease)
        except Exception as exc:  # noqa: BLE001 the caller must not wait for ever, nor the hold stand unnoticed
            self._sending.sink(Alert.of(job, "job.settle_failed", describe(exc)))
            relay.lease.release()
        await relay.end(broke)

    async def _settle(self, job: Job, stream: SyncStream, body: bytes | None, lease: Lease) -> None:
        content_type = stream.headers.get("content-type", _DEFAULT_TYPE)
        kept = {name: value for name, value in stream.headers.items() if name in _REPLAYED}
        said = VendorState("COMPLETED", cost=stream.cost, body=body or b"", content_type=content_type, headers=kept)
        job = replace(job, upstream_id=stream.upstream_id)
        self._sending.faults.reach(FaultPoint.ANSWERED)
        try:
            await self._complete(job, said)
        except StoreUnavailable:
            self._sending.outbox.keep(job.tenant, job.id, lambda: self._complete(job, said), lease.release)
        else:
            lease.release()

    async def _complete(self, job: Job, said: VendorState) -> Finished:
        """Settle; a call that was given up on meanwhile must claim its id first, as in `adopt.accept`.

        Where an equal job has claimed it, this one stays UNKNOWN and ends by the other's row.
        """
        done = await self._finisher.complete(job, said, actor="gateway", only_from=JobState.SENDING)
        if done.job is not None and done.job.state is JobState.UNKNOWN:
            if job.upstream_id is not None and not await self._sending.doubts.claim(job.upstream_id, job):
                return done
            done = await self._finisher.complete(job, said, actor="gateway")
        return self._sending.mind_loss(job, job.upstream_id, done)


def _with_balance(headers: Mapping[str, str], admitted: Admitted) -> dict[str, str]:
    """Put the tenant's own balance where the vendor's would be."""
    return {**headers, "x-remaining-credits": format_credits(admitted.quota.remaining)}


async def _once(body: bytes) -> AsyncIterator[bytes]:
    yield body
