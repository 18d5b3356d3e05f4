"""The edge: one pure ASGI layer that names each request, answers every failure and emits one event."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Iterator, Sequence
from itertools import count
from time import perf_counter
from typing import Final

from starlette.routing import Router
from starlette.types import Receive, Scope, Send

from gateway.core.events import Alert, HttpRequest, ParamsRequest
from gateway.errors import GatewayError, InvalidRequest, Refused, StoreError, UpstreamError
from gateway.web import problems
from gateway.web.api import TenantApi
from gateway.web.auth import authenticate
from gateway.web.body import CallerGone
from gateway.web.cycle import WHOLE
from gateway.web.exchange import Answer, Exchange
from gateway.web.headers import collect
from gateway.web.intake import base_of
from gateway.web.routing import Route, dispatch
from gateway.web.streaming import linger, stream

CALLER_GONE = 499
"""Status in the event, never on the wire, where the caller left before there was an answer (nginx's number)."""
_UNAUTHORIZED: Final = 401
_CLOSE = (b"connection", b"close")
_UNMATCHED = "(none)"


def _request_ids() -> Iterator[str]:
    """Name requests: 80 random bits of the process, then a count (random bits for each are a system call each)."""
    process = secrets.token_hex(10)
    for number in count():
        yield f"{process}{number:012x}"


class Edge:
    """The ASGI application of the tenant API.

    Attributes:
        router: Starlette's, without routes: it runs the lifespan and closes WebSockets.
        request_ids: Names requests.
    """

    def __init__(self, routes: Sequence[Route], api: TenantApi, router: Router) -> None:
        self.router = router
        self._routes = tuple(routes)
        self._api = api
        self.request_ids = _request_ids()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI scope."""
        if scope["type"] != "http":
            await self.router(scope, receive, send)
            return
        began = perf_counter()
        exchange = Exchange(scope, receive, next(self.request_ids))
        answer: Answer | None = None
        try:
            answer = await self._answer(exchange)
            if answer is not None:
                if answer.status == _UNAUTHORIZED:
                    answer = self._failed(exchange, answer)
                await self._deliver(answer, exchange, send)
        finally:
            exchange.let_go()
            self._emit(exchange, answer, (perf_counter() - began) * 1000)

    async def refuse(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse a request whose body is too long to be read over (`gateway.web.gate`)."""
        exchange = Exchange(scope, receive, next(self.request_ids))
        try:
            exchange.headers = collect(scope["headers"])
            answer = problems.problem("overloaded")
        except InvalidRequest as exc:
            answer = problems.from_exception(exc)
        await self._deliver(answer, exchange, send)

    async def _answer(self, exchange: Exchange) -> Answer | None:
        try:
            exchange.headers = collect(exchange.scope["headers"])
            return await dispatch(self._routes, self._api, exchange)
        except CallerGone:
            return None
        except asyncio.CancelledError:  # the server cancels at the end of the drain time, and nobody else does
            return problems.cut(exchange.begun, base_of(self._api, exchange) if exchange.begun else "")
        except InvalidRequest as exc:
            return await self._unknown_caller(exchange) or problems.from_exception(exc)
        except GatewayError as exc:
            return problems.from_exception(exc)
        except Exception as exc:  # noqa: BLE001 the edge: above it is only the server's own 500
            self._alert(exc)
            return problems.from_exception(exc)

    async def _unknown_caller(self, exchange: Exchange) -> Answer | None:
        """Refuse who made a mistake, if that is a caller who may do nothing; the others learn what it was.

        Requests without a mistake have their key checked by the script that serves them, and need no trip for it.
        """
        with contextlib.suppress(InvalidRequest, Refused, StoreError):  # no key at all is for the route to refuse
            credential = authenticate(exchange.headers)
            refusal = await self._api.jobs.refusal(credential)
            if refusal is None or refusal.code != "unauthenticated":
                exchange.caller = credential
            return None if refusal is None else problems.denied(refusal, "")
        return None

    def _failed(self, exchange: Exchange, answer: Answer) -> Answer:
        """Count a caller without a valid key; above the limit for that there is another answer, and no event."""
        exchange.source = (exchange.scope.get("client") or ("",))[0]
        wait_s = self._api.failures.failed(exchange.source)
        if not wait_s:
            return answer
        exchange.untold = True
        return problems.guessing(wait_s)

    async def _deliver(self, answer: Answer, exchange: Exchange, send: Send) -> None:
        headers, body = answer.headers, answer.body
        headers.append((b"x-request-id", exchange.request_id.encode("ascii")))
        pending = exchange.body_pending
        if pending:
            headers.append(_CLOSE)
        elif isinstance(body, bytes) and WHOLE in exchange.scope.get("extensions", ()):
            await send({"type": WHOLE, "status": answer.status, "headers": headers, "body": body})
            return
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        if not isinstance(body, bytes):
            cut = await stream(body, exchange.receive, send, stalled_s=self._api.stalled_s)
            # A body that breaks off is left incomplete: the server closes the connection, and the caller can tell.
            if cut is not None and not isinstance(cut, UpstreamError | asyncio.CancelledError | TimeoutError):
                self._alert(cut)
            return
        await send({"type": "http.response.body", "body": body, "more_body": pending})
        if pending:
            await linger(exchange.receive, seconds=self._api.linger_s)
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    def _emit(self, exchange: Exchange, answer: Answer | None, latency_ms: float) -> None:
        if exchange.untold:
            return
        caller, job = exchange.caller, exchange.job
        event = HttpRequest(
            method=exchange.scope["method"],
            route=exchange.route or _UNMATCHED,
            status=CALLER_GONE if answer is None else answer.status,
            latency_ms=latency_ms,
            request_id=exchange.request_id,
            tenant="" if caller is None else caller.tenant,
            key_id="" if caller is None else caller.key_id,
            model=exchange.model,
            job_id="" if job is None else job.id,
            upstream_id="" if job is None else job.upstream_id or "",
            trace_id=exchange.trace_id,
            code="" if answer is None else answer.code,
            limited_by="" if answer is None else answer.limited_by,
            idempotent=exchange.replayed,
            held=None if job is None else job.hold,
            cost=None if job is None else job.cost,
            source=exchange.source,
        )
        self._api.sink(event if exchange.params is None or caller is None else ParamsRequest.of(event, exchange.params))

    def _alert(self, exc: BaseException) -> None:
        self._api.sink(Alert.failure("http.internal_error", exc))
