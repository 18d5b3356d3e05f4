"""The ledger as rows for finance: every entry once, in order of time, resumable by its id."""

from __future__ import annotations

import heapq
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Protocol

from gateway.core.audit import Opening
from gateway.core.credits import format_credits
from gateway.core.entries import Entry
from gateway.errors import InvalidRequest

PAGE: Final = 500
COLUMNS: Final = (
    "id", "tenant", "seq", "at", "kind", "job", "upstream_id", "key", "model", "state", "day", "charged", "holding",
    "spent_after", "held_after", "actor", "labels",
)  # fmt: skip

Exported = dict[str, object]


class Entries(Protocol):
    """The ledgers, read forward. Raises `StoreUnavailable`."""

    async def tenants(self) -> Sequence[str]:
        """List every tenant that is or was."""

    async def now_ms(self) -> int:
        """Read the clock by which entries are named, Unix ms; of many clocks, the slowest."""

    async def opening(self, tenant: str) -> Opening:
        """Read what the entries that are no longer kept came to."""

    async def entries(self, tenant: str, after: str, limit: int) -> Sequence[Entry]:
        """Read entries after one, or from the oldest."""


@dataclass(frozen=True, slots=True, order=True)
class Cursor:
    """Where an export goes on: after the entry of this time, count and tenant."""

    ms: int
    n: int
    tenant: str

    @classmethod
    def of(cls, tenant: str, entry: Entry) -> Cursor:
        """Point at an entry."""
        ms, _, n = entry.id.partition("-")
        return cls(int(ms), int(n), tenant)

    @classmethod
    def parse(cls, text: str) -> Cursor:
        """Read the ``id`` of an exported row. Raises `InvalidRequest`."""
        entry_id, _, tenant = text.partition("/")
        ms, _, n = entry_id.partition("-")
        if not (ms.isdecimal() and n.isdecimal() and tenant):
            raise InvalidRequest(
                "an id is like 1771000000000-0/video-team, as in the rows exported before", field="after"
            )
        return cls(int(ms), int(n), tenant)

    def start(self, tenant: str) -> str:
        """Return the entry id after which a tenant's entries are yet to come."""
        if tenant <= self.tenant:
            return f"{self.ms}-{self.n}"
        return f"{self.ms}-{self.n - 1}" if self.n else f"{self.ms - 1}-{2**63}"


class Exporter:
    """Exports ledgers. Raises `StoreUnavailable`."""

    def __init__(self, entries: Entries) -> None:
        self._entries = entries

    async def rows(self, *, tenant: str | None = None, after: str | None = None) -> AsyncIterator[Exported]:
        """Yield every entry since, oldest first; without ``after`` each tenant's opening balance before.

        Entries of this very millisecond are left for the next time, since it may yet bring others that go before them.

        Args:
            tenant: Only this tenant's.
            after: The ``id`` of the last row that was exported before.

        Raises:
            InvalidRequest: That is none, or some of the entries since are no longer kept.
        """
        tenants = await self._entries.tenants() if tenant is None else [tenant]
        cursor = None if after is None else Cursor.parse(after)
        for name in tenants:
            opening = await self._entries.opening(name)
            if cursor is None and opening.seq:
                yield _opened(name, opening)
            elif cursor is not None and opening.last and Cursor.parse(f"{opening.last}/{name}") > cursor:
                detail = f"entries of {name} up to {opening.last} are no longer kept: export without `after`"
                raise InvalidRequest(detail, field="after")
        until_ms = await self._entries.now_ms()
        async for name, entry in self._merged(tenants, cursor):
            if entry.at_ms >= until_ms:
                return
            yield _exported(name, entry)

    async def _merged(self, tenants: Sequence[str], cursor: Cursor | None) -> AsyncIterator[tuple[str, Entry]]:
        """Yield the entries of many ledgers in one order."""
        walks = {name: self._walk(name, "" if cursor is None else cursor.start(name)) for name in tenants}
        heads: list[tuple[Cursor, Entry]] = []
        for name in tenants:
            async for entry in _one(walks[name]):
                heapq.heappush(heads, (Cursor.of(name, entry), entry))
        while heads:
            at, entry = heapq.heappop(heads)
            yield at.tenant, entry
            async for following in _one(walks[at.tenant]):
                heapq.heappush(heads, (Cursor.of(at.tenant, following), following))

    async def _walk(self, tenant: str, after: str) -> AsyncIterator[Entry]:
        while page := await self._entries.entries(tenant, after, PAGE):
            for entry in page:
                yield entry
            after = page[-1].id


async def _one(walk: AsyncIterator[Entry]) -> AsyncIterator[Entry]:
    """Yield the next entry, if there is one."""
    entry = await anext(walk, None)
    if entry is not None:
        yield entry


def _opened(tenant: str, opening: Opening) -> Exported:
    spent, held = (opening.counters.get(f"total:{what}", 0) for what in ("spent", "held"))
    told = {
        "tenant": tenant,
        "seq": opening.seq,
        "kind": "opening",
        "charged": format_credits(spent),
        "holding": format_credits(held),
        "spent_after": format_credits(spent),
        "held_after": format_credits(held),
        "labels": {},
    }
    return {name: told.get(name, "") for name in COLUMNS}


def _exported(tenant: str, entry: Entry) -> Exported:
    day = next((window.removeprefix("day:") for window in entry.windows if window.startswith("day:")), "")
    told: Exported = {
        "id": f"{entry.id}/{tenant}",
        "tenant": tenant,
        "seq": entry.seq,
        "at": datetime.fromtimestamp(entry.at_ms / 1000, UTC).isoformat(timespec="milliseconds"),
        "kind": entry.kind,
        "job": entry.job_id,
        "upstream_id": entry.upstream_id,
        "key": entry.key_id,
        "model": entry.model,
        "state": entry.state,
        "day": day,
        "charged": format_credits(entry.charge),
        "holding": format_credits(entry.holding),
        "spent_after": format_credits(entry.spent),
        "held_after": format_credits(entry.held),
        "actor": entry.actor,
        "labels": dict(entry.labels),
    }
    return told
