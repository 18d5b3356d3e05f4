"""What a finished job takes in Redis."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

from bench.scene import Scene

TENANTS_OWN: Final = frozenset({"tenant", "keys", "key", "gcra"})
"""Kinds of keys that a tenant has however many jobs it has."""


async def bytes_of_job(stage: Scene, jobs: Mapping[str, Sequence[str]]) -> dict[str, int]:
    """Return what a finished job takes in Redis by kind of key, and in all; its result's body is left out.

    Args:
        stage: Where the jobs are.
        jobs: Every job on record, by tenant; all have ended.
    """
    client, found = stage.store.client, Counter[str]()
    for tenant in jobs:
        async for key in client.scan_iter(match=f"{{{tenant}}}:*", count=1000):
            kind = key.decode().split(":")[1]
            if kind in TENANTS_OWN:
                continue
            found[kind] += await client.memory_usage(key, samples=0) or 0
            if kind == "result":
                found[kind] -= await client.hstrlen(key, "body")
    count = sum(map(len, jobs.values()))
    each = {kind: round(taken / count) for kind, taken in sorted(found.items())}
    return {**each, "all": sum(each.values())}
