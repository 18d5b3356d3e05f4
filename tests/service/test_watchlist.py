"""Words on their way to the due queue."""

from __future__ import annotations

from support.ledger import empty_store
from support.vendor import HandClock

from gateway.core.queue import DueEntry
from gateway.service.watchlist import Watchlist

A_MINUTE_S = 60.0
AN_HOUR_S = 3600.0


async def test_a_job_is_not_due_later_for_having_waited(redis_url: str) -> None:
    """What passes between the word and its writing counts towards the time that the job was to wait."""
    async with empty_store(redis_url) as store:
        told = HandClock()
        watchlist = Watchlist(store.due, monotonic=told)
        watchlist.add(DueEntry("team", "0001", A_MINUTE_S))
        watchlist.add(DueEntry("team", "0002", 3 * AN_HOUR_S))
        told.now += AN_HOUR_S
        await watchlist.flush()
        claim = await store.due.claim(limit=100, lease_s=4 * AN_HOUR_S)
        assert [entry.job_id for entry in claim.entries] == ["0001"]
        assert claim.next_in_s is not None
        assert AN_HOUR_S < claim.next_in_s <= 2 * AN_HOUR_S
