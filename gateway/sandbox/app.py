"""The sandbox as one ASGI app: routes of all three hosts of the vendor, and its own under ``/_sandbox/``."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from inspect import isawaitable

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.sandbox import control, history, inference, platform
from gateway.sandbox.answers import answer
from gateway.sandbox.endpoint import Endpoint, Handler
from gateway.sandbox.faults import RouteKind
from gateway.sandbox.settings import SandboxSettings
from gateway.sandbox.state import Call, Sandbox

_CONTROL = "/_sandbox/"


def create_app(settings: SandboxSettings, *, clock: Callable[[], float] = time.time) -> Starlette:
    """Build the app; its `Sandbox` is ``app.state.sandbox``.

    Args:
        settings: What it is started with.
        clock: Source of time, epoch seconds; states, expiry and balances follow it.

    Raises:
        OSError: The oracle's file can't be opened.
    """
    sandbox = Sandbox(settings, clock)

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        yield
        sandbox.close()

    app = Starlette(
        routes=[*_vendor_routes(sandbox), *_own_routes(sandbox)],
        middleware=[Middleware(_CallLog, sandbox=sandbox)],
        exception_handlers={404: _no_route, 405: _wrong_verb},
        lifespan=lifespan,
    )
    app.router.redirect_slashes = False
    app.state.sandbox = sandbox
    return app


def _vendor_routes(sandbox: Sandbox) -> list[Route]:
    def route(verb: str, path: str, kind: RouteKind, handler: Handler, *, prefix: str = "") -> Route:
        return Route(path, Endpoint(sandbox, kind, handler, prefix=prefix), methods=[verb])

    past = "/inference-request/request-history"
    return [
        route("GET", "/v2/requests/{request_id}/status", "status", inference.status),
        route("GET", "/v2/requests/{request_id}", "result", inference.result),
        route("POST", "/v2/{slug}", "submit", inference.submit),
        route("POST", "/v1/{slug}", "sync", inference.sync),
        route("GET", "/v1/requests/{request_id}", "result", inference.poll),
        route("GET", "/v1/get-user-credits", "credits", platform.get_credits),
        route("POST", "/workflows/v2/{slug}", "submit", inference.submit, prefix="workflows/"),
        route("POST", "/workflows/{slug}", "submit", inference.submit_workflow, prefix="workflows/"),
        route("GET", "/workflows/request/{request_id}", "result", inference.poll),
        route("POST", "/upload-asset", "upload", platform.upload),
        route("GET", past, "history", history.list_history),
        route("GET", past + "/{request_id}", "history", history.get_history),
    ]


def _own_routes(sandbox: Sandbox) -> list[Route]:
    def route(verb: str, path: str, handler: Callable[[Sandbox, Request], Response | Awaitable[Response]]) -> Route:
        async def endpoint(request: Request) -> Response:
            response = handler(sandbox, request)
            return await response if isawaitable(response) else response

        return Route(path, endpoint, methods=[verb])

    return [
        route("GET", "/files/{name}", platform.output_file),
        route("GET", "/assets/{name}", platform.uploaded_file),
        route("GET", _CONTROL + "knobs", control.get_knobs),
        route("PATCH", _CONTROL + "knobs", control.patch_knobs),
        route("POST", _CONTROL + "reset", control.reset),
        route("GET", _CONTROL + "accepted", control.get_accepted),
        route("GET", _CONTROL + "calls", control.get_calls),
    ]


class _CallLog:
    """Remember each call to the vendor's routes."""

    def __init__(self, app: ASGIApp, sandbox: Sandbox) -> None:
        self._app = app
        self._sandbox = sandbox

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not scope["path"].startswith(_CONTROL):
            query = scope["query_string"].decode("latin-1")
            call = Call(self._sandbox.clock(), scope["method"], scope["path"], query, scope["headers"])
            self._sandbox.calls.append(call)
        await self._app(scope, receive, send)


async def _no_route(_request: Request, _error: Exception) -> Response:
    return answer(404, {"error": "Not Found"})


async def _wrong_verb(_request: Request, error: Exception) -> Response:
    headers = error.headers if isinstance(error, HTTPException) else None
    return HTMLResponse("<!doctype html><title>405</title><h1>Method Not Allowed</h1>", 405, headers)
