from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass
from typing import Final

import pytest
from support.ledger import CLOCK_START_US, Store, admission, set_clock

from gateway.core.movements import Admitted, Denied
from gateway.core.quota import RateState
from gateway.core.tenant import MICROSECONDS, Credential, RateLimit
from gateway.store import keys

TENANT: Final = "team"
LIMITS: Final = [
    RateLimit(limit=12, period_s=60, burst=5),
    RateLimit(limit=7, period_s=60, burst=3),
    RateLimit(limit=1, period_s=86_400, burst=1),
    RateLimit(limit=1000, period_s=86_400, burst=40),
]
SLOW: Final = RateLimit(limit=6, period_s=60, burst=3)
HOUR_US: Final = 3600 * MICROSECONDS


@dataclass(slots=True)
class Bucket:
    """The same limit as a bucket that fills with time: room for `burst` requests, each an interval's worth."""

    rate: RateLimit
    filled_us: int
    at_us: int

    def ask(self, at_us: int) -> tuple[bool, int, float, float]:
        """Ask for one request; return whether it is admitted, remaining, reset and retry_after in seconds."""
        interval, size = self.rate.interval_us, self.rate.interval_us * self.rate.burst
        self.filled_us = min(size, self.filled_us + at_us - self.at_us)
        self.at_us = at_us
        admitted = self.filled_us >= interval
        retry_us = 0 if admitted else interval - self.filled_us
        self.filled_us -= interval if admitted else 0
        return admitted, self.filled_us // interval, (size - self.filled_us) / MICROSECONDS, retry_us / MICROSECONDS


async def submit(store: Store, credential: Credential) -> tuple[bool, RateState]:
    """Ask for a job; return whether it was admitted, and where the limit stands."""
    answer = await store.ledger.admit(admission(credential))
    assert answer.quota is not None
    if isinstance(answer, Denied):
        assert (answer.code, answer.retry_after_s) == ("rate_limited", answer.quota.rate.retry_after_s)
    return isinstance(answer, Admitted), answer.quota.rate


@pytest.mark.parametrize("limit", LIMITS, ids=str)
async def test_a_limit_is_a_bucket_that_fills_with_time(clocked_store: Store, limit: RateLimit) -> None:
    """Every decision and what it says of the limit is the reference's, over bursts, pauses and steady load."""
    credential = await clocked_store.caller(submit=limit, concurrent_jobs=10_000)
    bucket = Bucket(limit, limit.burst * limit.interval_us, CLOCK_START_US)
    draw, now_us = random.Random(repr(limit)), CLOCK_START_US  # noqa: S311  # the same times in each run
    for _ in range(150):
        now_us += draw.choice(
            (0, 0, 1, limit.interval_us // 3, limit.interval_us, draw.randrange(limit.interval_us * 3))
        )
        await set_clock(clocked_store.client, now_us)
        admitted, rate = await submit(clocked_store, credential)
        assert (admitted, rate.remaining, rate.reset_s, rate.retry_after_s) == bucket.ask(now_us)
        assert (rate.name, rate.policy) == ("submit", limit)


async def test_a_request_is_admitted_when_it_was_told_to_come_back(clocked_store: Store) -> None:
    """After `retry_after` the next request is admitted; a microsecond sooner it is not."""
    credential = await clocked_store.caller(submit=SLOW)
    for _ in range(SLOW.burst):
        assert (await submit(clocked_store, credential))[0]
    admitted, rate = await submit(clocked_store, credential)
    assert (admitted, rate.remaining, rate.retry_after_s) == (False, 0, 10)
    for early_us, expected in ((1, False), (0, True)):
        await set_clock(clocked_store.client, CLOCK_START_US + 10 * MICROSECONDS - early_us)
        assert (await submit(clocked_store, credential))[0] is expected


async def test_no_more_than_a_burst_comes_at_once(store: Store) -> None:
    """Of many requests at the same moment as many are admitted as the burst says."""
    credential = await store.caller(submit=RateLimit(limit=1, period_s=3600, burst=9))
    answers = await asyncio.gather(*(submit(store, credential) for _ in range(40)))
    assert [admitted for admitted, _ in answers].count(True) == 9


async def test_the_sustained_rate_is_the_limit(clocked_store: Store) -> None:
    """Asked once a second for ten minutes, a limit of 6 a minute admits its burst and then one each 10 s."""
    credential = await clocked_store.caller(submit=SLOW)
    answers = []
    for second in range(601):
        await set_clock(clocked_store.client, CLOCK_START_US + second * MICROSECONDS)
        answers.append((await submit(clocked_store, credential))[0])
    assert answers.count(True) == SLOW.burst + 600 // 10


@pytest.mark.parametrize("limit", ["submit", "read"])
async def test_a_clock_that_was_set_back_heals(store: Store, limit: str) -> None:
    """A time stored an hour ahead costs a caller a burst at most: one request is admitted and puts the state right."""
    credential = await store.caller(submit=SLOW, read=SLOW)
    view = store.jobs.upload_account if limit == "submit" else store.jobs.account
    now_us = await redis_time_us(store)
    await store.client.set(keys.gcra(TENANT, limit), now_us + HOUR_US)
    assert not isinstance(await view(credential), Denied)
    assert int(await store.client.get(keys.gcra(TENANT, limit)) or 0) <= await redis_time_us(store) + size_us(SLOW)
    refused = await view(credential)
    assert isinstance(refused, Denied)
    assert 0 < refused.retry_after_s <= SLOW.interval_us / MICROSECONDS


async def test_an_arrival_time_in_the_past_is_a_full_burst(store: Store) -> None:
    """A clock that was set forward, or a long pause, leaves a whole burst and no more."""
    credential = await store.caller(submit=SLOW)
    await store.client.set(keys.gcra(TENANT, "submit"), await redis_time_us(store) - HOUR_US)
    answers = [(await submit(store, credential))[0] for _ in range(SLOW.burst + 1)]
    assert answers == [True] * SLOW.burst + [False]


async def test_a_limit_that_is_raised_holds_at_once(clocked_store: Store) -> None:
    """A tenant who has to wait an hour under the old limit goes on under the new one."""
    credential = await clocked_store.caller(submit=RateLimit(limit=1, period_s=3600, burst=2))
    assert [(await submit(clocked_store, credential))[0] for _ in range(3)] == [True, True, False]
    await clocked_store.caller(submit=SLOW)
    assert (await submit(clocked_store, credential))[0]
    assert (await submit(clocked_store, credential))[1].retry_after_s == 10


async def test_submits_and_reads_have_limits_of_their_own(store: Store) -> None:
    """A tenant that may submit no more still reads, and the other way round."""
    credential = await store.caller(submit=SLOW, read=SLOW)
    for _ in range(SLOW.burst):
        await submit(store, credential)
    assert not (await submit(store, credential))[0]
    reads = [await store.jobs.account(credential) for _ in range(SLOW.burst + 1)]
    assert [isinstance(read, Denied) for read in reads] == [False] * SLOW.burst + [True]


async def test_the_state_of_a_limit_goes_away_by_itself(store: Store) -> None:
    """A limit that is unused again leaves nothing behind: its state expires about when it says nothing more."""
    await submit(store, await store.caller(submit=SLOW))
    left_ms = await store.client.pttl(keys.gcra(TENANT, "submit"))
    assert 10_000 < left_ms <= 11_000


async def redis_time_us(store: Store) -> int:
    """Read the server's clock."""
    seconds, microseconds = await store.client.time()
    return int(seconds) * MICROSECONDS + int(microseconds)


def size_us(limit: RateLimit) -> int:
    """Return how far ahead a full burst reaches."""
    return limit.burst * limit.interval_us
