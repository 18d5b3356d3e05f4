"""Who keeps on failing to show a valid key, and what is made of it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import pytest

from gateway.core.events import AuthFailing, Event
from gateway.service.keyfailures import LIMIT, SOURCES, KeyFailures, source_of


class Scene:
    """Failures at a time that the test sets."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.events: list[Event] = []
        self.failures = KeyFailures(self.events.append, now_s=lambda: self.now_s)

    def fail(self, times: int, address: str = "192.0.2.1") -> list[float]:
        """Fail some times in a row; return the waits."""
        return [self.failures.failed(address) for _ in range(times)]


@pytest.fixture
def scene() -> Scene:
    """Begin without failures."""
    return Scene()


def test_a22_a_source_has_a_burst_and_then_a_rate(scene: Scene) -> None:
    """Sixty at once are answered as ever, the next only after a second; what was refused takes no place."""
    assert scene.fail(LIMIT.burst) == [0.0] * LIMIT.burst
    assert scene.fail(3) == [1.0] * 3
    scene.now_s += 1
    assert scene.fail(2) == [0.0, 1.0]
    scene.now_s += 3600
    assert scene.fail(LIMIT.burst + 1) == [0.0] * LIMIT.burst + [1.0]


def test_a22_sources_have_a_limit_each(scene: Scene) -> None:
    """One source above its limit is no matter of the others."""
    scene.fail(2 * LIMIT.burst)
    assert scene.fail(1, "192.0.2.2") == [0.0]


@pytest.mark.parametrize(
    ("address", "source"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("", ""),
        ("no address", "no address"),
    ],
)
def test_a22_what_a_source_is(address: str, source: str) -> None:
    """An IPv4 address in either spelling, or the network that one IPv6 host has all of."""
    assert source_of(address) == source


def test_a22_sources_are_bounded(scene: Scene) -> None:
    """Of too many sources the one that was silent longest is forgotten, and told of before where it was above."""
    scene.fail(LIMIT.burst + 2, "silent")
    scene.fail(1, "busy")
    for number in range(SOURCES - 2):
        scene.fail(1, str(number))
    scene.fail(LIMIT.burst - 1, "busy")
    assert scene.events == []
    scene.fail(1, "one too many")
    assert len(scene.failures) == SOURCES
    assert scene.events == [AuthFailing(source="silent", failures=2)]
    assert scene.fail(1, "busy") == [1.0]


async def test_a22_each_source_is_told_of_once_a_minute_and_at_the_end(scene: Scene) -> None:
    """One event has all of a minute's failures above the limit; nothing is told of who kept within it."""
    rounds: list[Callable[[], object]] = [
        lambda: scene.fail(LIMIT.burst + 5),
        lambda: scene.fail(1, "192.0.2.2"),
        lambda: scene.fail(2),
    ]

    async def sleep(seconds: float) -> None:
        assert seconds == 60
        rounds.pop(0)()
        if not rounds:
            raise InterruptedError

    scene.failures = KeyFailures(scene.events.append, sleep, lambda: scene.now_s)
    with suppress(InterruptedError):
        await scene.failures.run()
    assert scene.events == [AuthFailing(source="192.0.2.1", failures=count) for count in (5, 2)]
