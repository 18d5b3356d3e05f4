"""UNKNOWN jobs: looked up in the vendor's request history, adopted where they are found there, else ended.

A job is found, or its absence is evidence, or policy decides; nothing is ever sent again. The rule of matching is
`core.adoption`'s.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final

from gateway.core.adoption import (
    EARLIER_S,
    Doubt,
    History,
    HistoryRow,
    Matches,
    is_of_account,
    match,
    next_look_ms,
    shows_absence,
)
from gateway.core.alerts import AlertName
from gateway.core.events import Alert
from gateway.core.faultpoints import NO_FAULTS, FaultPoint, FaultPoints
from gateway.core.job import Job, JobState
from gateway.core.movements import Finished
from gateway.core.ports import (
    Doubts,
    Due,
    HistoryReader,
    Ledger,
    Sink,
    Sweeper,
)
from gateway.core.queue import DueEntry
from gateway.core.schedule import VENDOR_TTL_S
from gateway.core.vendor import VendorState
from gateway.errors import StoreUnavailable, UpstreamError
from gateway.service.finish import Finisher
from gateway.service.rules import Rules

ROUND_S = 3.0
READS_A_ROUND = 20
READ_WITHIN_S = 60.0
OTHERS: Final = 20
"""Rows of other inputs that are looked at too, those nearest in time to the jobs: those of jobs of ours tell whether
the history shows inputs as sent, and where the jobs' key is gone, whether it is that key's account at all."""
ENDED: Final = frozenset({"COMPLETED", "FAILED"})
_ELSEWHERE: Final = "it was read with another company key than the job's, and shows no job of that one"


async def accept(ledger: Ledger, doubts: Doubts, job: Job, upstream_id: str) -> Finished:
    """Record the vendor's id of a job that was sent just now: one write, unless the job was given up on meanwhile.

    Then it must claim its id like any other UNKNOWN job: an equal one may have adopted it. Where it has, this one stays
    UNKNOWN and finds the other's in the history. Raises `StoreUnavailable`; may be run again until it does not.
    """
    done = await ledger.accept(job.tenant, job.id, upstream_id)
    if done.job is None or done.job.state is not JobState.UNKNOWN or not await doubts.claim(upstream_id, job):
        return done
    return await ledger.adopt(job.tenant, job.id, upstream_id)


@dataclass(frozen=True, slots=True)
class _Look:
    """One look at the jobs of a model.

    Attributes:
        doubts: All UNKNOWN ones, due or not: they share what was read, and equal ones are told apart.
        known: Ids of the UNKNOWN jobs of all models.
        now_ms: Redis's clock, before the history was read.
    """

    model: str
    upstream_key: str
    doubts: Sequence[Doubt]
    known: frozenset[str]
    now_ms: int


class Adopter:
    """Looks up UNKNOWN jobs in turns: one process at a time, one reading of the history for all jobs of a model.

    Args:
        doubts: The jobs, and whose the vendor's ids are.
        history: The vendor's history.
        sweeper: Gives the turns.
    """

    def __init__(
        self,
        *,
        doubts: Doubts,
        history: HistoryReader,
        ledger: Ledger,
        finisher: Finisher,
        due: Due,
        rules: Rules,
        sweeper: Sweeper,
        sink: Sink,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        faults: FaultPoints = NO_FAULTS,
    ) -> None:
        self._doubts = doubts
        self._history = history
        self._ledger = ledger
        self._finisher = finisher
        self._due = due
        self._rules = rules
        self._sweeper = sweeper
        self._sink = sink
        self._sleep = sleep
        self._faults = faults

    async def run(self) -> None:
        """Look up until cancelled."""
        while True:
            try:
                if await self._sweeper.turn("adopt", ttl_s=ROUND_S):
                    await self.look()
            except StoreUnavailable:
                pass  # the next turn comes
            except Exception as exc:  # noqa: BLE001 whatever it is, the next round may go well, and must be tried
                self._sink(Alert.failure("adoption.failed", exc))
            await self._sleep(ROUND_S)

    async def look(self) -> None:
        """Look up every job that is due for it, and with it those of the same model. Raises `StoreUnavailable`."""
        doubts, now_ms = await self._doubts.unknown()
        groups: dict[tuple[str, str], list[Doubt]] = defaultdict(list)
        for doubt in doubts:
            groups[doubt.job.upstream_key or "", doubt.job.model].append(doubt)
        known = frozenset(doubt.job.id for doubt in doubts)
        wanted = [
            (min(map(self._next_look_ms, some)), _Look(model, key, some, known, now_ms))
            for (key, model), some in groups.items()
        ]
        wanted.sort(key=lambda one: one[0])
        for at_ms, look in wanted[:READS_A_ROUND]:
            if at_ms <= now_ms:
                await self._try(look)

    async def _try(self, look: _Look) -> None:
        try:
            await self._look_up(look)
        except StoreUnavailable:
            raise
        except Exception as exc:  # noqa: BLE001 one job's surprise must not end the look-up of all
            self._sink(Alert.failure("adoption.failed", exc))

    async def _look_up(self, look: _Look) -> None:
        since_ms = min(doubt.job.created_ms for doubt in look.doubts) - round(EARLIER_S * 1000)
        try:
            async with asyncio.timeout(READ_WITHIN_S):
                history = await self._history.history(
                    look.model, since_ms=since_ms, now_ms=look.now_ms, upstream_key=look.upstream_key
                )
        except (UpstreamError, TimeoutError) as exc:
            for doubt in self._due_of(look):
                await self._not_readable(doubt, look.now_ms, str(exc) or "no answer in time")
            return
        matches = await self._match(look, history, since_ms)
        for doubt in look.doubts:
            row = matches.rows.get(doubt.job.id)
            if row is not None:
                await self._adopt(doubt.job, row, look.now_ms)
        for doubt in self._due_of(look):
            await self._not_found(doubt, look.now_ms, history, matches)

    async def _match(self, look: _Look, history: History, since_ms: int) -> Matches:
        jobs = [doubt.job for doubt in look.doubts]
        inputs = {job.fingerprint for job in jobs}
        rows, others = list[HistoryRow](), list[HistoryRow]()
        for row in history.rows:
            (rows if row.fingerprint is None or row.fingerprint in inputs else others).append(row)
        rows += sorted(others, key=lambda row: abs((row.created_ms or 0) - since_ms))[:OTHERS]
        traces = await self._doubts.traces({row.request_id for row in rows}, inputs)
        matches = match(jobs, rows, traces, look.known)
        return replace(matches, elsewhere=not is_of_account(history, look.upstream_key, traces))

    async def _adopt(self, job: Job, row: HistoryRow, now_ms: int) -> None:
        """Give a job its vendor's id; from then on it goes on as any other, if the vendor still has its record."""
        if self._is_early(job, row, now_ms):
            return
        if not await self._doubts.claim(row.request_id, job):
            return  # another process was faster with an equal job: the next look tells
        self._faults.reach(FaultPoint.ADOPTED)
        if job.kind == "sync":
            await self._end_by(replace(job, upstream_id=row.request_id), row)
            return
        done = await self._ledger.adopt(job.tenant, job.id, row.request_id)
        if not done.changed or done.job is None:
            return
        self._alert(done.job, "job.adopted", "found in the vendor's request history; it goes on as any other")
        if now_ms - job.created_ms >= VENDOR_TTL_S * 1000 and row.status in ENDED:
            await self._end_by(done.job, row)
        else:
            await self._due.schedule([DueEntry(job.tenant, job.id)])

    async def _end_by(self, job: Job, row: HistoryRow) -> None:
        """End a job of which the vendor has no record, or never had, by what its history says; its result is lost."""
        if row.status == "FAILED":
            await self._finisher.fail(job, VendorState("FAILED"))
            return
        done = await self._finisher.complete(job, VendorState("COMPLETED", cost=row.cost))
        if done.changed:
            why = "its answer went astray" if job.kind == "sync" else "it was found after the vendor's hour"
            self._alert(job, "job.result_lost", f"{why}; output files live 7 days there, see the request history")

    async def _not_found(self, doubt: Doubt, now_ms: int, history: History, matches: Matches) -> None:
        job = doubt.job
        row = matches.rows.get(job.id)
        if row is not None and self._is_early(job, row, now_ms):
            await self._doubts.note(job, readable=True)
        if row is not None or job.id in matches.waiting:
            return  # found, or what an equal job that is being sent turns out to be decides
        if not history.complete:
            await self._not_readable(doubt, now_ms, "it has more rows than can be read")
        elif matches.elsewhere:
            await self._not_readable(doubt, now_ms, _ELSEWHERE)
        elif matches.altered:
            await self._not_readable(doubt, now_ms, "it shows other inputs than those that were sent")
        elif job.id in matches.unclear:
            await self._not_readable(doubt, now_ms, "it has a row of nobody's that may yet be this job")
        else:
            await self._absent(doubt, now_ms)

    async def _absent(self, doubt: Doubt, now_ms: int) -> None:
        """Note that a readable history does not show the job; when that has gone on for long enough, it never ran."""
        readable_ms = await self._doubts.note(doubt.job, readable=True)
        seen = Doubt(doubt.job, readable_ms, now_ms)
        if readable_ms is None or not shows_absence(seen, now_ms, self._rules.policy.unknown_after_s):
            return
        evidence = f"looked up from {_moment(readable_ms)} to {_moment(now_ms)}, each time in vain"
        reason = f"the vendor never had this job: it is not in its request history, {evidence}"
        await self._finisher.reject(doubt.job, reason)

    async def _not_readable(self, doubt: Doubt, now_ms: int, why: str) -> None:
        """Note that the history said nothing; by `unknown_after`, and at the second time in a row, policy decides."""
        policy, job = self._rules.policy, doubt.job
        first = doubt.looked_ms is None or doubt.readable_ms is not None
        if now_ms - job.created_ms < policy.unknown_after_s * 1000 or first:
            await self._doubts.note(job, readable=False)
            return
        reason = f"its outcome is unknown and the vendor's request history could not tell: {why}"
        if policy.unknown_jobs == "release":
            await self._finisher.reject(job, f"{reason}; not charged, by policy")
        else:
            await self._finisher.expire(job, f"{reason}; charged at its hold, by policy")

    def _due_of(self, look: _Look) -> Sequence[Doubt]:
        """List the jobs for which this look counts: a row appears some time after its job."""
        return [doubt for doubt in look.doubts if self._next_look_ms(doubt) <= look.now_ms]

    def _next_look_ms(self, doubt: Doubt) -> int:
        return next_look_ms(doubt, self._rules.policy.unknown_after_s)

    def _is_early(self, job: Job, row: HistoryRow, now_ms: int) -> bool:
        """Tell whether a row can't be relied on yet.

        A sync call that has not ended has no record that could be polled. And a row that FAILED may be that of an equal
        call which was refused, and has no owner: the job's own, which costs something, may yet appear.
        """
        if row.status == "FAILED":
            return now_ms - job.created_ms < self._rules.policy.unknown_after_s * 1000
        return job.kind == "sync" and row.status != "COMPLETED"

    def _alert(self, job: Job, event: AlertName, detail: str) -> None:
        self._sink(Alert.of(job, event, detail))


def _moment(unix_ms: int) -> str:
    return f"{datetime.fromtimestamp(unix_ms // 1000, UTC):%Y-%m-%dT%H:%M:%SZ}"
