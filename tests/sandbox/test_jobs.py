from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.sandbox import Fault, SandboxSettings
from gateway.sandbox.jobs import Job, Status, plan, state_at
from gateway.sandbox.models import MODELS

KLING = MODELS["kling-2.6-standard-motion-control"]


def planned(
    number: int, *, failure_rate: float = 0.0, faults: tuple[Fault, ...] = (), params: dict[str, object] | None = None
) -> Job:
    """Plan the `number`-th Kling job of seed 7, submitted at 1000, sixty times as fast."""
    return plan(
        SandboxSettings(seed=7, time_scale=60),
        KLING,
        {"prompt": "x"} | (params or {}),
        number=number,
        now=1000.0,
        body=b"{}",
        key="k",
        failure_rate=failure_rate,
        faults=faults,
    )


@given(number=st.integers(1, 10**6), ages=st.tuples(st.floats(0, 20), st.floats(0, 20)))
def test_states_only_go_forward(number: int, ages: tuple[float, float]) -> None:
    """A job's state is a pure function of the clock and never goes back."""
    job = planned(number)
    order = list(Status)
    first, second = (order.index(state_at(job, 1000 + age)) for age in sorted(ages))
    assert first <= second
    assert state_at(job, 1000) is Status.QUEUED
    assert state_at(job, job.ends_at - 0.01) is Status.PROCESSING
    assert state_at(job, job.ends_at) is Status.COMPLETED


@given(number=st.integers(1, 10**6))
def test_cost_and_duration_stay_near_the_listing(number: int) -> None:
    """Durations lie within the listed range, scaled; costs vary around the average with at most 10 decimals."""
    job = planned(number)
    assert 425 / 60 <= job.total_s <= 608 / 60
    assert Decimal("0.79") * KLING.cost <= job.cost <= Decimal("1.26") * KLING.cost
    assert -job.cost.as_tuple().exponent <= 10  # type: ignore[operator]  # a finite cost has an integer exponent


def test_same_seed_same_jobs_but_for_the_ids() -> None:
    """The n-th job of a seed always costs and lasts the same; ids never repeat; the average is no maximum."""
    first, second = ([planned(n) for n in range(50)] for _ in range(2))
    assert [(job.cost, job.total_s, job.seed) for job in first] == [(job.cost, job.total_s, job.seed) for job in second]
    assert len({job.request_id for job in first + second}) == 100
    assert max(job.cost for job in first) > KLING.cost > min(job.cost for job in first)


@pytest.mark.parametrize(
    ("params", "blamed"),
    [
        ({"character_orientation": "up"}, "character_orientation"),
        ({"keep_original_sound": "yes"}, "keep_original_sound"),
    ],
)
def test_malformed_parameter_fails_fast_and_free(params: dict[str, object], blamed: str) -> None:
    """A wrong type or value is accepted, FAILs within 0.3 s naming the parameter, and is not billed."""
    job = planned(1, params=params)
    assert job.total_s <= 0.3
    assert blamed in str(job.error)
    assert job.billed == 0


def test_failure_rate_and_outcome_faults() -> None:
    """`failure_rate` decides by the seed; an outcome fault overrides it; a job that never ends is never billed."""
    failed = [planned(n, failure_rate=0.3).error is not None for n in range(300)]
    assert 50 < sum(failed) < 130
    rescued = planned(1, failure_rate=1.0, faults=(Fault(action="outcome", outcome="COMPLETED"),))
    assert state_at(rescued, rescued.ends_at) is Status.COMPLETED
    endless = planned(1, faults=(Fault(action="outcome", outcome="PROCESSING"),))
    assert state_at(endless, 1e12) is Status.PROCESSING
    assert endless.billed == 0


@pytest.mark.parametrize(
    "wrong",
    [{"api_keys": ("sk-1",)}, {"api_keys": ()}, {"time_scale": 0}, {"balance": Decimal("NaN")}, {"failure_rate": 2}],
)
def test_impossible_settings_are_refused(wrong: dict[str, object]) -> None:
    """Settings that make no sense can't be constructed."""
    with pytest.raises(ValueError, match=next(iter(wrong))):
        SandboxSettings(**wrong)  # type: ignore[arg-type]  # wrong on purpose
