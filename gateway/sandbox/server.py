"""Run the sandbox under uvicorn: alone, or inside the running event loop."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import uvicorn
from starlette.applications import Starlette
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from gateway.sandbox.app import create_app
from gateway.sandbox.settings import SandboxSettings
from gateway.sandbox.state import Sandbox

_BACKLOG = 2048
_GRACE_S = 3


class DroppableProtocol(HttpToolsProtocol):
    """Let the app end its connection: ASGI extensions ``sandbox.reset`` and ``sandbox.close``."""

    def on_message_begin(self) -> None:
        """Offer the two hooks to each request."""
        super().on_message_begin()
        self.scope["extensions"] = {"sandbox.reset": self._reset, "sandbox.close": self.transport.close}  # type: ignore[dict-item]  # our own extensions are callables

    def _reset(self) -> None:
        if self.transport.is_closing():
            return
        # Without lingering, closing sends RST instead of FIN.
        connection = self.transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()


class _Server(uvicorn.Server):
    def __init__(self, app: Starlette, *, own_signals: bool) -> None:
        config = uvicorn.Config(
            app,
            http=DroppableProtocol,
            ws="none",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            backlog=_BACKLOG,
            timeout_keep_alive=60,
            timeout_graceful_shutdown=_GRACE_S,
        )
        super().__init__(config)
        self._sandbox: Sandbox = app.state.sandbox
        self._own_signals = own_signals

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals alone inside someone else's process."""
        with super().capture_signals() if self._own_signals else contextlib.nullcontext():
            yield

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop, ending hangs and delays first."""
        self._sandbox.closing.set()
        await super().shutdown(sockets)


@dataclass(frozen=True, slots=True)
class Running:
    """Reach a sandbox that runs in this process.

    Attributes:
        url: ``http://127.0.0.1:<port>``; any of the vendor's three hosts.
        sandbox: Its state: knobs, faults, calls, accepted jobs.
    """

    url: str
    sandbox: Sandbox


@asynccontextmanager
async def running(
    settings: SandboxSettings, *, clock: Callable[[], float] = time.time, port: int = 0
) -> AsyncIterator[Running]:
    """Run a sandbox on loopback in this event loop, on a free port unless one is given.

    Raises:
        OSError: The port is taken, or the oracle's file can't be opened.
    """
    app = create_app(settings, clock=clock)
    listener, url = _listen("127.0.0.1", port)
    server = _Server(app, own_signals=False)
    task = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        yield Running(url, app.state.sandbox)
    finally:
        server.should_exit = True
        await task


def serve(
    settings: SandboxSettings,
    host: str = "127.0.0.1",
    port: int = 0,
    *,
    announce: Callable[[str], None] | None = None,
) -> None:
    """Run a sandbox until SIGINT or SIGTERM.

    Args:
        settings: What it is started with.
        host: Address to listen on.
        port: Port to listen on; 0: a free one.
        announce: Told the URL once connections are taken; default: a line on standard output.

    Raises:
        OSError: The address is taken, or the oracle's file can't be opened.
    """
    app = create_app(settings)
    listener, url = _listen(host, port)
    (announce or _print_url)(url)
    _Server(app, own_signals=True).run(sockets=[listener])


def _listen(host: str, port: int) -> tuple[socket.socket, str]:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.create_server((host, port), family=family, backlog=_BACKLOG)
    shown = f"[{host}]" if family == socket.AF_INET6 else host
    return listener, f"http://{shown}:{listener.getsockname()[1]}"


def _print_url(url: str) -> None:
    sys.stdout.write(f"sandbox listening on {url}\n")
    sys.stdout.flush()
