"""Ledger entries as values: every movement of a tenant's money, in the order in which it happened."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from gateway.core.job import JobState

EntryKind = Literal["hold", "settle", "release", "overrun", "adjust"]
CHARGES: Final = frozenset({"settle", "overrun", "adjust"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One movement. Amounts in nanocredits.

    Attributes:
        id: ``<Unix ms>-<n>`` of Redis's clock, rising.
        seq: Counts the tenant's entries from 1, without a gap.
        job_id: The job; of an adjustment for a request that was none of ours, the vendor's id.
        state: Of the job after the movement.
        upstream_id: The vendor's id, where the job has one; else empty.
        amount: What was held, charged or released; of an adjustment the difference, which may be negative.
        hold: How much of a hold began or ended with it.
        windows: The budget windows that it counts in: those in which the job was admitted.
        spent: Of window ``total``, after it; ``held`` alike.
        actor: Who caused it: ``key:<id>``, ``gateway``, ``tracker`` or ``operator``.
    """

    id: str
    seq: int
    kind: EntryKind
    job_id: str
    model: str
    key_id: str
    state: JobState
    upstream_id: str
    amount: int
    hold: int
    windows: tuple[str, ...]
    spent: int
    held: int
    actor: str
    labels: Mapping[str, str] = field(default_factory=dict)

    @property
    def at_ms(self) -> int:
        """When it was written, Unix milliseconds."""
        return int(self.id.partition("-")[0])

    @property
    def charge(self) -> int:
        """What it adds to what is spent."""
        return self.amount if self.kind in CHARGES else 0

    @property
    def holding(self) -> int:
        """What it adds to what is held."""
        return self.hold if self.kind == "hold" else -self.hold

    @property
    def ends(self) -> bool:
        """Tell whether it ends its job's hold."""
        return self.kind in {"settle", "release"}
