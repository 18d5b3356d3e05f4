from __future__ import annotations

from typing import Final

from support.ledger import Store, entries
from support.race import Load, race

from gateway.store import keys

PROCESSES: Final = 4
EACH: Final = 2_500
HOLD: Final = 941_500_000


async def test_processes_share_the_concurrency_limit_exactly(redis_url: str, store: Store) -> None:
    """As many jobs run at once as the tenant may run, and not one more, whichever process they came to."""
    credential = await store.caller(concurrent_jobs=777)
    answers = race(Load(redis_url, credential, EACH, HOLD), PROCESSES)
    assert answers == {"admitted": 777, "concurrency_limited": PROCESSES * EACH - 777}
    assert await store.client.zcard(keys.active("team")) == 777


async def test_one_of_all_with_the_same_key_is_admitted(redis_url: str, store: Store) -> None:
    """An idempotency key is one job, however many processes bring it at the same moment."""
    credential = await store.caller(concurrent_jobs=20_000)
    answers = race(Load(redis_url, credential, EACH, HOLD, "the same"), PROCESSES)
    assert answers == {"admitted": 1, "idempotency_in_progress": PROCESSES * EACH - 1}
    assert [entry["kind"] for entry in await entries(store.client, "team")] == ["hold"]
