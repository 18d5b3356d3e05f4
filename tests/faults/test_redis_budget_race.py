"""Several real gateways and one budget."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from support.fleet import Fleet, Member, fleet_on
from support.gateway import TENANT
from support.ledger import assert_audited, counters, empty_store, entries, replayed
from support.ports import UNLIMITED
from support.race import Load, race
from support.vendor import KLING

from gateway.core.tenant import TenantPolicy

PROCESSES: Final = 4
ASKED: Final = 400
HOLD: Final = 941_500_000
GRANTED: Final = 137
AT_ONCE: Final = 8
EACH: Final = 2_500
MANY_GRANTED: Final = 3_333


async def test_r26_four_gateways_grant_what_the_budget_holds(redis_url: str, tmp_path: Path) -> None:
    """Four processes are asked for more than there is: granted and sent is floor(budget / hold), to the one."""
    async with fleet_on(redis_url, tmp_path, time_scale=1.0) as fleet:
        budget = GRANTED * HOLD + HOLD - 1
        policy = TenantPolicy(
            TENANT, submit=UNLIMITED, concurrent_jobs=1000, budgets={"month": budget}, prices={KLING: HOLD}
        )
        await fleet.store.tenants.put(policy)
        members = [await fleet.start("api") for _ in range(PROCESSES)]
        todo = iter(range(ASKED))
        answers = Counter[int]()
        callers = itertools.islice(itertools.cycle(members), PROCESSES * AT_ONCE)
        await asyncio.gather(*(_ask(fleet, member, todo, answers) for member in callers))
        assert answers == {200: GRANTED, 406: ASKED - GRANTED}
        assert len(fleet.vendor.sandbox.accepted) == GRANTED
        assert await fleet.money() == (0, GRANTED * HOLD)
        await assert_audited(fleet.store.client)


async def test_r26_ten_thousand_holds(redis_url: str) -> None:
    """Four processes that ask for 10,000 holds are granted floor(budget / hold), to the one."""
    async with empty_store(redis_url) as store:
        credential = await store.caller(budgets={"day": MANY_GRANTED * HOLD + HOLD - 1}, concurrent_jobs=20_000)
        answers = race(Load(redis_url, credential, EACH, HOLD), PROCESSES)
        assert answers == {"admitted": MANY_GRANTED, "budget_exhausted": PROCESSES * EACH - MANY_GRANTED}
        found = await counters(store.client, credential.tenant)
        assert set(found.values()) == {MANY_GRANTED * HOLD}
        assert replayed(await entries(store.client, credential.tenant)) == found


async def _ask(fleet: Fleet, member: Member, todo: Iterator[int], answers: Counter[int]) -> None:
    for _ in todo:
        answer = await fleet.http.post(f"{member.url}/v2/{KLING}", json={"prompt": "x"})
        answers[answer.status_code] += 1
