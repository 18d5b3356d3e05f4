"""The adapter of `gateway.core.ports.Upstream`."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from http import HTTPStatus
from typing import Final, TypeVar

from gateway.core.adoption import History, HistoryRow
from gateway.core.breaker import BreakerName
from gateway.core.faultpoints import NO_FAULTS, FaultPoints
from gateway.core.ports import Sink
from gateway.core.retry import RetryBudget
from gateway.core.vendor import CallContext, VendorAnswer, VendorState
from gateway.errors import UpstreamAmbiguous, UpstreamHeldBack, UpstreamRefused, UpstreamUnsent
from gateway.upstream import history, wire
from gateway.upstream.auth import KeyRing
from gateway.upstream.call import Call, Record, host_of
from gateway.upstream.exchange import Exchange
from gateway.upstream.history import Page
from gateway.upstream.hosts import Hosts
from gateway.upstream.statement import ensure_shown, read_statement
from gateway.upstream.stream import VendorStream
from gateway.upstream.transport import Limits, Timeouts, Transport, encoded

T = TypeVar("T")

RETRY_BASE_S: Final = 0.1
_KEY_REFUSED: Final = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN})
_JOB_STATUSES: Final = frozenset({HTTPStatus.NOT_FOUND, HTTPStatus.UNPROCESSABLE_ENTITY})


def forget(_: int) -> None:
    """Learn nothing."""


class SegmindUpstream:
    """Segmind, through one connection pool. Raises as `gateway.core.ports.Upstream` says.

    A call that is cancelled closes its connection and frees its place in the pool; whoever must learn how a submit
    ended runs it in a task of its own.

    Args:
        base_url: Origin of the inference host; ``storage_url`` of the one that takes assets; ``history_url`` of the
            one that lists requests.
        keys: The company's keys.
        sink: Takes one event an attempt.
        transport: The pool; closed by `aclose`.
        limits: Largest answers.
        timeouts: Longest waits.
        attempts: How often a write is tried while provably nothing leaves. A tenth of the reads may be tried again.
        sleep: Waits that many seconds between attempts.
        jitter: Returns a number from 0 to 1.
        clock: Monotonic seconds, for latencies.
        wall: Unix seconds.
        learn_balance: See `Exchange`.
    """

    def __init__(
        self,
        *,
        base_url: str,
        storage_url: str,
        history_url: str,
        keys: KeyRing,
        sink: Sink,
        transport: Transport,
        limits: Limits,
        timeouts: Timeouts,
        attempts: int = 3,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        jitter: Callable[[], float] = random.random,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        learn_balance: Callable[[int], None] = forget,
        faults: FaultPoints = NO_FAULTS,
    ) -> None:
        self._urls: Mapping[BreakerName, str] = {
            "inference": encoded(base_url),
            "storage": encoded(storage_url),
            "history": encoded(history_url),
        }
        self._hosts = hosts = Hosts(sink, clock, connections=limits.connections)
        self._keys = keys
        self._limits = limits
        self._timeouts = timeouts
        self._attempts = attempts
        self._retries = RetryBudget()
        self._sleep = sleep
        self._jitter = jitter
        self._transport = transport
        self._learn_balance = learn_balance
        self._exchange = Exchange(
            transport,
            keys,
            hosts,
            timeouts=timeouts,
            sink=sink,
            clock=clock,
            wall=wall,
            learn_balance=learn_balance,
            faults=faults,
        )

    async def aclose(self) -> None:
        """Close every connection."""
        await self._transport.aclose()

    def current_key(self) -> str:
        """Return the name of the key that new jobs are sent with."""
        return self._keys.current

    def wait_s(self, host: BreakerName) -> float:
        """See `Upstream.wait_s`."""
        return self._hosts.wait_s(host)

    async def submit(self, model: str, body: bytes, headers: Mapping[str, str], context: CallContext) -> str:
        """Submit a job; return the vendor's id."""
        call = self._post("submit", wire.submit_path(model), body, headers, context)
        return await self._tried(partial(self._exchange.ask, call, _submitted))

    async def sync(self, model: str, body: bytes, headers: Mapping[str, str], context: CallContext) -> VendorStream:
        """Make a blocking call; the answer streams. A refusal is raised, not streamed."""
        call = self._post("sync", wire.sync_path(model), body, headers, context)
        return await self._tried(partial(self._exchange.stream, call))

    async def upload(self, body: bytes, headers: Mapping[str, str], context: CallContext) -> VendorAnswer:
        """Pass an asset on."""
        call = self._post("upload", wire.UPLOAD_PATH, body, headers, context)
        return await self._tried(partial(self._exchange.ask, call, self._uploaded))

    async def status(self, upstream_id: str, context: CallContext) -> VendorState:
        """Ask how a job stands; a FAILED one comes with its body."""
        return await self._job("status", wire.job_path(upstream_id) + "/status", upstream_id, context)

    async def result(self, upstream_id: str, context: CallContext) -> VendorState:
        """Fetch the full result."""
        return await self._job("result", wire.job_path(upstream_id), upstream_id, context)

    async def balance(self, context: CallContext) -> wire.Balance:
        """Ask what the company's account holds."""
        call = self._get("credits", wire.CREDITS_PATH, self._keys.current, context, self._limits.answer_bytes)
        return await self._exchange.ask(call, _balance, attempt=1)

    async def history(self, model: str, *, since_ms: int, now_ms: int, upstream_key: str) -> History:
        """Read what was asked of a model since a moment."""
        context, max_bytes = CallContext(model=model, upstream_key=upstream_key), self._limits.result_bytes
        own = True

        def decode(answer: wire.Answer, record: Record) -> Page:
            nonlocal own
            own = own and (record.key == upstream_key or self._keys.is_current(upstream_key))
            return _page(answer, record)

        async def page(query: str) -> Page:
            return await self._read("history", query, context, max_bytes, decode)

        found = await history.read_history(page, model, since_ms=since_ms, now_ms=now_ms)
        return replace(found, own_key=own)

    async def statement(self, *, first_ms: int, end_ms: int) -> Sequence[HistoryRow]:
        """Read every request of some time, with the current key."""
        return await read_statement(self._statement_page, first_ms=first_ms, end_ms=end_ms)

    async def ensure_shown(self, *, end_ms: int) -> None:
        """Make sure that the history shows any request of the last month, with the current key."""
        await ensure_shown(self._statement_page, end_ms=end_ms)

    async def _statement_page(self, query: str) -> Page:
        return await self._read("history", query, CallContext(), self._limits.result_bytes, _page)

    async def _job(self, operation: str, path: str, upstream_id: str, context: CallContext) -> VendorState:
        if context.upstream_id != upstream_id:
            context = replace(context, upstream_id=upstream_id)
        full = operation == "result"
        max_bytes = self._limits.result_bytes if full else self._limits.answer_bytes
        decode = partial(self._state, full=full)
        return await self._read(operation, path, context, max_bytes, decode)

    async def _read(
        self,
        operation: str,
        path: str,
        context: CallContext,
        max_bytes: int,
        decode: Callable[[wire.Answer, Record], T],
    ) -> T:
        """Read with the key that a job was sent with; where that one is no longer good, with the current one."""
        *former, current = self._keys.candidates(context.upstream_key)
        self._retries.called()
        for key in former:
            try:
                return await self._asked(self._get(operation, path, key, context, max_bytes), decode, attempt=1)
            except UpstreamRefused as refusal:
                if refusal.status not in _KEY_REFUSED:
                    raise
        call = self._get(operation, path, current, context, max_bytes)
        return await self._asked(call, decode, attempt=1 + len(former))

    async def _asked(self, call: Call, decode: Callable[[wire.Answer, Record], T], *, attempt: int) -> T:
        """Read; where the connection failed or broke, once more, if the budget has a retry left."""
        try:
            return await self._exchange.ask(call, decode, attempt=attempt)
        except (UpstreamUnsent, UpstreamAmbiguous) as failure:
            if not (_broke(failure) and self._retries.take()):
                raise
        await self._sleep(RETRY_BASE_S * (0.5 + self._jitter()))
        return await self._exchange.ask(call, decode, attempt=attempt + 1)

    async def _tried(self, attempt: Callable[..., Awaitable[T]]) -> T:
        """Try again, with growing and jittered pauses, while provably nothing leaves this process."""
        for number in range(1, self._attempts):
            try:
                return await attempt(attempt=number)
            except UpstreamHeldBack:
                raise
            except UpstreamUnsent:
                pass
            await self._sleep(RETRY_BASE_S * 2 ** (number - 1) * (0.5 + self._jitter()))
        return await attempt(attempt=self._attempts)

    def _post(self, operation: str, path: str, body: bytes, headers: Mapping[str, str], context: CallContext) -> Call:
        limits, timeouts = self._limits, self._timeouts
        streams, uploads = operation == "sync", operation == "upload"
        return Call(
            operation=operation,
            method="POST",
            url=self._urls[host_of(operation)] + path,
            key=self._keys.name_for(context.upstream_key),
            context=context,
            max_bytes=limits.stream_bytes if streams else limits.answer_bytes,
            read_s=timeouts.sync_read_s if streams else timeouts.read_s,
            total_s=timeouts.sync_total_s if streams else timeouts.upload_total_s if uploads else timeouts.total_s,
            body=body,
            headers=wire.request_headers(headers, context.traceparent),
        )

    def _get(self, operation: str, path: str, key: str, context: CallContext, max_bytes: int) -> Call:
        return Call(
            operation=operation,
            method="GET",
            url=self._urls[host_of(operation)] + path,
            key=key,
            context=context,
            max_bytes=max_bytes,
            read_s=self._timeouts.read_s,
            total_s=self._timeouts.total_s,
            headers={"traceparent": context.traceparent} if context.traceparent else {},
            accepts=_JOB_STATUSES if operation in {"status", "result"} else frozenset(),
        )

    def _state(self, answer: wire.Answer, record: Record, *, full: bool) -> VendorState:
        state = wire.state(answer, self._keys.secrets(), full=full)
        record.cost = state.cost
        if state.remaining is not None:
            self._learn_balance(state.remaining)
        return state

    def _uploaded(self, answer: wire.Answer, _: Record) -> VendorAnswer:
        wire.json_object(answer)
        headers = wire.response_headers(answer.headers, self._keys.secrets())
        return VendorAnswer(answer.status, headers, answer.body)


def _broke(failure: UpstreamUnsent | UpstreamAmbiguous) -> bool:
    """Tell whether a connection failed or broke; silence and an answer of the vendor's are no reason to hurry."""
    if isinstance(failure, UpstreamAmbiguous):
        return failure.status is None and not failure.timed_out
    return not isinstance(failure, UpstreamHeldBack)


def _submitted(answer: wire.Answer, record: Record) -> str:
    record.upstream_id = wire.submitted(answer)
    return record.upstream_id


def _balance(answer: wire.Answer, _: Record) -> wire.Balance:
    return wire.balance(answer)


def _page(answer: wire.Answer, _: Record) -> Page:
    return history.decode(answer)
