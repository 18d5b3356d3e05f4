"""Usage: what a tenant's keys did with each model, a day or a month; counted by the ledger's own scripts."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from itertools import accumulate
from operator import attrgetter
from typing import Final, Literal, get_args

from gateway.core.quota import Window, window_end
from gateway.core.record import record

Dimension = Literal["tenant", "day", "month", "key", "model"]
DIMENSIONS: Final[tuple[Dimension, ...]] = get_args(Dimension)
OUTCOMES: Final = ("completed", "failed", "rejected", "expired")
MAX_DAYS: Final = 400
"""Usage is kept for so long."""
_REFUSED, _REJECTED, _TOOK = "refused_", "rejected_", "took_"
_PER_DOUBLING: Final = 8
_DAY_S: Final = 86_400
PACE_DAYS: Final = 7
"""Days whose spending is the pace at which longer budgets are expected to run out."""


def bucket_of(ms: int) -> int:
    """Return the histogram's bucket of a duration: eight for each doubling, their middles within 6 %."""
    part, doublings = math.frexp(max(1, ms))
    return doublings * _PER_DOUBLING + math.floor((part * 2 - 1) * _PER_DOUBLING)


def middle_ms(bucket: int) -> float:
    """Return the duration in the middle of a bucket, milliseconds."""
    doublings, part = divmod(bucket, _PER_DOUBLING)
    return math.ldexp(_PER_DOUBLING + part + 0.5, doublings) / (2 * _PER_DOUBLING)


@dataclass(frozen=True, slots=True)
class Usage:
    """Counts that were added up; amounts in nanocredits. Every figure is of the jobs that were admitted in the time."""

    counts: Counter[str] = field(default_factory=Counter)

    @property
    def jobs(self) -> int:
        """Jobs that were admitted."""
        return self.counts["jobs"]

    @property
    def spent(self) -> int:
        """What they were charged, overruns and adjustments included."""
        return self.counts["spent"]

    @property
    def held(self) -> int:
        """What is held for those that have not ended."""
        return self.counts["held"]

    @property
    def running(self) -> int:
        """Jobs that have not ended."""
        return self.jobs - sum(self.counts[outcome] for outcome in OUTCOMES)

    @property
    def refused(self) -> Mapping[str, int]:
        """Requests that admission refused, by error code; those of a process that is killed may be lost."""
        return self._by(_REFUSED)

    @property
    def rejected(self) -> Mapping[str, int]:
        """Jobs that the vendor did not take, by error code."""
        return self._by(_REJECTED)

    def latency_s(self, quantile: float) -> float | None:
        """Return how long COMPLETED jobs took, within 6 %; None where none did."""
        buckets = sorted((int(name), count) for name, count in self._by(_TOOK).items())
        if not buckets:
            return None
        wanted = quantile * sum(count for _, count in buckets)
        up_to = accumulate(count for _, count in buckets)
        bucket = next(bucket for (bucket, _), reached in zip(buckets, up_to, strict=True) if reached >= wanted)
        return round(middle_ms(bucket)) / 1000

    def _by(self, prefix: str) -> dict[str, int]:
        return {
            name.removeprefix(prefix): n for name, n in sorted(self.counts.items()) if name.startswith(prefix) and n
        }


@record()
class Row:
    """What one key of a tenant did with one model in a period."""

    tenant: str
    period: str
    key: str
    model: str
    counts: Mapping[str, int]


_READS: Final[Mapping[Dimension, Callable[[Row], str]]] = {
    "tenant": attrgetter("tenant"),
    "day": attrgetter("period"),
    "month": lambda row: row.period[:7],
    "key": attrgetter("key"),
    "model": attrgetter("model"),
}


def group(rows: Iterable[Row], by: Sequence[Dimension]) -> dict[tuple[str, ...], Usage]:
    """Add up the rows that agree in some dimensions, in the order of these."""
    found: defaultdict[tuple[str, ...], defaultdict[str, int]] = defaultdict(lambda: defaultdict(int))
    reads = [_READS[name] for name in by]
    for row in rows:
        counts = found[tuple([read(row) for read in reads])]
        for name, count in row.counts.items():
            counts[name] += count
    return {values: Usage(Counter(counts)) for values, counts in sorted(found.items())}


def periods(first: date, last: date, *, daily: bool, today: date) -> list[str]:
    """List the days from one to another, both included; unless each is wanted, whole months stand for their days."""
    found: list[str] = []
    day = first
    while day <= last:
        following = (day.replace(day=1) + timedelta(days=32)).replace(day=1)
        if not daily and day.day == 1 and (following <= last + timedelta(days=1) or last >= today):
            found.append(f"{day:%Y-%m}")
            day = following
        else:
            found.append(f"{day:%Y-%m-%d}")
            day += timedelta(days=1)
    return found


@dataclass(frozen=True, slots=True)
class Forecast:
    """A budget, and when it runs out at the present pace (UTC); None: not before it starts anew."""

    window: Window
    resets_at: datetime | None
    runs_out_at: datetime | None


def forecasts(windows: Iterable[Window], last_days: Sequence[int], now: datetime) -> Iterator[Forecast]:
    """Say of each budget when it runs out.

    The pace is what the last days spent and hold: two for the day's budget, seven for the others.

    Args:
        windows: Where the budgets stand; those without a limit are left out.
        last_days: Nanocredits that the jobs of today, yesterday, ... spent and hold; of `PACE_DAYS` days.
        now: UTC.
    """
    for window in windows:
        if window.limit is None:
            continue
        end = window_end(window.name, now)
        pace = _pace(last_days[: 2 if window.name == "day" else PACE_DAYS], now)
        left = window.remaining or 0
        out = now if left == 0 else _after(now, left / pace) if pace > 0 else None
        yield Forecast(window, end, out if out is not None and (end is None or out < end) else None)


def _pace(last_days: Sequence[int], now: datetime) -> float:
    """Return the nanocredits a second of the last days, from the first on which anything was used."""
    used = max((back for back, amount in enumerate(last_days) if amount), default=0)
    passed_s = (now - now.replace(hour=0, minute=0, second=0, microsecond=0)).total_seconds()
    return sum(last_days) / max(used * _DAY_S + passed_s, 60.0)


def _after(now: datetime, seconds: float) -> datetime | None:
    try:
        return now + timedelta(seconds=round(seconds))
    except OverflowError:
        return None
