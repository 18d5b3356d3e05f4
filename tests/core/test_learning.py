from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.learning import KEPT_JOBS, Observed, learned_latency_s, raised_price
from gateway.core.schedule import MIN_INTERVAL_S, VENDOR_TTL_S

_amounts = st.lists(st.integers(0, 9 * 10**15), max_size=KEPT_JOBS)


@pytest.mark.parametrize(
    ("costs", "price"),
    [
        ([], 100),
        ([150] * 19, 100),  # too few to tell
        ([150] * 20, 150),
        ([50] * 100, 100),  # never lowered
        ([50] * 94 + [150] * 6, 150),
        ([50] * 95 + [150] * 5, 100),
        ([100] * 19 + [10**15], 100),  # one absurd cost is no percentile
        ([10**15] * 20, 1000),  # and many are bounded
    ],
)
def test_the_price_is_raised_to_the_95th_percentile(costs: list[int], price: int) -> None:
    """A hold covers what 95 of 100 jobs really cost, within reason, and is never below the catalogue's price."""
    assert raised_price(100, Observed(costs=costs)) == price


@pytest.mark.parametrize(
    ("durations_s", "expected_s"),
    [
        ([], 425),
        ([625], 443.2),
        ([625] * 10, 525),
        ([625] * 100, 606.8),
        ([625] * 90 + [0] * 10, 606.8),
    ],
)
def test_the_latency_moves_to_the_observed_one(durations_s: list[int], expected_s: float) -> None:
    """The catalogue's latency counts as ten jobs, against the median of those observed."""
    seen = Observed(durations_ms=[1000 * seconds for seconds in durations_s])
    assert learned_latency_s(425, seen) == pytest.approx(expected_s, abs=0.05)


@given(costs=_amounts, durations=_amounts, price=st.integers(1, 10**12), expected_s=st.floats(0.1, 10_000))
def test_what_is_learned_is_bounded(costs: list[int], durations: list[int], price: int, expected_s: float) -> None:
    """Whatever was observed, a hold stays near the price and a latency within the vendor's hour."""
    seen = Observed(costs, durations)
    assert price <= raised_price(price, seen) <= 10 * price
    assert not durations or MIN_INTERVAL_S <= learned_latency_s(expected_s, seen) <= VENDOR_TTL_S
