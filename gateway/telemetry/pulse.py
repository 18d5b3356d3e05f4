"""Whether an event loop still turns: it beats, and who would have to act looks, from another thread or process.

Silence is counted in looks, not read off a clock: while the machine was paused, and he who looks with it, nobody has
seen anything.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

BEAT_S: Final = 1.0
LOOK_S: Final = 1.0
"""Looks that come sooner after the last one don't count."""
LOOKS: Final = 30
"""Looks without a beat after which a loop hangs: no work of ours holds one up for a second, no sane machine for ten."""
TICK_S: Final = 0.1


class Pulse:
    """Takes the beats of one loop. What has not begun to beat is not silent. Thread-safe, for one who looks.

    Args:
        looks: How many without a beat are silence.
        clock: Monotonic seconds.
    """

    def __init__(self, looks: int = LOOKS, clock: Callable[[], float] = time.monotonic) -> None:
        self._looks = looks
        self._clock = clock
        self._beats = 0
        self._seen = 0
        self._missed = 0
        self._looked_s = clock()

    @property
    def is_silent(self) -> bool:
        """Tell whether the loop hangs."""
        return self._missed >= self._looks and self._beats == self._seen

    def beat(self) -> None:
        """Take a sign of life, from one thread."""
        self._beats += 1

    def look(self) -> None:
        """Look whether there was a beat since the last look; may be called as often as one likes."""
        now_s = self._clock()
        if now_s - self._looked_s < LOOK_S:
            return
        self._looked_s, beats = now_s, self._beats
        self._missed = self._missed + 1 if 0 < beats == self._seen else 0
        self._seen = beats

    async def silence(self) -> None:
        """Look until it is silent."""
        while not self.is_silent:
            await asyncio.sleep(TICK_S)
            self.look()


@asynccontextmanager
async def beating(beat: Callable[[], None]) -> AsyncIterator[None]:
    """Call ``beat``, which must not raise, every second from this event loop while the block runs."""
    task = asyncio.create_task(_beat_on(beat))
    try:
        yield
    finally:
        task.cancel()


async def _beat_on(beat: Callable[[], None]) -> None:
    while True:
        beat()
        await asyncio.sleep(BEAT_S)
