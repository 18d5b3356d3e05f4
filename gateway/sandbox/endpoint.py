"""What stands in front of each of the vendor's routes: the faults that were armed for it."""

from __future__ import annotations

import asyncio
import random
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from http import HTTPStatus

import orjson
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Message, Receive, Scope, Send

from gateway.sandbox.answers import Refusal, answer
from gateway.sandbox.faults import Fault, RouteKind
from gateway.sandbox.jobs import Job
from gateway.sandbox.state import Sandbox

_BODY_MAX_BYTES = 64 * 2**20
_CHUNK = b'"filler":' + b" " * 65_527


@dataclass(frozen=True, slots=True)
class Exchange:
    """Hand one request to a route.

    Attributes:
        request: The request.
        body: Its body, read whole.
        slug: Model name in the path, of a submit or sync call.
        job: The job in the path, if it is live.
        request_id: The id in the path.
        faults: Faults that apply and that the route itself acts on.
    """

    request: Request
    body: bytes
    slug: str
    request_id: str
    job: Job | None
    faults: Sequence[Fault]

    @property
    def origin(self) -> str:
        """Return ``scheme://host`` as the caller addressed it."""
        return f"{self.request.scope['scheme']}://{self.request.headers.get('host', 'localhost')}"

    @property
    def key(self) -> str:
        """Return the caller's API key, empty if there is none."""
        return self.request.headers.get("x-api-key", "")


Handler = Callable[[Sandbox, Exchange], Awaitable[Response]]


class Endpoint:
    """Serve one route as an ASGI app, misbehaving as told by the armed faults."""

    def __init__(self, sandbox: Sandbox, kind: RouteKind, handler: Handler, *, prefix: str = "") -> None:
        self._sandbox = sandbox
        self._kind = kind
        self._handler = handler
        self._prefix = prefix

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        request = Request(scope, receive)
        try:
            exchange = await self._open(request)
        except ClientDisconnect:
            return
        for fault in exchange.faults:
            if not fault.after and await self._interfere(fault, exchange, send):
                return
        try:
            response = await self._handler(self._sandbox, exchange)
        except Refusal as refusal:
            response = refusal.response
        for fault in exchange.faults:
            if fault.after and await self._interfere(fault, exchange, send):
                return
            if fault.action == "truncate" and not isinstance(response, StreamingResponse):
                await _truncate(response, scope, receive, send)
                return
            response = _spoil(response, fault)
        await response(scope, receive, send)

    async def _open(self, request: Request) -> Exchange:
        body = await _read(request) if request.method == "POST" else b""
        path = request.path_params
        request_id = path.get("request_id", "")
        job = self._sandbox.live_job(request_id) if request_id else None
        if job is not None and self._kind == "status":
            job.status_polls += 1
        elif job is not None and self._kind == "result":
            job.result_polls += 1
        slug = self._prefix + path["slug"] if "slug" in path else ""
        faults = self._sandbox.faults.take(self._kind, slug or (job.model.slug if job else None))
        return Exchange(request, body, slug, request_id, job, faults)

    async def _interfere(self, fault: Fault, exchange: Exchange, send: Send) -> bool:
        """Act out a fault that needs no answer of the route; tell whether the exchange is over."""
        request = exchange.request
        match fault.action:
            case "delay":
                await self._sandbox.pause(fault.delay_s + random.uniform(0, fault.jitter_s))
                return False
            case "drop":
                await cut(request.scope, request.receive, how=fault.how)
            case "hang":
                await self._wait_for_disconnect(request.receive)
                await cut(request.scope, request.receive)
            case "respond":
                await _forced(fault)(request.scope, request.receive, send)
            case "echo_key":
                echo = answer(fault.status, {"error": f"Request with key {exchange.key} was refused"})
                await echo(request.scope, request.receive, send)
            case _:
                return False
        return True

    async def _wait_for_disconnect(self, receive: Receive) -> None:
        waits = {asyncio.ensure_future(_disconnected(receive)), asyncio.ensure_future(self._sandbox.closing.wait())}
        _, pending = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for wait in pending:
            wait.cancel()
        await asyncio.gather(*pending, return_exceptions=True)


async def cut(scope: Scope, receive: Receive, *, how: str = "reset") -> None:
    """End the connection without an answer.

    Raises:
        ConnectionResetError: The server is not the sandbox's own, so that there is no connection to cut.
    """
    hook: Callable[[], None] | None = scope.get("extensions", {}).get(f"sandbox.{how}")
    if hook is None:
        raise ConnectionResetError("the sandbox dropped the connection")
    hook()
    # Returning before the server has noticed would make it complain about the missing answer.
    await _disconnected(receive)


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _read(request: Request) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > _BODY_MAX_BYTES:
            break
    return bytes(body)


async def _truncate(response: Response, scope: Scope, receive: Receive, send: Send) -> None:
    body = bytes(response.body)
    start: Message = {"type": "http.response.start", "status": response.status_code, "headers": response.raw_headers}
    await send(start)
    await send({"type": "http.response.body", "body": body[: len(body) // 2], "more_body": True})
    await cut(scope, receive, how="close")


def _forced(fault: Fault) -> Response:
    as_text = fault.body is None or isinstance(fault.body, str)
    content = (str(fault.body or "")).encode() if as_text else orjson.dumps(fault.body)
    media_type = None if "content-type" in Headers(fault.headers) else "text/html" if as_text else "application/json"
    return Response(content, fault.status, fault.headers, media_type=media_type)


def _spoil(response: Response, fault: Fault) -> Response:
    if fault.action == "headers":
        response.headers.update(fault.headers)
    elif fault.action == "no_id" and response.status_code == HTTPStatus.OK:
        return answer(200, {"status": "QUEUED"})
    elif fault.action == "body":
        return _flood(fault)
    return response


def _flood(fault: Fault) -> Response:
    match fault.form:
        case "plain":
            headers = {"content-length": str(fault.size_bytes)}
        case "gzip":
            headers = {"content-encoding": "gzip"}
        case "endless":
            headers = {}
    return StreamingResponse(_filler(fault), 200, headers, media_type="application/json")


async def _filler(fault: Fault) -> AsyncIterator[bytes]:
    packer = zlib.compressobj(wbits=31) if fault.form == "gzip" else None
    left = fault.size_bytes
    while left > 0 or fault.form == "endless":
        chunk = _CHUNK[:left] if fault.form != "endless" else _CHUNK
        left -= len(chunk)
        yield packer.compress(chunk) if packer else chunk
        # A send that the socket takes at once never yields: without this the loop could not hear the client leave.
        await asyncio.sleep(0)
    if packer:
        yield packer.flush()
