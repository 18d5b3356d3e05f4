from __future__ import annotations

from gateway.core.retry import RetryBudget


def test_a_tenth_of_the_calls_may_be_tried_again() -> None:
    """However long all fail, retries are a tenth of the calls; what was saved up is bounded."""
    budget = RetryBudget(share=0.1, most=10)
    assert not budget.take()
    taken = 0
    for _ in range(1000):
        budget.called()
        taken += budget.take()
    assert 98 <= taken <= 100
    for _ in range(10_000):
        budget.called()
    assert [budget.take() for _ in range(11)] == [True] * 10 + [False]
