"""Usage as the ledger has it: counted again from its entries, for the audit."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from gateway.core.entries import Entry
from gateway.core.usage import Row

COUNTED: Final = ("jobs", "completed", "failed", "rejected", "expired", "spent", "held", "overrun", "adjusted")
"""What entries tell. Latencies and refusals they don't."""
_OTHER: Final = "other"

_Name = tuple[str, str, str]


class ReplayedUsage:
    """Usage of the days and months of which every entry is there.

    Args:
        after: The last day that may lack entries, and with it its month; empty: none does.
    """

    def __init__(self, after: str) -> None:
        self._after = after
        self._rows: defaultdict[_Name, Counter[str]] = defaultdict(Counter)

    @property
    def periods(self) -> Sequence[str]:
        """List them."""
        return sorted({period for period, _, _ in self._rows})

    def feed(self, entry: Entry) -> None:
        """Count an entry."""
        counts = {"spent": entry.charge, "held": entry.holding}
        if entry.kind == "hold":
            counts["jobs"] = 1
        elif entry.ends:
            counts[entry.state.lower()] = 1
        else:
            counts[{"overrun": "overrun", "adjust": "adjusted"}[entry.kind]] = entry.amount
        for window in entry.windows:
            kind, _, period = window.partition(":")
            if kind in {"day", "month"} and period > self._after[: len(period)]:
                self._rows[period, entry.key_id, entry.model].update(counts)

    def compare(self, stored: Iterable[Row]) -> Iterator[tuple[str, int, int]]:
        """Yield what differs: what, in the ledger, in the store."""
        found = {(row.period, row.key, row.model): row.counts for row in stored}
        expected: defaultdict[_Name, Counter[str]] = defaultdict(Counter)
        for (period, key, model), counts in self._rows.items():
            other = (period, key, _OTHER)
            name = (period, key, model)
            expected[other if name not in found and other in found else name].update(counts)
        for name in sorted(expected.keys() | found.keys()):
            ours, theirs = expected[name], found.get(name, {})
            for counted in COUNTED:
                if ours[counted] != theirs.get(counted, 0):
                    yield f"usage of {' '.join(name)}: {counted}", ours[counted], theirs.get(counted, 0)
