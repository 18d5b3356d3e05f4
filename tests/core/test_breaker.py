from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis import given

from gateway.core.breaker import PROBE_S, STEADY_S, Breaker, BreakerPolicy

POLICY = BreakerPolicy(failures=3, least_calls=8, window_s=30, open_s=5, open_max_s=20)


def call(breaker: Breaker, now_s: float, *, up: bool | None) -> bool:
    """Make a call if it may go; tell whether it went."""
    ticket = breaker.enter(now_s)
    breaker.report(ticket, up=up, now_s=now_s)
    return ticket is not None


def opened(at_s: float = 100.0) -> Breaker:
    """Open a breaker."""
    breaker = Breaker(POLICY)
    for _ in range(POLICY.failures):
        call(breaker, at_s, up=False)
    assert breaker.state == "open"
    return breaker


@pytest.mark.parametrize(
    ("story", "state"),
    [
        ("--", "closed"),
        ("---", "open"),
        ("--+--", "closed"),
        ("--.-", "open"),  # what says nothing breaks no row
        ("......", "closed"),
        ("++++-+--", "closed"),
        ("-+-+-+--", "open"),  # half of the last eight
        ("+-+-+-+-", "open"),
        ("+-+-+-++++++++-", "closed"),
    ],
)
def test_what_opens_it(story: str, state: str) -> None:
    """Failures in a row do, or half of the last calls; successes and what says nothing don't."""
    breaker = Breaker(POLICY)
    for at, word in enumerate(story):
        call(breaker, float(at), up={"+": True, "-": False, ".": None}[word])
    assert breaker.state == state


def test_old_failures_do_not_count_as_a_share() -> None:
    """Half of the last calls failed, but over hours: that is no outage."""
    breaker = Breaker(POLICY)
    for at in range(40):
        call(breaker, at * 10.0, up=at % 2 == 0)
    assert breaker.state == "closed"


def test_while_open_nothing_goes_then_one_call_at_a_time() -> None:
    """Until the time is over no call goes; then one, and while it is out no other."""
    breaker = opened(100)
    assert [breaker.wait_s(at) for at in (100, 103, 105)] == [5, 2, 0]
    assert breaker.enter(104.9) is None
    probe = breaker.enter(105)
    assert (probe is None, breaker.state, breaker.enter(105)) == (False, "half_open", None)
    breaker.report(probe, up=True, now_s=106)
    assert (breaker.state, breaker.wait_s(106)) == ("closed", 0)


def test_a_probe_that_fails_opens_it_for_twice_as_long() -> None:
    """The time open doubles with each probe in vain, up to its limit; once steady it begins anew."""
    breaker, now_s, waits = opened(0), 0.0, []
    for _ in range(4):
        waits.append(breaker.wait_s(now_s))
        now_s += waits[-1]
        assert call(breaker, now_s, up=False)
    assert waits == [5, 10, 20, 20]
    now_s += breaker.wait_s(now_s)
    assert call(breaker, now_s, up=True)
    for after_s, wait_s in ((1.0, 20), (STEADY_S, 5)):
        if breaker.state != "closed":
            now_s += breaker.wait_s(now_s)
            call(breaker, now_s, up=True)
        now_s += after_s
        for _ in range(POLICY.failures):
            call(breaker, now_s, up=False)
        assert breaker.wait_s(now_s) == wait_s


def test_a_probe_that_says_nothing_gives_way() -> None:
    """One that was cancelled frees its place at once, one that hangs after ten seconds; its late word is not heard."""
    breaker = opened(0)
    assert call(breaker, 5, up=None)
    hangs = breaker.enter(5)
    assert breaker.enter(5 + PROBE_S - 0.1) is None
    other = breaker.enter(5 + PROBE_S)
    assert other is not None
    breaker.report(hangs, up=False, now_s=16)
    states = [breaker.state]
    breaker.report(other, up=True, now_s=16)
    assert [*states, breaker.state] == ["half_open", "closed"]


def test_calls_from_before_say_nothing() -> None:
    """What was under way when it opened neither closes it nor keeps it open for longer."""
    breaker = Breaker(POLICY)
    early = [breaker.enter(0) for _ in range(9)]
    for ticket in early[:3]:
        breaker.report(ticket, up=False, now_s=10)
    for number, ticket in enumerate(early[3:]):
        breaker.report(ticket, up=number % 2 == 0, now_s=11)
    assert (breaker.state, breaker.wait_s(11)) == ("open", 4)


@given(st.lists(st.tuples(st.floats(0, 30), st.sampled_from([True, False, None]), st.booleans()), max_size=200))
def test_it_never_sticks_and_never_floods(calls: list[tuple[float, bool | None, bool]]) -> None:
    """Whatever comes: a wait is bounded and true, and while it is not closed at most one fresh call is out."""
    breaker, now_s, out = Breaker(POLICY), 0.0, []
    for pause_s, up, answers in calls:
        now_s += pause_s
        wait_s, was = breaker.wait_s(now_s), breaker.state
        assert 0 <= wait_s <= max(POLICY.open_max_s, PROBE_S)
        ticket = breaker.enter(now_s)
        assert (ticket is None) == (wait_s > 0)
        if ticket is None:
            continue
        if was != "closed":
            assert breaker.enter(now_s) is None
        if answers:
            breaker.report(ticket, up=up, now_s=now_s)
        else:
            out.append(ticket)
    now_s += max(POLICY.open_max_s, PROBE_S)
    assert call(breaker, now_s, up=True)
    assert breaker.state == "closed" or out
