"""What the last jobs of a model teach: how long the next one will take, and what to hold for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from statistics import median

from gateway.core.schedule import MIN_INTERVAL_S, VENDOR_TTL_S

KEPT_JOBS = 100
"""Jobs of a model that are remembered; older ones fall out, so that a change of the vendor's is learned in time."""
LEAST_COSTS = 20
"""Costs before they count: of fewer, one absurd cost would be the 95th percentile."""
PRIOR_JOBS = 10
"""The catalogue's latency weighs as much as so many observed ones."""
MOST_RAISED = 10
"""A price is raised to so many times the catalogue's at most, whatever was observed."""


@dataclass(frozen=True, slots=True)
class Observed:
    """The last COMPLETED jobs of a model: real costs in nanocredits, durations in milliseconds, in any order."""

    costs: Sequence[int] = ()
    durations_ms: Sequence[int] = ()


def raised_price(price: int, seen: Observed) -> int:
    """Return what to hold: the price, raised to the 95th percentile (nearest rank) of the real costs, nanocredits."""
    if len(seen.costs) < LEAST_COSTS:
        return price
    p95 = sorted(seen.costs)[ceil(0.95 * len(seen.costs)) - 1]
    return min(max(price, p95), MOST_RAISED * price)


def learned_latency_s(expected_s: float, seen: Observed) -> float:
    """Return the expected latency: the catalogue's, and the median of the observed with a weight that grows."""
    count = len(seen.durations_ms)
    if count == 0:
        return expected_s
    observed_s = median(seen.durations_ms) / 1000
    mixed = (PRIOR_JOBS * expected_s + count * observed_s) / (PRIOR_JOBS + count)
    return min(max(mixed, MIN_INTERVAL_S), VENDOR_TTL_S)
