"""Due queues on Redis, the tracker's and the webhooks': sorted sets by due time, sharded, leased by script.

Where one server has all keys, one call serves all shards: a call each would cost the tracker more than what it tracks.
In a cluster the shards lie on different nodes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby
from operator import itemgetter
from zlib import crc32

from gateway.core.queue import Claim, DueEntry
from gateway.core.tenant import MICROSECONDS
from gateway.store import keys
from gateway.store.records import Reply
from gateway.store.scripts import Script, Scripts

_ENTRIES_A_TRIP = 500
_HEAD = 3


def shard_of(job_id: str, shards: int = keys.DUE_SHARDS) -> int:
    """Return the shard of a job: its id ends in random bits."""
    return int(job_id[-4:], 16) % shards


class RedisDue:
    """`core.ports.Due`. Scores are Redis's clock, in milliseconds; `Scripts` raises `StoreUnavailable`.

    Args:
        scripts: Runs the scripts.
        library: Scripts by name (`store.scripts.load_scripts`).
        name: Names a shard of the queue.
        shards: How many there are.
    """

    def __init__(
        self,
        scripts: Scripts,
        library: Mapping[str, Script],
        name: Callable[[int], str] = keys.due,
        shards: int = keys.DUE_SHARDS,
    ) -> None:
        self._scripts = scripts
        self._name = name
        self._shards = shards
        self._claim = library["claim"]
        self._schedule = library["schedule"]
        self._forget = library["forget"]
        self._pace = library["pace"]
        self._turn = 0

    async def schedule(self, entries: Sequence[DueEntry], *, only_new: bool = False, only_sooner: bool = False) -> int:
        """See `Due.schedule`."""
        mode = "NX" if only_new else "LT" if only_sooner else ""
        added = await asyncio.gather(
            *(
                self._scripts.run(
                    self._schedule,
                    names,
                    [mode, *(part for at, e in group for part in (at, _member(e), round(e.due_in_s * 1000)))],
                )
                for names, group in self._trips(entries)
            )
        )
        return sum(added)

    async def claim(self, *, limit: int, lease_s: float) -> Claim:
        """See `Due.claim`. Every shard gives its share of the limit; of a small limit, some shards in turn give one."""
        count = min(limit, self._shards)
        share, lease_ms = limit // count, round(lease_s * 1000)
        names = [self._name((self._turn + n) % self._shards) for n in range(count)]
        self._turn += count
        trips = [names] if self._scripts.one_server else [[name] for name in names]
        replies: list[Reply] = await asyncio.gather(
            *(self._scripts.run(self._claim, trip, [share, lease_ms]) for trip in trips)
        )
        entries = [
            _entry(member, int(late_ms))
            for reply in replies
            for member, late_ms in zip(reply[_HEAD::2], reply[_HEAD + 1 :: 2], strict=True)
        ]
        entries.sort(key=lambda entry: entry.due_in_s)
        following = [int(reply[2]) for reply in replies if reply[2]] if count == self._shards else [0]
        return Claim(
            entries=entries,
            waiting=sum(int(reply[1]) for reply in replies) * self._shards // count,
            next_in_s=min(following) / 1000 if following else None,
            now_ms=max(int(reply[0]) for reply in replies),
        )

    async def remove(self, entries: Sequence[DueEntry]) -> None:
        """See `Due.remove`."""
        await asyncio.gather(
            *(
                self._scripts.run(self._forget, names, [part for at, e in group for part in (at, _member(e))])
                for names, group in self._trips(entries)
            )
        )

    async def pace(self, polls: int, *, per_second: float) -> float:
        """See `Due.pace`."""
        each_us = max(1, round(MICROSECONDS / per_second))
        return int(await self._scripts.run(self._pace, [keys.PACE], [polls, each_us])) / MICROSECONDS

    def _shard(self, entry: DueEntry) -> int:
        if entry.job_id:
            return shard_of(entry.job_id, self._shards)
        return crc32(entry.tenant.encode()) % self._shards

    def _trips(self, entries: Sequence[DueEntry]) -> Iterator[tuple[list[str], list[tuple[int, DueEntry]]]]:
        """Divide entries among calls: the shards that one names, and its entries, each with its shard's place there."""
        placed = sorted(((self._shard(entry), entry) for entry in entries), key=itemgetter(0))
        apart = [placed] if self._scripts.one_server else [list(some) for _, some in groupby(placed, itemgetter(0))]
        for some in apart:
            for start in range(0, len(some), _ENTRIES_A_TRIP):
                part = some[start : start + _ENTRIES_A_TRIP]
                shards = list(dict.fromkeys(shard for shard, _ in part))
                yield [self._name(n) for n in shards], [(shards.index(n) + 1, entry) for n, entry in part]


def _member(entry: DueEntry) -> str:
    return f"{entry.tenant}/{entry.job_id}"


def _entry(member: bytes, late_ms: int) -> DueEntry:
    tenant, _, job_id = member.decode().partition("/")
    return DueEntry(tenant, job_id, -late_ms / 1000)
