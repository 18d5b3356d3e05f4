"""The ledgers as they are read: entry by entry, with what stands beside them, and how their oldest entries go."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Final

from redis.asyncio import RedisCluster

from gateway.core.audit import Books, Opening, OpenJob
from gateway.core.entries import Entry
from gateway.core.job import JobState
from gateway.core.usage import Row
from gateway.service.audit import LedgerPage
from gateway.store import keys
from gateway.store.connect import RedisClient, store_errors
from gateway.store.fanout import text
from gateway.store.records import Reply, decode_labels
from gateway.store.scripts import Script, Scripts
from gateway.store.usage import read_usage

PAGE: Final = 1000
_JOB: Final = "job:"
_LAST_PAGE: Final = 7
"""Parts of the reply that ends a reading; the others have three."""


class RedisLedgers:
    """`service.audit.Ledgers`, `service.export.Entries` and `service.trim.Foldable`. Raises `StoreUnavailable`.

    Args:
        page: Entries a trip.
    """

    def __init__(
        self, client: RedisClient, scripts: Scripts, library: Mapping[str, Script], *, page: int = PAGE
    ) -> None:
        self._client = client
        self._scripts = scripts
        self._audit = library["audit"]
        self._trim = library["trim"]
        self._page = page

    async def tenants(self) -> Sequence[str]:
        """See `Ledgers.tenants`."""
        with store_errors():
            return sorted(text(tenant) for tenant in await self._client.smembers(keys.TENANTS))

    async def page(self, tenant: str, after: str, periods: Sequence[str] = ()) -> LedgerPage:
        """See `Ledgers.page`."""
        names = [
            keys.ledger(tenant), keys.opening(tenant), keys.budget(tenant), keys.active(tenant), keys.sending(tenant),
            keys.job(tenant, ""), keys.usage(tenant),
        ]  # fmt: skip
        reply: Reply = await self._scripts.run_bulk(self._audit, names, [after, self._page, *periods])
        entries = [_entry(*read) for read in reply[2]]
        books: Books | None = None
        if len(reply) == _LAST_PAGE:
            books = _books(reply[3], reply[4], reply[5], read_usage(tenant, periods, reply[6]))
        return LedgerPage(_opening(reply[1]), entries, books, int(reply[0]))

    async def now_ms(self) -> int:
        """See `Entries.now_ms`."""
        with store_errors():
            if isinstance(self._client, RedisCluster):
                nodes: Any = await self._client.time(target_nodes=RedisCluster.PRIMARIES)
                clocks = list(nodes.values())
            else:
                clocks = [await self._client.time()]
        return min(int(s) * 1000 + int(us) // 1000 for s, us in clocks)

    async def opening(self, tenant: str) -> Opening:
        """See `Entries.opening`."""
        with store_errors():
            found: Mapping[bytes, bytes] = await self._client.hgetall(keys.opening(tenant))  # type: ignore[assignment]
        return _opening([word for pair in found.items() for word in pair])

    async def entries(self, tenant: str, after: str, limit: int) -> Sequence[Entry]:
        """See `Entries.entries`."""
        with store_errors():
            found: Any = await self._client.xrange(keys.ledger(tenant), f"({after}" if after else "-", "+", limit)
        return [_entry(entry_id, [word for pair in said.items() for word in pair]) for entry_id, said in found]

    async def ends(self, tenant: str, job_ids: Collection[str]) -> Mapping[str, tuple[str, int]]:
        """See `Ledgers.ends`."""
        with store_errors():
            pipeline = self._client.pipeline(transaction=False)
            for job_id in job_ids:
                pipeline.hmget(keys.job(tenant, job_id), ("state", "cost"))
            replies: list[Any] = await pipeline.execute() if job_ids else []
        records = zip(job_ids, replies, strict=True)
        return {job_id: (text(state), int(cost or 0)) for job_id, (state, cost) in records if state}

    async def fold(self, tenant: str, *, keep_s: int, keep: int, limit: int) -> int:
        """See `Foldable.fold`."""
        names = [keys.ledger(tenant), keys.opening(tenant), keys.budget(tenant)]
        return int(await self._scripts.run(self._trim, names, [keep_s * 1000, keep, limit]))


def _entry(entry_id: bytes, flat: Sequence[bytes]) -> Entry:
    said = {name.decode(): value.decode() for name, value in _pairs(flat)}
    return Entry(
        id=entry_id.decode(),
        seq=int(said["seq"]),
        kind=said["kind"],  # type: ignore[arg-type]  # the scripts write no other
        job_id=said["job"],
        model=said["model"],
        key_id=said["key"],
        state=JobState(said["state"]),
        upstream_id=said["upstream"],
        amount=int(said["amount"]),
        hold=int(said["hold"]),
        windows=tuple(said["windows"].split(",")),
        spent=int(said["spent"]),
        held=int(said["held"]),
        actor=said["actor"],
        labels=decode_labels(said["labels"].encode()),
    )


def _opening(flat: Sequence[bytes]) -> Opening:
    said = {name.decode(): value.decode() for name, value in _pairs(flat)}
    day, last = said.pop("day", ""), said.pop("last", "")
    values = {name: int(value) for name, value in said.items()}
    holds = {name.removeprefix(_JOB): hold for name, hold in values.items() if name.startswith(_JOB)}
    counters = {name: value for name, value in values.items() if name != "seq" and not name.startswith(_JOB)}
    return Opening(values.get("seq", 0), counters, holds, day, last)


def _books(budget: Sequence[bytes], active: Sequence[bytes], sending: Sequence[bytes], usage: Sequence[Row]) -> Books:
    counters = {name.decode(): int(value) for name, value in _pairs(budget)}
    jobs = zip(active[::3], active[1::3], active[2::3], strict=True)
    return Books(
        seq=counters.pop("seq", 0),
        counters=counters,
        active=[OpenJob(job.decode(), state.decode(), hold.decode()) for job, state, hold in jobs],
        sending=frozenset(job.decode() for job in sending),
        usage=usage,
    )


def _pairs(flat: Sequence[bytes]) -> Iterable[tuple[bytes, bytes]]:
    return zip(flat[::2], flat[1::2], strict=True)
