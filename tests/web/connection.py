"""A connection of the server's own protocol without a socket, whose time passes when the test says so."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, cast

import uvicorn
from starlette.types import ASGIApp
from uvicorn.server import ServerState

from gateway.web.protocol import StrictProtocol

KEEP_ALIVE_S = 75


@dataclass
class Timer:
    """What `asyncio.TimerHandle` is to its user."""

    at: float
    callback: Callable[[], object]
    cancelled: bool = False

    def cancel(self) -> None:
        """Never go off."""
        self.cancelled = True


class Loop:
    """What the protocol needs of an event loop."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.timers: list[Timer] = []

    def time(self) -> float:
        """Tell the time, seconds."""
        return self.now

    def call_later(self, delay_s: float, callback: Callable[[], object]) -> Timer:
        """Call back when enough time has passed."""
        timer = Timer(self.now + delay_s, callback)
        self.timers.append(timer)
        return timer

    def create_task(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run work on the test's own loop."""
        return asyncio.get_running_loop().create_task(work)

    def advance(self, seconds: float) -> None:
        """Let time pass, and every timer go off at its own."""
        end = self.now + seconds
        while due := [timer for timer in self.timers if timer.at <= end and not timer.cancelled]:
            timer = min(due, key=lambda timer: timer.at)
            self.timers.remove(timer)
            self.now = timer.at
            timer.callback()
        self.now = end


class Transport:
    """Keeps what is written."""

    def __init__(self) -> None:
        self.writes: list[bytes] = []
        self.closed = self.aborted = False
        self.unsent = 0

    def write(self, data: bytes) -> None:
        """Keep it."""
        if data:
            self.writes.append(data)

    def close(self) -> None:
        """Be closed."""
        self.closed = True

    def is_closing(self) -> bool:
        """Tell whether it is closed."""
        return self.closed

    def abort(self) -> None:
        """Be closed at once."""
        self.closed = self.aborted = True

    def set_write_buffer_limits(self, high: int) -> None:
        """Do nothing: the test decides what is taken, in ``high`` or any number of bytes."""

    def get_write_buffer_size(self) -> int:
        """Tell how much the caller has not taken."""
        return self.unsent

    def pause_reading(self) -> None:
        """Do nothing: the test decides what arrives."""

    def resume_reading(self) -> None:
        """Do nothing: the test decides what arrives."""

    def get_extra_info(self, name: str) -> None:
        """Know nothing of a ``name``."""


class Connection:
    """A connection to an app."""

    def __init__(self, app: ASGIApp) -> None:
        config = uvicorn.Config(
            app,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            timeout_keep_alive=KEEP_ALIVE_S,
        )
        self.loop, self.transport, self.state = Loop(), Transport(), ServerState()
        loop = cast("asyncio.AbstractEventLoop", self.loop)
        self.protocol = StrictProtocol(config, self.state, {}, loop)
        self.protocol.connection_made(cast("asyncio.Transport", self.transport))

    async def receive(self, data: bytes) -> None:
        """Let bytes arrive, and what they start run."""
        self.protocol.data_received(data)
        await self.settle()

    async def settle(self) -> None:
        """Let what has been started run as far as it gets."""
        for _ in range(20):
            await asyncio.sleep(0)

    @property
    def written(self) -> bytes:
        """All that was sent."""
        return b"".join(self.transport.writes)
