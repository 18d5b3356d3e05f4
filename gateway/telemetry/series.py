"""What `prometheus_client` lacks for us: a registry without ``_created``, cached children, buckets, budgets at once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, Generic, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from gateway.core.credits import NANO
from gateway.core.quota import Window
from gateway.telemetry.readiness import Readiness

Child = TypeVar("Child", Counter, Gauge, Histogram)

REQUEST_BUCKETS_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 600)
"""From a read in Redis over `Prefer: wait=300` to a sync call of a slow model."""
CALL_BUCKETS_S: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
JOB_BUCKETS_S: Final = (0.5, 1, 2.5, 5, 10, 20, 30, 45, 60, 90, 120, 180, 240, 300, 420, 600, 900, 1800, 3600)
STORE_BUCKETS_S: Final = (0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1)
LAG_BUCKETS_S: Final = (0.05, 0.1, 0.25, 0.5, 1, 2, 3, 5, 10, 30, 60, 300)


class Registry(CollectorRegistry):
    """A registry that leaves out the ``_created`` series: they double the counters and nothing here reads them.

    The library's own switch for that is global to the process.
    """

    def collect(self) -> Iterable[Metric]:
        """Yield each metric as it stands."""
        for metric in super().collect():
            metric.samples = [sample for sample in metric.samples if not sample.name.endswith("_created")]
            yield metric


class Children(Generic[Child]):
    """Look up a metric's child by label values: a dictionary, since ``labels()`` costs 30 us a call.

    Args:
        parent: The metric. The caller bounds the label values: a child is kept for good.
    """

    def __init__(self, parent: Child) -> None:
        self._parent: Child = parent
        self._children: dict[tuple[str, ...], Child] = {}

    def __call__(self, *values: str) -> Child:
        """Return the child for these label values."""
        child = self._children.get(values)
        if child is None:
            child = self._children[values] = self._parent.labels(*values)
        return child


class BudgetCollector(Collector):
    """Budgets of all tenants as of one reading, replaced as a whole: a window that is gone leaves no stale series."""

    def __init__(self) -> None:
        self._budgets: Mapping[str, Sequence[Window]] = {}

    def replace(self, budgets: Mapping[str, Sequence[Window]]) -> None:
        """Take a new reading: tenant to its windows."""
        self._budgets = dict(budgets)

    def collect(self) -> Iterable[Metric]:
        """Yield spent, held and limit, in credits; no limit where the window has none."""
        labels = ("tenant", "window")
        spent = GaugeMetricFamily("gateway_budget_spent_credits", "Credits spent in the running window.", labels=labels)
        held = GaugeMetricFamily("gateway_budget_held_credits", "Credits held in the running window.", labels=labels)
        limit = GaugeMetricFamily("gateway_budget_limit_credits", "Limit of the window in credits.", labels=labels)
        for tenant, windows in self._budgets.items():
            for window in windows:
                names = (tenant, window.name)
                spent.add_metric(names, window.spent / NANO)
                held.add_metric(names, window.held / NANO)
                if window.limit is not None:
                    limit.add_metric(names, window.limit / NANO)
        return (spent, held, limit)


class ReadinessCollector(Collector):
    """What ``/readyz`` says, for rules."""

    def __init__(self, readiness: Readiness) -> None:
        self._readiness = readiness

    def collect(self) -> Iterable[Metric]:
        """Yield whether the process is ready, and a series for each check that stands in the way."""
        reasons = self._readiness.reasons
        ready = GaugeMetricFamily("gateway_ready", "1 where this process may be sent requests.", int(not reasons))
        unready = GaugeMetricFamily(
            "gateway_unready",
            "1 for each check that keeps requests away; no series for one that does not.",
            None,
            ["check"],
        )
        for check in reasons:
            unready.add_metric((check,), 1)
        return (ready, unready)
