"""What is refused when there is too much to do, without a clock."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from gateway.core.events import Event, Shed
from gateway.errors import StoreUnavailable
from gateway.service.shedding import (
    CROWD,
    FALL,
    FAST_FALL,
    FEW,
    LATE_S,
    LONGEST_S,
    MOST,
    SAMPLE_S,
    STANDS_S,
    TRIP_LATE,
    Shedder,
)

TRIP_S = TRIP_LATE * LATE_S


async def fine() -> None:
    """Answer at once."""


@pytest.fixture
def events() -> list[Event]:
    """Keep what is told."""
    return []


@pytest.fixture
def shedder(events: list[Event]) -> Shedder:
    """Make one that has seen nothing yet."""
    return Shedder(fine, lambda: 1.0, events.append)


def refused(shedder: Shedder, *, write: bool, of: int = 1000) -> int:
    """Count refusals."""
    return sum(shedder.refuses(write=write) for _ in range(of))


def overload(shedder: Shedder, samples: int, late_s: float = 2 * LATE_S) -> None:
    """Let the loop be late so many times in a row."""
    for _ in range(samples):
        shedder.sample(late_s, 0.0, 0.0)


@pytest.mark.parametrize(
    ("pressure", "submits", "reads"), [(0.0, 0, 0), (0.25, 250, 0), (1.0, 1000, 0), (1.5, 1000, 500), (MOST, 1000, 950)]
)
def test_r31_submits_are_refused_before_reads(shedder: Shedder, pressure: float, submits: int, reads: int) -> None:
    """No read is refused before every submit is; some reads always pass. The shares are exact."""
    shedder.pressure = pressure
    assert refused(shedder, write=True) == pytest.approx(submits, abs=1)
    assert refused(shedder, write=False) == pytest.approx(reads, abs=1)


def test_r31_one_pause_is_no_overload(shedder: Shedder) -> None:
    """A single late sample, however late, refuses nobody, nor does a burst; what stays so begins to."""
    shedder.sample(60.0, 0.0, 0.0)
    shedder.sample(0.0, 0.0, 0.0)
    assert (shedder.calm, shedder.pressure) == (True, 0.0)
    samples = round(STANDS_S / (SAMPLE_S + 2 * LATE_S))
    overload(shedder, samples)
    assert shedder.pressure == 0.0
    overload(shedder, 2)
    assert 0 < shedder.pressure < 0.25


@pytest.mark.parametrize(
    ("late_s", "trip_s", "crowd", "most"),
    [
        (1.1 * LATE_S, 0.0, 0.0, MOST),
        (0.0, 1.1 * TRIP_S, 0.0, MOST),
        (0.0, 0.0, 1.1 * CROWD, 1.0),
        (0.9 * LATE_S, 0.9 * TRIP_S, 0.9 * CROWD, 0.0),
    ],
    ids=["loop", "store", "submits in hand", "nearly"],
)
def test_r31_what_counts_as_overload(shedder: Shedder, late_s: float, trip_s: float, crowd: float, most: float) -> None:
    """A late loop or store refuses submits, then reads; submits that wait for the vendor refuse no read."""
    for _ in range(1000):
        shedder.sample(late_s, trip_s, crowd)
    assert shedder.pressure == most


def test_r31_recovery_is_bounded(shedder: Shedder) -> None:
    """From the worst overload, nothing is refused any more within 10 s of its end: 4 s where there is time to spare."""
    for late_s, rate, most_s in ((0.0, FAST_FALL, 4), (0.9 * LATE_S, FALL, 10)):
        overload(shedder, 1000)
        assert shedder.pressure == MOST
        samples = 0
        while not shedder.calm:
            shedder.sample(late_s, 0.0, 0.0)
            samples += 1
        assert samples * min(SAMPLE_S + late_s, LONGEST_S) <= MOST / rate + 2 * LONGEST_S
        assert MOST / rate <= most_s


def test_refusals_are_told_together(shedder: Shedder, events: list[Event]) -> None:
    """What was refused is told as counts, once; nothing is told where nothing was refused."""
    shedder.tell()
    assert events == []
    overload(shedder, 1000)
    submits, reads = refused(shedder, write=True, of=30), refused(shedder, write=False, of=20)
    shedder.tell()
    shedder.tell()
    assert events == [Shed(submits=submits, reads=reads, late_ms=2000 * LATE_S)]


def test_a_drain_is_no_overload(shedder: Shedder) -> None:
    """A process about to end refuses nothing by this, but is not calm: its connections are to end."""
    shedder.drain()
    shedder.sample(0.0, 0.0, 0.0)
    assert (shedder.calm, shedder.draining, refused(shedder, write=True)) == (False, True, 0)


@pytest.mark.parametrize("outage", [True, False])
async def test_an_outage_is_no_overload(events: list[Event], outage: bool) -> None:
    """A store that takes long refuses submits; one that does not answer at all is told as what it is."""
    now_s, trips, thrice = [0.0], itertools.count(1), asyncio.Event()

    async def probe() -> None:
        if next(trips) > 3:
            thrice.set()
        now_s[0] += 10 * TRIP_S
        if outage:
            raise StoreUnavailable("down")

    async def sleep(seconds: float) -> None:
        now_s[0] += seconds
        await asyncio.sleep(0)

    # The fake clock makes the loop late too where the probe takes its time, so the loop is not looked at here.
    shedder = Shedder(probe, lambda: 0.0, events.append, sleep=sleep, clock=lambda: now_s[0])
    watching = asyncio.create_task(shedder._watch_store())
    await thrice.wait()
    watching.cancel()
    assert (shedder._trip_s > TRIP_S) is not outage


async def test_r31_a_trip_under_way_counts_already(events: list[Event]) -> None:
    """A store that gets slow is seen while it is asked, not when it has answered; one that was away is not."""
    now_s, answer, seen = [0.0], asyncio.Event(), asyncio.Queue[float]()

    async def probe() -> None:
        await answer.wait()
        answer.clear()
        raise StoreUnavailable("down")

    async def sleep(seconds: float) -> None:
        now_s[0] += seconds
        seen.put_nowait(asked.pressure)
        await asyncio.sleep(0)

    async def pressure_after(samples: int) -> float:
        return [await seen.get() for _ in range(samples)][-1]

    asked = Shedder(probe, lambda: 0.0, events.append, sleep=sleep, clock=lambda: now_s[0])
    watching = asyncio.create_task(asked.run())
    assert await pressure_after(round((TRIP_S + 2 * STANDS_S) / SAMPLE_S)) > 0
    answer.set()
    assert await pressure_after(round(1 / FAST_FALL / SAMPLE_S)) == 0
    watching.cancel()


@pytest.mark.parametrize(("crowd", "refused"), [(0.9 * FEW, 0), (1.1 * FEW, 100)])
def test_r31_a_few_submits_always_pass(events: list[Event], crowd: float, refused: int) -> None:
    """Where hardly a submit is in hand none is refused, however late the process is: it is not they that make it so."""
    shedder = Shedder(fine, lambda: crowd, events.append)
    shedder.pressure = 1.0
    assert sum(shedder.refuses(write=True) for _ in range(100)) == refused
