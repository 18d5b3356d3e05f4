"""Usage reports: what was used, by whom and for what, and how long the budgets will last."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import NamedTuple, Protocol

from gateway.core.movements import Denied
from gateway.core.quota import RateState, Window
from gateway.core.tenant import Credential
from gateway.core.usage import MAX_DAYS, Dimension, Forecast, Row, Usage, forecasts, group, periods
from gateway.errors import InvalidRequest


class Refused(NamedTuple):
    """What admission refused: a request of a key for a model, with an error code."""

    key_id: str
    model: str
    code: str


@dataclass(frozen=True, slots=True)
class UsageView:
    """A tenant's usage in some periods, and its budgets.

    Attributes:
        last_days: Nanocredits that the jobs admitted today, yesterday, ... spent and hold.
        rate: Where the caller's read limit counted it.
    """

    tenant: str
    rows: Sequence[Row]
    windows: Sequence[Window]
    last_days: Sequence[int]
    now_ms: int
    rate: RateState | None = None


class UsageStore(Protocol):
    """Where usage is counted. Raises `StoreUnavailable`."""

    async def own(self, credential: Credential, periods: Sequence[str]) -> UsageView | Denied:
        """Read the usage of the caller's tenant; counts as one read."""

    async def of(self, tenant: str, periods: Sequence[str]) -> UsageView:
        """Read a tenant's usage, for operators."""

    async def all(self, periods: Sequence[str]) -> Sequence[UsageView]:
        """Read every tenant's."""

    async def count_refused(self, tenant: str, refused: Mapping[Refused, int]) -> None:
        """Add refusals to today's usage. Not to be repeated: it would count twice."""


@dataclass(frozen=True, slots=True)
class UsageQuery:
    """What is asked for: days from ``first`` to ``last``, both included (UTC), and by what to add up.

    Raises:
        InvalidRequest: No such span.
    """

    first: date
    last: date
    by: tuple[Dimension, ...]

    def __post_init__(self) -> None:
        if self.first > self.last:
            raise InvalidRequest("from is later than to", field="from")
        if (self.last - self.first).days >= MAX_DAYS:
            raise InvalidRequest(f"usage is kept for {MAX_DAYS} days: ask for no more", field="from")


@dataclass(frozen=True, slots=True)
class UsageReport:
    """An answer.

    Attributes:
        groups: Usage by the values of the query's dimensions.
        budgets: Each tenant's budgets, with when they run out.
        rate: Where the caller's read limit stands.
    """

    query: UsageQuery
    groups: Mapping[tuple[str, ...], Usage]
    total: Usage
    budgets: Mapping[str, Sequence[Forecast]]
    rate: RateState | None = None


class UsageService:
    """Reports usage. Raises `StoreUnavailable`.

    Args:
        clock: Unix seconds; only says which months are not over yet.
    """

    def __init__(self, store: UsageStore, clock: Callable[[], float] = time.time) -> None:
        self._store = store
        self._clock = clock

    def today(self) -> date:
        """Return the day that it is, UTC."""
        return datetime.fromtimestamp(self._clock(), UTC).date()

    async def own(self, credential: Credential, query: UsageQuery) -> UsageReport | Denied:
        """Report to a tenant's own caller, in one round trip."""
        view = await self._store.own(credential, self._periods(query))
        return view if isinstance(view, Denied) else _report(query, [view])

    async def report(self, query: UsageQuery, tenant: str | None = None) -> UsageReport:
        """Report to an operator, on all tenants or one."""
        wanted = self._periods(query)
        views = await self._store.all(wanted) if tenant is None else [await self._store.of(tenant, wanted)]
        return _report(query, views)

    def _periods(self, query: UsageQuery) -> Sequence[str]:
        return periods(query.first, query.last, daily="day" in query.by, today=self.today())


def _report(query: UsageQuery, views: Sequence[UsageView]) -> UsageReport:
    groups = group((row for view in views for row in view.rows), query.by)
    total = Usage()
    for usage in groups.values():
        for name, count in usage.counts.items():
            total.counts[name] += count
    budgets = {view.tenant: _forecasts(view) for view in views}
    return UsageReport(query, groups, total, budgets, views[0].rate if views else None)


def _forecasts(view: UsageView) -> Sequence[Forecast]:
    now = datetime.fromtimestamp(view.now_ms / 1000, UTC)
    return list(forecasts(view.windows, view.last_days, now))
