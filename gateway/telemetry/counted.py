"""What is counted by the thousand: requests, calls to the vendor and to Redis, ends of jobs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from gateway.core.credits import NANO
from gateway.core.events import AuthFailing, BudgetAlert, HttpRequest, JobEnded, Reconciled, UpstreamCall
from gateway.telemetry.series import CALL_BUCKETS_S, JOB_BUCKETS_S, REQUEST_BUCKETS_S, STORE_BUCKETS_S, Children
from gateway.telemetry.tally import Tally, Timings

OTHER: Final = "other"
"""Label value of every model that the catalogue does not know."""

_STATUSES: Final = range(100, 600)
_CLASSES: Final = tuple(f"{first}xx" for first in range(10))


class RequestSeries:
    """Requests of tenants."""

    def __init__(self, registry: CollectorRegistry) -> None:
        labels = ("tenant", "model", "route", "status", "code")
        self._requests = Tally("gateway_http_requests_total", "Requests answered.", labels, registry=registry)
        self._rejections = Children(
            Counter(
                "gateway_rejections_total",
                "Requests answered with an error code, by who set the limit where it is one.",
                ("tenant", "code", "limited_by"),
                registry=registry,
            )
        )
        failures = Counter(
            "gateway_auth_failures_total",
            "Requests without a valid key; limited: above what one source may have, answered 429 and not logged.",
            ("limited",),
            registry=registry,
        )
        self._failures, self._limited = failures.labels("false"), failures.labels("true")
        self._duration = Timings(
            "gateway_http_request_duration_seconds",
            "Time to answer a request, waiting that the caller asked for included.",
            ("route", "status_class"),
            buckets=REQUEST_BUCKETS_S,
            registry=registry,
        )

    def observe(self, event: HttpRequest, model: str) -> None:
        """Count one answered request."""
        self._requests.add((event.tenant, model, event.route, event.status, event.code))
        if event.code:
            self._rejections(event.tenant, event.code, event.limited_by).inc()
            if event.code == "unauthenticated":
                self._failures.inc()
        self._duration.observe((event.route, _CLASSES[event.status // 100]), event.latency_ms / 1000)

    def limited(self, event: AuthFailing) -> None:
        """Count the failures of a source above its limit."""
        self._limited.inc(event.failures)


class UpstreamSeries:
    """Calls to the vendor, and how it stands."""

    def __init__(self, registry: CollectorRegistry) -> None:
        labels = ("operation", "model", "outcome", "status")
        self._calls = Tally(
            "gateway_upstream_calls_total", "Calls to the vendor, every attempt.", labels, registry=registry
        )
        self._duration = Timings(
            "gateway_upstream_call_duration_seconds",
            "Time of a call to the vendor.",
            labels[:3],
            buckets=CALL_BUCKETS_S,
            registry=registry,
        )

    def observe(self, event: UpstreamCall, model: str) -> None:
        """Count one call."""
        self._calls.add((event.operation, model, event.outcome, _status(event.upstream_status)))
        self._duration.observe((event.operation, model, event.outcome), event.latency_ms / 1000)


class JobSeries:
    """Jobs that ended, each exactly once, and what they cost."""

    def __init__(self, registry: CollectorRegistry) -> None:
        owner = ("tenant", "model")

        def total(name: str, documentation: str, labels: Sequence[str]) -> Children[Counter]:
            return Children(Counter(name, documentation, labels, registry=registry))

        self._ended = total("gateway_jobs_ended_total", "Jobs that ended, by their last state.", (*owner, "state"))
        self._spent = total("gateway_spent_credits_total", "Credits charged for jobs that ended.", owner)
        self._held = total("gateway_held_credits_total", "Credits that had been held for jobs that ended.", owner)
        self._overrun = total("gateway_overrun_credits_total", "Credits charged above the hold.", owner)
        self._duration = Children(
            Histogram(
                "gateway_job_duration_seconds",
                "Time from admission to the end of a job.",
                ("model", "state"),
                buckets=JOB_BUCKETS_S,
                registry=registry,
            )
        )

    def observe(self, event: JobEnded, model: str) -> None:
        """Count one end of a job."""
        self._ended(event.tenant, model, event.state).inc()
        self._spent(event.tenant, model).inc(event.cost / NANO)
        self._held(event.tenant, model).inc(event.held / NANO)
        self._overrun(event.tenant, model).inc(event.overrun / NANO)
        self._duration(model, event.state).observe(event.duration_ms / 1000)


def _status(status: int | None) -> str:
    """Return a vendor's status as a label; an absurd one must not make a series of its own."""
    if status is None:
        return ""
    return str(status) if status in _STATUSES else OTHER


class StoreSeries:
    """Script calls to Redis."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.duration = Children(
            Histogram(
                "gateway_redis_call_duration_seconds",
                "Time of a script call to Redis that was answered; one in 13 is timed.",
                ("operation",),
                buckets=STORE_BUCKETS_S,
                registry=registry,
            )
        )
        self.failures = Counter(
            "gateway_redis_failures_total",
            "Script calls to Redis that were not answered or could not be served.",
            registry=registry,
        )


class MoneySeries:
    """Budgets that are nearly used up, and how far ledger and vendor are apart."""

    def __init__(self, registry: CollectorRegistry) -> None:
        labels = ("tenant", "window", "percent")
        self._warned = Children(
            Counter(
                "gateway_budget_alerts_total", "Budgets that reached an alert percentage.", labels, registry=registry
            )
        )
        self._drift = Gauge(
            "gateway_reconcile_drift_credits",
            "Credits by which ledger and vendor were apart when they were last compared; NaN: not by this process.",
            registry=registry,
        )
        self._drift.set(float("nan"))

    def warned(self, event: BudgetAlert) -> None:
        """Count a budget that reached an alert percentage."""
        self._warned(event.tenant, event.window, str(event.percent)).inc()

    def compared(self, event: Reconciled) -> None:
        """Set how far ledger and vendor are apart."""
        self._drift.set(event.drift / NANO)
