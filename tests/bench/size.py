"""How much is measured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Size:
    """Amounts of one run.

    Attributes:
        finished: Jobs that have ended before reads are measured; also those whose bytes are counted.
        rounds: Rounds a subject.
        round_s: Length of a round, seconds.
        delayed_s: Length of a round against an upstream that takes its time, seconds.
        counted: Requests over which round trips are counted.
        tracked: Jobs in flight for the tracker, of `tracked_tenants`.
        settle_s: How long the tracker runs before it is measured, seconds; `steady_s` how long it is.
        overload_s: How long there is too much to do, seconds.
        fault_rate: Submits a second while something fails; `fault_s` for how long each does, seconds.
        fault_names: Which faults; without any, all.
    """

    tenants: int
    active: int
    finished: int
    rounds: int
    round_s: float
    delayed_s: float
    counted: int
    tracked: int
    tracked_tenants: int
    settle_s: float
    steady_s: float
    overload_s: float
    fault_rate: float
    fault_s: float
    fault_names: tuple[str, ...] = ()


FULL: Final = Size(
    tenants=100, active=1000, finished=1000, rounds=7, round_s=2.0, delayed_s=4.0, counted=1000,
    tracked=10_000, tracked_tenants=1000, settle_s=20.0, steady_s=60.0, overload_s=20.0,
    fault_rate=100.0, fault_s=16.0,
)  # fmt: skip
QUICK: Final = Size(
    tenants=100, active=1000, finished=500, rounds=3, round_s=0.4, delayed_s=0.8, counted=200,
    tracked=1000, tracked_tenants=100, settle_s=1.0, steady_s=5.0, overload_s=6.0,
    fault_rate=50.0, fault_s=6.0,
)  # fmt: skip
SMOKE: Final = Size(
    tenants=3, active=6, finished=6, rounds=1, round_s=0.1, delayed_s=0.2, counted=10,
    tracked=200, tracked_tenants=3, settle_s=0.0, steady_s=1.0, overload_s=1.0,
    fault_rate=10.0, fault_s=1.0, fault_names=("replies dropped", "vendor 503", "clients gone"),
)  # fmt: skip
