"""One attempt at a call: send, read within bounds, and say what it proves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Final, TypeVar

import aiohttp
from multidict import CIMultiDict

from gateway.core.credits import vendor_credits
from gateway.core.faultpoints import NO_FAULTS, FaultPoint, FaultPoints
from gateway.core.ports import Sink
from gateway.errors import UpstreamAmbiguous, UpstreamError, UpstreamInvalidResponse
from gateway.upstream import wire
from gateway.upstream.auth import KeyRing, sign
from gateway.upstream.call import Call, Record
from gateway.upstream.failures import at_edge
from gateway.upstream.hosts import Hosts
from gateway.upstream.redaction import StreamRedaction, redact_bytes
from gateway.upstream.stream import VendorStream
from gateway.upstream.transport import CHUNK_BYTES, Timeouts, Transport, give_back, headers_of

T = TypeVar("T")
Headers = Mapping[str, str]
Body = TypeVar("Body", bytes, bytearray)

SLICE_BYTES: Final = 2**18
"""Larger request bodies are written in slices of this size, so that none holds up the event loop."""


class Exchange:
    """Make attempts, each of which emits one event. Nothing here sends anything twice.

    Args:
        transport: The pool.
        keys: The company's keys.
        hosts: Let calls go, and are told how they went.
        timeouts: Of them, those of connecting.
        sink: Takes the events.
        clock: Monotonic seconds, for latencies.
        wall: Unix seconds, for the vendor's reset times.
        learn_balance: Told what is left on the company's account, nanocredits, where an answer says so.
    """

    def __init__(
        self,
        transport: Transport,
        keys: KeyRing,
        hosts: Hosts,
        *,
        timeouts: Timeouts,
        sink: Sink,
        clock: Callable[[], float],
        wall: Callable[[], float],
        learn_balance: Callable[[int], None],
        faults: FaultPoints = NO_FAULTS,
    ) -> None:
        self._transport = transport
        self._keys = keys
        self._hosts = hosts
        self._timeouts = timeouts
        self._sink = sink
        self._clock = clock
        self._wall = wall
        self._learn_balance = learn_balance
        self._faults = faults

    async def ask(self, call: Call, decode: Callable[[wire.Answer, Record], T], *, attempt: int) -> T:
        """Make one attempt and decode its answer.

        Raises:
            UpstreamError: As `gateway.core.ports.Upstream` says.
        """
        record, ticket = self._begin(call, attempt)
        found = await self._settled(call, record, ticket, self._ask(call, record, decode))
        record.end()
        return found

    async def stream(self, call: Call, *, attempt: int) -> VendorStream:
        """Make one attempt and return its answer as soon as its head is there.

        Raises:
            UpstreamError: As `gateway.core.ports.Upstream` says, a refusal included.
        """
        record, ticket = self._begin(call, attempt)
        return await self._settled(call, record, ticket, self._stream(call, record))

    def _begin(self, call: Call, attempt: int) -> tuple[Record, int]:
        ticket = self._hosts.begin(call.host)
        record = Record(call, attempt=attempt, sink=self._sink, clock=self._clock, ended=self._hosts.ended)
        return record, ticket

    async def _settled(self, call: Call, record: Record, ticket: int, work: Awaitable[T]) -> T:
        """Await an attempt, tell its host how it went, and end its record if it failed.

        To a write, an unusable answer is an ambiguous one.
        """
        try:
            found = await work
        except UpstreamInvalidResponse as exc:
            failure = UpstreamAmbiguous(str(exc), status=record.status, unfit=exc.unfit) if call.write else exc
        except BaseException as exc:
            self._hosts.report(call, ticket, exc)
            record.end(exc)
            raise
        else:
            self._hosts.report(call, ticket, None)
            return found
        self._hosts.report(call, ticket, failure)
        record.end(failure)
        raise failure

    async def _ask(self, call: Call, record: Record, decode: Callable[[wire.Answer, Record], T]) -> T:
        deadline = _deadline(call)
        response, headers = await self._open(call, record, deadline)
        answer = await self._drain(call, response, headers, deadline)
        if not (answer.success or answer.status in call.accepts):
            raise self._refusal(answer)
        return decode(answer, record)

    async def _stream(self, call: Call, record: Record) -> VendorStream:
        deadline = _deadline(call)
        response, given = await self._open(call, record, deadline)
        if wire.success(response.status) and _streamable(given):
            record.cost = vendor_credits(given.get("x-cost"))
            record.upstream_id = wire.upstream_id(given.get("x-request-id")) or ""
            secrets = self._keys.secrets()
            headers, redaction = wire.response_headers(given, secrets), StreamRedaction(secrets)
            return VendorStream(
                response, record, headers=headers, redaction=redaction, max_bytes=call.max_bytes, deadline=deadline
            )
        if wire.success(response.status):
            await give_back(response)
            raise UpstreamInvalidResponse("HTML or a compressed body where a model's output should be")
        raise self._refusal(await self._drain(call, response, given, deadline))

    def _refusal(self, answer: wire.Answer) -> UpstreamError:
        return wire.refusal(answer, self._keys.secrets(), now_s=self._wall())

    async def _open(self, call: Call, record: Record, deadline: float) -> tuple[aiohttp.ClientResponse, Headers]:
        response = await at_edge(self._send(call, deadline))
        record.status = response.status
        headers = headers_of(response)
        remaining = vendor_credits(headers.get("x-remaining-credits"))
        if remaining is not None:
            self._learn_balance(remaining)
        return response, headers

    async def _send(self, call: Call, deadline: float) -> aiohttp.ClientResponse:
        headers = CIMultiDict(call.headers)
        if call.write:
            headers["content-length"] = str(len(call.body))
        sign(headers, self._keys.secret(call.key))
        sliced = len(call.body) > SLICE_BYTES or (call.write and self._faults.armed(FaultPoint.SENT))
        body = _slices(call.body, self._faults) if sliced else call.body
        async with asyncio.timeout_at(deadline):
            return await self._transport.send(
                call.method,
                call.url,
                headers=headers,
                body=body,
                timeouts=self._timeouts,
                read_s=call.read_s,
                leaving=call.context.leaving if call.write else None,
            )

    async def _drain(
        self, call: Call, response: aiohttp.ClientResponse, headers: Headers, deadline: float
    ) -> wire.Answer:
        """Read an answer to its end and close it; where the status alone refuses, a body that breaks off is empty."""
        status = response.status
        try:
            if _compressed(headers):
                raise UpstreamInvalidResponse("the answer is compressed, which was not asked for", unfit=True)
            body = await at_edge(_body(response.content, call.max_bytes, deadline), status=status)
        except UpstreamError:
            if status not in wire.DEFINITE - call.accepts:
                raise
            body = b""
        finally:
            await give_back(response)
        return wire.Answer(status, headers, redact_bytes(body, self._keys.secrets()))


def _deadline(call: Call) -> float:
    return asyncio.get_running_loop().time() + call.total_s


def _streamable(headers: Headers) -> bool:
    return not _compressed(headers) and not headers.get("content-type", "").startswith("text/html")


def _compressed(headers: Headers) -> bool:
    return headers.get("content-encoding", "identity").strip().lower() not in {"", "identity"}


async def _slices(body: bytes, faults: FaultPoints) -> AsyncIterator[bytes]:
    for start in range(0, len(body), SLICE_BYTES):
        yield body[start : start + SLICE_BYTES]
    if faults.armed(FaultPoint.SENT):
        await asyncio.sleep(0)  # uvloop hands the bytes to the kernel at the end of a turn of the loop
        faults.reach(FaultPoint.SENT)


async def _body(content: aiohttp.StreamReader, max_bytes: int, deadline: float) -> bytes:
    """Read a body to its end."""
    if content.is_eof():  # a short one came with its head: it needs no clock
        return _fit(content.read_nowait(), max_bytes)
    body = bytearray()
    async with asyncio.timeout_at(deadline):
        async for part in content.iter_chunked(CHUNK_BYTES):
            body += part
            _fit(body, max_bytes)
    return bytes(body)


def _fit(body: Body, max_bytes: int) -> Body:
    if len(body) > max_bytes:
        raise UpstreamInvalidResponse(f"the answer is larger than {max_bytes} bytes", unfit=True)
    return body
