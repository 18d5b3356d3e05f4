"""What is refused while there is more to do than the process can: submits first, then reads, settlement never.

Measured is what every request meets: how late the event loop is, how long the shortest trip to the store takes behind
all that is on its way there, and how many submits are in hand of those that may be. Where one of them is too much *and
stays so* there is more work than time (as in CoDel, RFC 8289, the least delay over a while counts, not a burst). Then a
growing share of the submits is refused; once that is all of them, and the loop or the store is late still, a share of
the reads too. The tracker's polls and settlements don't come through here.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable
from typing import Final

from gateway.core.events import Shed
from gateway.core.ports import Sink
from gateway.errors import StoreUnavailable

SAMPLE_S: Final = 0.01
LATE_S: Final = 0.02
"""How late the loop may stay, unless told otherwise. A refusal waits for that long too, and has 50 ms."""
STANDS_S: Final = 0.1
"""What is too much for so long is no burst (CoDel's interval)."""
PROBE_S: Final = 0.05
TRIP_LATE: Final = 5
"""A trip to the store may take so many times as long; by default well less than admission waits for it."""
CROWD: Final = 0.75
"""Of the submits that may be in hand: at the limit itself a refusal comes late and costs ten times as much."""
FEW: Final = 1 / 32
"""Of the same: so few are not what makes the process late (its machine may be), and refusing more would help nobody."""
EASE: Final = 0.25
"""Below this part of its target there is time to spare: refusing ends faster."""
RISE: Final = 0.5
"""How much more is refused each second, for each time that the target is missed by. A trip tells of the load some
tenths of a second late: what follows it faster than that swings, and that swing is what makes answers late."""
MOST_RISE: Final = 3.0
FALL: Final = 0.2
FAST_FALL: Final = 0.5
"""A second: within 4 s of the end of any overload nothing is refused any more, within 10 s where it was a close one."""
LONGEST_S: Final = 0.05
"""A sample that came later than this counts for no more time: one long pause is no overload."""
READS_AT_MOST: Final = 0.95
MOST: Final = 1 + READS_AT_MOST
TELL_S: Final = 1.0


class Shedder:
    """Decides what is refused, by how late the loop and the store are.

    Attributes:
        pressure: 0 to 1: the share of submits that is refused; above 1: all of them, and the rest of reads.
        draining: The process is about to end: connections are to end with their next answer.
        calm: Neither; the one thing that a request looks at.

    Args:
        probe: Makes the shortest trip to the store there is. Raises `StoreUnavailable`.
        crowd: Tells how many submits are in hand, as a part of those that may be.
        late_s: How late the loop may stay, seconds.
        sink: Told every second how many were refused; a log line for each would cost as much as refusing.
        sleep: Waits that many seconds.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        probe: Callable[[], Awaitable[None]],
        crowd: Callable[[], float],
        sink: Sink,
        *,
        late_s: float = LATE_S,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.pressure = 0.0
        self.draining = False
        self.calm = True
        self._probe = probe
        self._crowd = crowd
        self._late_s = late_s
        self._over_s = 0.0
        self._sink = sink
        self._sleep = sleep
        self._clock = clock
        self._trip_s = 0.0
        self._asked_s = math.inf
        self._last = 0.0
        self._worst_s = 0.0
        self._owed = {True: 0.0, False: 0.0}
        self._shed = {True: 0, False: 0}

    async def run(self) -> None:
        """Measure until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._watch_loop())
            group.create_task(self._watch_store())

    def sample(self, late_s: float, trip_s: float, crowd: float) -> None:
        """Take what was measured; of two samples in a row the lesser one counts, after a while of them."""
        elapsed_s = min(SAMPLE_S + late_s, LONGEST_S)
        late = max(late_s / self._late_s, trip_s / self._late_s / TRIP_LATE)
        much = max(late, crowd / CROWD)
        standing, self._last = min(self._last, much), much
        self._worst_s = max(self._worst_s, late_s)
        fall = FAST_FALL if late < EASE else FALL
        self._over_s = self._over_s + elapsed_s if standing > 1 else 0.0
        rise = RISE * min(standing, MOST_RISE) if self._over_s >= STANDS_S else 0.0
        rate = rise if standing > 1 else -fall
        most = MOST if late > 1 else max(1.0, self.pressure)  # submits that wait for the vendor take no read's time
        self.pressure = min(most, max(0.0, self.pressure + rate * elapsed_s))
        self.calm = not (self.pressure or self.draining)

    def drain(self) -> None:
        """Have connections end with their next answer from now on."""
        self.draining, self.calm = True, False

    def refuses(self, *, write: bool) -> bool:
        """Decide on one request; the share is kept exactly, so that no luck makes a burst."""
        if write and self._crowd() < FEW:
            return False
        share = min(1.0, self.pressure) if write else max(0.0, self.pressure - 1)
        owed = self._owed[write] + share
        refused = owed >= 1
        self._owed[write] = owed - refused
        self._shed[write] += refused
        return refused

    def tell(self) -> None:
        """Emit how many were refused since the last time, if any were."""
        submits, reads = self._shed[True], self._shed[False]
        if submits or reads:
            self._sink(Shed(submits=submits, reads=reads, late_ms=self._worst_s * 1000))
        self._shed, self._worst_s = {True: 0, False: 0}, 0.0

    async def _watch_loop(self) -> None:
        told_s = self._clock()
        while True:
            asked_s = self._clock()
            await self._sleep(SAMPLE_S)
            now_s = self._clock()
            trip_s = max(self._trip_s, now_s - self._asked_s)  # one under way is as long as this at least
            self.sample(now_s - asked_s - SAMPLE_S, trip_s, self._crowd())
            if now_s - told_s >= TELL_S:
                told_s = now_s
                self.tell()

    async def _watch_store(self) -> None:
        """Time a trip now and then. A store that does not answer is an outage, not a load, and is told as such."""
        answers = True
        while True:
            asked_s = self._clock()
            self._asked_s = asked_s if answers else math.inf
            try:
                await self._probe()
            except StoreUnavailable:
                answers, self._trip_s = False, 0.0
            else:
                answers, self._trip_s = True, self._clock() - asked_s
            self._asked_s = math.inf
            await self._sleep(PROBE_S)
