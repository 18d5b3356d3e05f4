"""Requests for admission from several processes at the same moment."""

from __future__ import annotations

import asyncio
import multiprocessing
from collections import Counter
from dataclasses import dataclass
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier

from support.ledger import admission, open_store

from gateway.core.movements import Admitted, Denied
from gateway.core.tenant import Credential

AT_ONCE = 32
TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class Load:
    """What each process asks for: ``count`` jobs, `AT_ONCE` at a time, all with one idempotency key where given."""

    url: str
    credential: Credential
    count: int
    estimate: int
    idempotency_key: str | None = None


def race(load: Load, processes: int) -> Counter[str]:
    """Run a load in each of several processes at once; count all answers: admitted, replayed, and refusal codes."""
    spawn = multiprocessing.get_context("spawn")
    start, answers = spawn.Barrier(processes), spawn.Queue()
    workers = [spawn.Process(target=_work, args=(load, start, answers), daemon=True) for _ in range(processes)]
    try:
        for worker in workers:
            worker.start()
        return sum((answers.get(timeout=TIMEOUT_S) for _ in workers), start=Counter())
    finally:
        for worker in workers:
            worker.kill()
            worker.join()


def _work(load: Load, start: Barrier, answers: Queue[Counter[str]]) -> None:
    answers.put(asyncio.run(_ask(load, start)))
    answers.close()
    answers.join_thread()


async def _ask(load: Load, start: Barrier) -> Counter[str]:
    found: Counter[str] = Counter()
    todo = iter(range(load.count))
    async with open_store(load.url) as store:

        async def caller() -> None:
            for _ in todo:
                request = admission(load.credential, estimate=load.estimate, idempotency_key=load.idempotency_key)
                found[_word(await store.ledger.admit(request))] += 1

        await store.ledger.quote(admission(load.credential))  # so that the race is not one of connecting
        start.wait(TIMEOUT_S)
        await asyncio.gather(*(caller() for _ in range(AT_ONCE)))
    return found


def _word(answer: Admitted | Denied) -> str:
    if isinstance(answer, Denied):
        return answer.code
    return "replayed" if answer.replayed else "admitted"
