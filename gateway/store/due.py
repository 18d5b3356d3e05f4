"""Due queues on Redis, the tracker's and the webhooks': sorted sets by due time, sharded, leased by script."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
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
                    [self._name(shard)],
                    [mode, *(part for e in group for part in (_member(e), round(e.due_in_s * 1000)))],
                )
                for shard, group in self._by_shard(entries)
            )
        )
        return sum(added)

    async def claim(self, *, limit: int, lease_s: float) -> Claim:
        """See `Due.claim`. Every shard gives its share of the limit; of a small limit, some shards in turn give one."""
        count = min(limit, self._shards)
        share, lease_ms = limit // count, round(lease_s * 1000)
        shards = [(self._turn + n) % self._shards for n in range(count)]
        self._turn += count
        replies: list[Reply] = await asyncio.gather(
            *(self._scripts.run(self._claim, [self._name(shard)], [share, lease_ms]) for shard in shards)
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
                self._scripts.run(self._forget, [self._name(shard)], [_member(e) for e in group])
                for shard, group in self._by_shard(entries)
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

    def _by_shard(self, entries: Sequence[DueEntry]) -> Iterator[tuple[int, list[DueEntry]]]:
        """Group entries by shard, in groups that a script can take."""
        groups: dict[int, list[DueEntry]] = defaultdict(list)
        for entry in entries:
            groups[self._shard(entry)].append(entry)
        for shard, group in groups.items():
            for start in range(0, len(group), _ENTRIES_A_TRIP):
                yield shard, group[start : start + _ENTRIES_A_TRIP]


def _member(entry: DueEntry) -> str:
    return f"{entry.tenant}/{entry.job_id}"


def _entry(member: bytes, late_ms: int) -> DueEntry:
    tenant, _, job_id = member.decode().partition("/")
    return DueEntry(tenant, job_id, -late_ms / 1000)
