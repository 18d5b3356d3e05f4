"""Callers who take no answer: `asyncio` keeps for ever what they don't take, also of a connection that was closed."""

from __future__ import annotations

import asyncio
from typing import Final

STALLED_S: Final = 60.0
"""Whoever takes nothing at all for so long is cut off; slow callers are not."""


class StallWatch:
    """Ends a connection whose caller takes nothing."""

    __slots__ = ("_loop", "_timer", "_transport", "_unsent_bytes")

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        transport.set_write_buffer_limits(high=0)  # to be told of every byte that the caller has not taken
        self._transport = transport
        self._loop = loop
        self._timer: asyncio.TimerHandle | None = None
        self._unsent_bytes = 0

    def start(self) -> None:
        """Look in a while whether any of what is unsent now has been taken."""
        self._unsent_bytes = self._transport.get_write_buffer_size()
        self._timer = self._loop.call_later(STALLED_S, self._look)

    def stop(self) -> None:
        """Stop watching: all of it was taken, or the caller has left."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        if self._transport.get_write_buffer_size() < self._unsent_bytes:
            self.start()
        else:
            self._transport.abort()
