"""Every fault point, again and again: the process kills itself there, and others put right what it left behind."""

from __future__ import annotations

import asyncio
import itertools
import random
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from support.gateway import eventually
from support.stage import Member, Piece, Stage, stage_on
from support.vendor import KLING

from gateway.core.faultpoints import FaultPoint
from gateway.core.job import JobState

ASYNC: Final = ("/v2/flux-2-pro", f"/v2/{KLING}")
SYNC: Final = "/v1/faceswap-v2"
DOUBTED: Final = "flux-kontext-pro"
SUBMITTING: Final = frozenset(
    {FaultPoint.BEFORE_ADMISSION, FaultPoint.ADMITTED, FaultPoint.SENT, FaultPoint.ANSWERED, FaultPoint.RECORDED}
)


EVIDENT: Final = frozenset({JobState.COMPLETED, JobState.FAILED, JobState.REJECTED})


class Pieces:
    """Pieces of work with names of their own."""

    def __init__(self) -> None:
        self._names = (f"piece-{number}" for number in itertools.count())

    def some(self, *paths: str) -> Iterator[Piece]:
        """Name one for each path."""
        return (Piece(next(self._names), path) for path in paths)


async def submit_until_it_dies(stage: Stage, pieces: Pieces, point: FaultPoint, dice: random.Random) -> None:
    """Have a process die while it takes in three pieces of work; the sync call does not always have a usable answer."""
    times = 2 if point in {FaultPoint.ANSWERED, FaultPoint.RECORDED} else 3
    victim = await stage.start("api", (point, dice.randint(1, times), "kill"))
    await asyncio.gather(*(stage.send(piece, victim) for piece in pieces.some(*ASYNC, SYNC)))
    assert await victim.child.end() == -signal.SIGKILL


async def sigterm_until_it_dies(stage: Stage, pieces: Pieces, point: FaultPoint) -> None:
    """Have a process die of a SIGTERM that comes while the vendor has the work and has not answered yet."""
    victim, before = await stage.start("api", (point, 1, "kill")), stage.accepted()
    await stage.knobs(faults=[{"action": "delay", "on": ["submit"], "after": True, "delay_s": 5, "times": 2}])
    sending = [asyncio.create_task(stage.send(piece, victim)) for piece in pieces.some(*ASYNC)]
    await eventually(lambda: _reached(stage, before + 2))
    victim.child.signal(signal.SIGTERM)
    assert await victim.child.end() == -signal.SIGKILL
    assert await asyncio.gather(*sending) == [None, None]


async def track_until_it_dies(stage: Stage, point: FaultPoint, dice: random.Random) -> None:
    """Have a process die while it follows jobs that others took in."""
    await stage.hasten()
    victim = await stage.fork("tracker", (point, dice.randint(1, 2), "kill"))
    assert await victim.end() == -signal.SIGKILL


async def _reached(stage: Stage, count: int) -> bool:
    return stage.accepted() >= count


async def _doubt(stage: Stage, pieces: Pieces, to: Member, count: int) -> None:
    """Leave jobs behind whose outcome is unknown, though the vendor has them."""
    lost = {"action": "drop", "on": ["submit"], "after": True, "model": DOUBTED}
    await stage.knobs(faults=[lost])
    await asyncio.gather(*(stage.send(piece, to) for piece in pieces.some(*[f"/v2/{DOUBTED}"] * count)))
    await stage.knobs(faults=[])


@pytest.mark.timeout(1800)  # with many kills
@pytest.mark.parametrize("point", FaultPoint)
async def test_crash_matrix(redis_url: str, tmp_path: Path, point: FaultPoint, kills: int) -> None:
    """However often a process is SIGKILLed at this point, no promise about money and jobs is broken."""
    dice, pieces = random.Random(point), Pieces()  # noqa: S311 repeatable
    async with stage_on(redis_url, tmp_path) as stage:
        api = await stage.start("api")
        # A history without a row of a model can't show that a job of it never ran.
        await asyncio.gather(*(stage.send(piece, api) for piece in pieces.some(*ASYNC, SYNC)))
        if point is FaultPoint.ADOPTED:
            await _doubt(stage, pieces, api, 2 * kills)
        for _ in range(kills):
            if point in SUBMITTING:
                await submit_until_it_dies(stage, pieces, point, dice)
            elif point is FaultPoint.DRAINING:
                await sigterm_until_it_dies(stage, pieces, point)
            else:
                if point is not FaultPoint.ADOPTED:
                    await asyncio.gather(*(stage.send(piece, api) for piece in pieces.some(*ASYNC)))
                await track_until_it_dies(stage, point, dice)
        await stage.recover()
        states = Counter(job.state for job in (await stage.books()).jobs)
        assert states.keys() <= EVIDENT, "what became of each job is known, and nothing was decided by policy"
