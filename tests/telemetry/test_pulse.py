from __future__ import annotations

from gateway.telemetry.pulse import LOOK_S, Pulse


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        """Tell the time."""
        return self.now_s


def test_silence_is_looks_without_a_beat() -> None:
    """So many looks in a row without a beat are silence, one fewer are not, and a beat ends it."""
    clock = Clock()
    pulse = Pulse(looks=3, clock=clock)
    pulse.beat()
    for number in range(4):
        clock.now_s += LOOK_S
        pulse.look()
        assert pulse.is_silent == (number == 3)
    pulse.beat()
    assert not pulse.is_silent
    clock.now_s += LOOK_S
    pulse.look()
    assert not pulse.is_silent


def test_a_pause_of_the_one_who_looks_counts_as_one_look() -> None:
    """After an hour in which nobody looked a loop has missed one look, as has one whose beats come late."""
    clock = Clock()
    pulse = Pulse(looks=2, clock=clock)
    pulse.beat()
    for _ in range(2):
        clock.now_s += 3600
        pulse.look()
        pulse.look()
    assert not pulse.is_silent


def test_looks_in_a_hurry_count_once() -> None:
    """A thousand looks within a second are one look."""
    clock = Clock()
    pulse = Pulse(looks=2, clock=clock)
    pulse.beat()
    for _ in range(1000):
        clock.now_s += LOOK_S / 1000
        pulse.look()
    assert not pulse.is_silent


def test_what_has_not_begun_to_beat_is_not_silent() -> None:
    """A process that takes long to start is left in peace."""
    clock = Clock()
    pulse = Pulse(looks=1, clock=clock)
    for _ in range(100):
        clock.now_s += LOOK_S
        pulse.look()
    assert not pulse.is_silent
