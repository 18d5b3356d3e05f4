from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis import given

from gateway.core.pacing import WINDOW_S, Asked, Pressure, fair_level, share

DEMANDS = st.lists(st.floats(0, 10_000), min_size=1, max_size=30)
CAPACITIES = st.floats(0.1, 1000)


@pytest.mark.parametrize(
    ("demands", "capacity", "level"),
    [
        ([], 60, 60),
        ([10], 60, 60),
        ([600], 60, 60),
        ([600, 60], 60, 30),
        ([600, 20], 60, 40),
        ([10, 60, 600], 90, 40),
        ([2, 2.6, 4, 5], 10, 2.7),  # Bertsekas and Gallager, Data Networks, 6.5.2
        ([0, 0, 600], 60, 60),
    ],
)
def test_the_fair_level(demands: list[float], capacity: float, level: float) -> None:
    """Who asks for less than the level has all of it, and the others share what is left evenly."""
    assert fair_level(demands, capacity) == pytest.approx(level)


@given(DEMANDS, CAPACITIES)
def test_all_is_used_and_no_more(demands: list[float], capacity: float) -> None:
    """What tenants get is never above the capacity, and is all of it where they ask for so much."""
    level = fair_level(demands, capacity)
    given_out = sum(min(demand, level) for demand in demands)
    assert given_out == pytest.approx(min(sum(demands), capacity))


@given(DEMANDS, CAPACITIES, st.floats(0, 1))
def test_whoever_asks_for_no_more_than_an_equal_share_gets_it(
    demands: list[float], capacity: float, part: float
) -> None:
    """However much the others ask for, an equal share is everybody's."""
    mine = part * capacity / (len(demands) + 1)
    assert fair_level([*demands, mine], capacity) >= mine * (1 - 1e-9)


@given(DEMANDS, CAPACITIES, st.integers(0, 29))
def test_asking_for_more_takes_nothing_from_those_below_the_level(
    demands: list[float], capacity: float, at: int
) -> None:
    """A tenant that floods can't push down one that asks for less than its share."""
    flood = list(demands)
    flood[at % len(demands)] = 1e9
    level = fair_level(flood, capacity)
    assert fair_level(demands, capacity) >= level * (1 - 1e-9)
    assert level >= capacity / len(demands) * (1 - 1e-9)


@given(
    st.integers(1, 100_000),
    st.dictionaries(
        st.text(min_size=1, max_size=3),
        st.builds(Asked, st.integers(0, 10**6), st.integers(0, 10**6)),
        max_size=20,
    ),
    st.floats(0, 3 * WINDOW_S),
)
def test_the_buckets_hold_the_limit(limit: int, asked: dict[str, Asked], elapsed_s: float) -> None:
    """Whatever is asked for: a minute that begins with a full bucket has at most ``limit`` requests."""
    made = share(limit, Pressure({}, asked, elapsed_s))
    assert made.burst + (60_000_000 - 1) // made.interval_us <= limit
    assert 1 <= made.kept <= made.burst
    assert 1 <= made.own_burst <= made.burst
    assert made.own_interval_us >= made.interval_us - 1
