"""Fault points: named places in the code where a test has the process die, pause or fail (``GATEWAY_FAULT``).

Each is a moment at which a crash would cost money if the order of things were wrong. Outside tests the setting is
refused, and a point that is reached costs a look at an empty mapping.
"""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final, Literal, get_args

FaultAction = Literal["kill", "sleep", "raise"]
PAUSE_S: Final = 20.0
"""A pause is longer than a tracker's lease and than a heartbeat lives."""


class FaultPoint(StrEnum):
    """Where a fault can strike; a job passes them about in this order."""

    BEFORE_ADMISSION = "submit.before_admission"
    ADMITTED = "submit.admitted"  # on record and held; no byte has left
    SENT = "submit.sent"  # the whole request has left; no answer has been read
    ANSWERED = "submit.answered"  # the vendor's answer is known to this process alone
    RECORDED = "submit.recorded"  # on record; the caller has no answer yet
    CLAIMED = "track.claimed"  # the tracker has the lease
    POLLED = "track.polled"
    FETCHED = "track.fetched"  # the result is known to this process alone
    BEFORE_END = "end.before"  # of a hold: before it is settled or released
    ENDED = "end.recorded"  # settled or released; nobody was told
    ADOPTED = "adopt.claimed"  # an UNKNOWN job has claimed a vendor's id, and does not have it yet
    DRAINING = "drain"  # SIGTERM was heard


class InjectedFault(RuntimeError):
    """Stand for a mistake of ours, of a kind that nobody has thought of: hence not a `GatewayError`."""


class FaultPoints:
    """Strike where it was said, at the n-th time that a point is reached; each fault strikes once.

    Args:
        faults: By point, at which time to do what.
        pause: Blocks the whole process for so many seconds, as a paused machine would.
    """

    def __init__(
        self,
        faults: Mapping[FaultPoint, Mapping[int, FaultAction]] = MappingProxyType({}),
        pause: Callable[[float], object] = time.sleep,
    ) -> None:
        self._faults = faults
        self._pause = pause
        self._reached: Counter[FaultPoint] = Counter()

    def armed(self, point: FaultPoint) -> bool:
        """Tell whether a point has a fault."""
        return point in self._faults

    def reach(self, point: FaultPoint) -> None:
        """Note that a point is reached, and strike if it is time.

        Raises:
            InjectedFault: It was said so.
        """
        if point not in self._faults:
            return
        self._reached[point] += 1
        match self._faults[point].get(self._reached[point]):
            case "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            case "sleep":
                self._pause(PAUSE_S)
            case "raise":
                raise InjectedFault(point)


NO_FAULTS: Final = FaultPoints()
"""What everything has unless it is told otherwise; it never changes."""


def parse_faults(text: str) -> FaultPoints:
    """Read ``point:n:action``, comma-separated, n counting from 1.

    Raises:
        ValueError: Says what is wrong, and what there is.
    """
    faults: dict[FaultPoint, dict[int, FaultAction]] = {}
    for item in text.split(","):
        point, number, action = _parts(item.strip())
        faults.setdefault(point, {})[number] = action
    return FaultPoints(faults)


def _parts(item: str) -> tuple[FaultPoint, int, FaultAction]:
    actions: Collection[FaultAction] = get_args(FaultAction)
    name, _, rest = item.partition(":")
    number, _, word = rest.partition(":")
    point = next((point for point in FaultPoint if point == name), None)
    if point is None:
        raise ValueError(f"unknown point {name!r}; known are {', '.join(FaultPoint)}")
    if not (number.isascii() and number.isdigit() and int(number) > 0):
        raise ValueError(f"{item!r}: after the point comes at which time, from 1 on")
    action = next((action for action in actions if action == word), None)
    if action is None:
        raise ValueError(f"{item!r}: it ends in one of {', '.join(actions)}")
    return point, int(number), action
