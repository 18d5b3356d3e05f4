from __future__ import annotations

import pytest

from gateway.core.faultpoints import NO_FAULTS, PAUSE_S, FaultPoint, FaultPoints, InjectedFault, parse_faults


def test_a_fault_strikes_once_at_its_time() -> None:
    """The n-th time that a point is reached is the one that fails; other points and times go well."""
    faults = parse_faults("track.polled:2:raise, track.polled:4:raise")
    struck = []
    for time in range(1, 6):
        faults.reach(FaultPoint.CLAIMED)
        try:
            faults.reach(FaultPoint.POLLED)
        except InjectedFault:
            struck.append(time)
    assert struck == [2, 4]
    assert (faults.armed(FaultPoint.POLLED), faults.armed(FaultPoint.CLAIMED)) == (True, False)


def test_a_pause_blocks_for_longer_than_a_lease() -> None:
    """`sleep` holds up the process where the point is reached."""
    paused: list[float] = []
    FaultPoints({FaultPoint.SENT: {1: "sleep"}}, pause=paused.append).reach(FaultPoint.SENT)
    assert paused == [PAUSE_S]


def test_without_faults_nothing_happens() -> None:
    """What everything has by default never strikes."""
    for point in FaultPoint:
        NO_FAULTS.reach(point)
        assert not NO_FAULTS.armed(point)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("submit.lost:1:kill", "unknown point 'submit.lost'; known are submit.before_admission, submit.admitted"),
        ("drain:0:kill", "from 1 on"),
        ("drain:one:kill", "from 1 on"),
        ("drain", "from 1 on"),
        ("drain:1:stop", "one of kill, sleep, raise"),
        ("drain:1:kill,", "unknown point ''"),
    ],
)
def test_what_is_wrong_is_said(text: str, told: str) -> None:
    """A point that does not exist is answered with those that do; likewise a time and an action."""
    with pytest.raises(ValueError, match=told):
        parse_faults(text)
