"""The metrics: every series of the gateway in a registry of its own, and the sink that feeds them from events.

Amounts are floats here, as in all of Prometheus; the account is the ledger.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import assert_never, get_args

from prometheus_client import Counter, Gauge, Histogram, Info, ProcessCollector, generate_latest

from gateway.core.alerts import AlertName
from gateway.core.breaker import BreakerName, BreakerState
from gateway.core.credits import NANO
from gateway.core.events import (
    Alert,
    AuthFailing,
    BreakerChanged,
    BudgetAlert,
    Event,
    HttpRequest,
    JobEnded,
    Reconciled,
    Shed,
    UpstreamCall,
    WebhookDelivery,
)
from gateway.core.quota import Window
from gateway.telemetry.counted import OTHER, JobSeries, MoneySeries, RequestSeries, StoreSeries, UpstreamSeries
from gateway.telemetry.readiness import Readiness
from gateway.telemetry.series import (
    LAG_BUCKETS_S,
    BudgetCollector,
    Children,
    ReadinessCollector,
    Registry,
)


class Metrics:
    """All series. What events don't tell is set by whoever knows it.

    Every method is thread-safe and cheap; but events are counted by the event loop alone (`gateway.telemetry.tally`).

    Args:
        version: Of the gateway, for ``gateway_build_info``.
    """

    def __init__(self, *, version: str) -> None:
        self._registry = registry = Registry()
        self.requests = RequestSeries(registry)
        self.upstream = UpstreamSeries(registry)
        self.jobs = JobSeries(registry)
        self.money = MoneySeries(registry)
        self._store = StoreSeries(registry)
        self._budgets = BudgetCollector()
        registry.register(self._budgets)
        ProcessCollector(registry=registry)
        Info("gateway_build", "Version of the gateway.", registry=registry).info({"version": version})

        def counter(name: str, documentation: str, *labels: str) -> Counter:
            return Counter(name, documentation, labels, registry=registry)

        def gauge(name: str, documentation: str, *labels: str) -> Gauge:
            return Gauge(name, documentation, labels, registry=registry)

        def histogram(name: str, documentation: str, *labels: str, buckets: Sequence[float]) -> Histogram:
            return Histogram(name, documentation, labels, buckets=buckets, registry=registry)

        self._alerts = Children(counter("gateway_alerts_total", "Log lines that want a person's attention.", "event"))
        for name in get_args(AlertName):
            self._alerts(name)  # from 0 on, else the first alert of its kind would be no increase
        self._webhooks = Children(
            counter("gateway_webhook_deliveries_total", "Attempts to deliver a webhook.", "tenant", "outcome")
        )
        self._sink_failures = Children(counter("gateway_sink_failures_total", "Events that a sink lost.", "sink"))
        self._shed = Children(
            counter("gateway_shed_requests_total", "Requests refused unread for lack of time.", "kind")
        )
        self._lines_dropped = counter("gateway_log_lines_dropped_total", "Log lines that the stream did not take.")
        self._active = Children(gauge("gateway_jobs", "Jobs that have not ended, UNKNOWN ones included.", "state"))
        self._due = gauge("gateway_tracker_due_jobs", "Jobs in the tracker's queue whose poll is due.")
        self._balance = gauge(
            "gateway_upstream_remaining_credits", "Credits left on the vendor's account; NaN: not asked."
        )
        self._balance.set(float("nan"))
        self._breaker = Children(
            gauge("gateway_upstream_breaker_state", "1 for the state that the breaker is in.", "host", "state")
        )
        for name in get_args(BreakerName):
            self.set_breaker(name, "closed")
        self._lag = histogram("gateway_tracker_lag_seconds", "How late a job was polled.", buckets=LAG_BUCKETS_S)

    def render(self) -> bytes:
        """Return all series in Prometheus's text format 0.0.4. Takes milliseconds: not for the event loop."""
        return generate_latest(self._registry)

    def count_alert(self, event: Alert) -> None:
        """Count an alert by its event name, which is a literal of ours."""
        self._alerts(event.event).inc()

    def count_webhook(self, event: WebhookDelivery) -> None:
        """Count an attempt to deliver a webhook."""
        self._webhooks(event.tenant, event.outcome).inc()

    def count_shed(self, event: Shed) -> None:
        """Count requests that were refused unread; ``gateway_http_requests_total`` has none of them."""
        self._shed("submit").inc(event.submits)
        self._shed("read").inc(event.reads)

    def count_sink_failure(self, sink: str) -> None:
        """Count an event that a sink could not take."""
        self._sink_failures(sink).inc()

    def count_dropped_lines(self, lines: int) -> None:
        """Count log lines that were not written."""
        self._lines_dropped.inc(lines)

    def set_jobs(self, counts: Mapping[str, int]) -> None:
        """Set how many jobs are in each state that is not an end; every such state in each call."""
        for state, count in counts.items():
            self._active(state).set(count)

    def set_budgets(self, budgets: Mapping[str, Sequence[Window]]) -> None:
        """Set where the budgets of all tenants stand, in place of what was set before."""
        self._budgets.replace(budgets)

    def set_upstream_credits(self, nano: int) -> None:
        """Set what is left on the vendor's account, nanocredits."""
        self._balance.set(nano / NANO)

    def set_breaker(self, host: BreakerName, state: BreakerState) -> None:
        """Set the state of a circuit breaker."""
        for name in get_args(BreakerState):
            self._breaker(host, name).set(name == state)

    def set_due_jobs(self, count: int) -> None:
        """Set how many jobs wait for a poll that is due."""
        self._due.set(count)

    def observe_tracker_lag(self, lag_s: float) -> None:
        """Record by how many seconds a job was polled after it was due."""
        self._lag.observe(lag_s)

    def observe_redis(self, operation: str, duration_s: float) -> None:
        """Record how long a call took that was answered; ``operation`` is a script's name."""
        self._store.duration(operation).observe(duration_s)

    def count_redis_failure(self) -> None:
        """Count a call that was not answered, or that Redis could not serve."""
        self._store.failures.inc()

    def follow(self, readiness: Readiness) -> None:
        """Show from now on whether this process is ready; once only."""
        self._registry.register(ReadinessCollector(readiness))


class MetricsSink:
    """Count events.

    Args:
        metrics: Where they are counted.
        known_model: Tells whether a model is in the catalogue; every other one is counted as ``other``.
    """

    def __init__(self, metrics: Metrics, *, known_model: Callable[[str], bool]) -> None:
        self._metrics = metrics
        self._known_model = known_model

    def __call__(self, event: Event) -> None:
        """Count one event. The tenant is taken as given: events name only tenants whose key was checked."""
        if isinstance(event, HttpRequest):
            self._metrics.requests.observe(event, self._label(event.model))
        elif isinstance(event, UpstreamCall):
            self._metrics.upstream.observe(event, self._label(event.model))
        elif isinstance(event, Shed):
            self._metrics.count_shed(event)
        elif isinstance(event, JobEnded):
            self._metrics.jobs.observe(event, self._label(event.model))
        elif isinstance(event, WebhookDelivery):
            self._metrics.count_webhook(event)
        elif isinstance(event, Reconciled):
            self._metrics.money.compared(event)
        elif isinstance(event, BudgetAlert):
            self._metrics.money.warned(event)
        elif isinstance(event, BreakerChanged):
            self._metrics.set_breaker(event.host, event.state)
        elif isinstance(event, AuthFailing):
            self._metrics.requests.limited(event)
        elif isinstance(event, Alert):
            self._metrics.count_alert(event)
        else:
            assert_never(event)

    def _label(self, model: str) -> str:
        return model if not model or self._known_model(model) else OTHER
