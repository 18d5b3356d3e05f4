from __future__ import annotations

from support.vendor import HandClock

from gateway.service.throttle import MAX_PAUSE_S, Throttle


def test_nothing_is_throttled_without_a_refusal() -> None:
    """As many polls as configured may be under way, and answers make that no more."""
    throttle = Throttle(16, HandClock())
    for _ in range(100):
        throttle.accepted()
    assert (throttle.window, throttle.pause_s()) == (16, 0)


def test_a_refusal_pauses_and_halves() -> None:
    """A 429 stops all polls for as long as the vendor says; then half as many go on, and slowly more."""
    clock = HandClock()
    throttle = Throttle(16, clock)
    assert throttle.refused(30) == 30
    clock.now += 10
    assert throttle.pause_s() == 20
    clock.now += 20
    assert (throttle.pause_s(), throttle.window) == (0, 8)
    for _ in range(9):
        throttle.accepted()
    assert throttle.window == 9
    for _ in range(200):
        throttle.accepted()
    assert throttle.window == 16


def test_refusals_of_one_pause_count_once() -> None:
    """All polls that were under way are refused together: that is one refusal, though a longer wait is heeded."""
    clock = HandClock()
    throttle = Throttle(16, clock)
    assert [throttle.refused(5), throttle.refused(40), throttle.refused(5)] == [5, 40, 40]
    assert throttle.window == 8


def test_refusals_in_a_row_wait_longer() -> None:
    """Where the vendor names no time, the pauses double up to a minute; an answer in between ends that."""
    clock = HandClock()
    throttle = Throttle(4, clock)
    pauses = []
    for _ in range(8):
        pauses.append(throttle.refused(0))
        clock.now += pauses[-1]
    assert pauses == [2, 4, 8, 16, 32, MAX_PAUSE_S, MAX_PAUSE_S, MAX_PAUSE_S]
    assert throttle.window == 1
    throttle.accepted()
    assert throttle.refused(0) == 2


def test_an_answer_during_a_pause_ends_nothing() -> None:
    """What was under way when the pause began and succeeds says nothing of what would now."""
    clock = HandClock()
    throttle = Throttle(16, clock)
    throttle.refused(30)
    throttle.accepted()
    assert (throttle.window, throttle.pause_s()) == (8, 30)
