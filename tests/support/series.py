"""Metrics with a series in every family."""

from __future__ import annotations

from gateway.core.events import (
    AuthFailing,
    BudgetAlert,
    HttpRequest,
    JobEnded,
    Reconciled,
    Shed,
    UpstreamCall,
    WebhookDelivery,
)
from gateway.core.quota import Window
from gateway.telemetry.metrics import Metrics, MetricsSink
from gateway.telemetry.readiness import Readiness


def ended(
    *, model: str = "m", state: str = "COMPLETED", cost: int = 1, overrun: int = 0, duration_ms: int = 1
) -> JobEnded:
    """Make the event of a job of tenant ``ads`` that ended."""
    return JobEnded(
        tenant="ads",
        key_id="k",
        model=model,
        job_id="j",
        state=state,
        held=1,
        cost=cost,
        estimated=False,
        overrun=overrun,
        duration_ms=duration_ms,
    )


def everything() -> Metrics:
    """Return metrics that were told of one of each thing."""
    metrics = Metrics(version="1.2.3")
    metrics.follow(Readiness(store="not checked yet"))
    sink = MetricsSink(metrics, known_model=lambda _: False)
    sink(HttpRequest(method="GET", route="/v1/models", status=401, latency_ms=1, request_id="r", code="not_found"))
    sink(UpstreamCall(operation="submit", outcome="ok", latency_ms=1, upstream_status=200))
    sink(ended(cost=2, overrun=1))
    sink(
        WebhookDelivery(
            tenant="ads", job_id="j", type="job.completed", receiver="h", attempt=1, outcome="delivered", latency_ms=1
        )
    )
    sink(BudgetAlert(tenant="ads", window="day", percent=80, limit=10, spent=8, held=0))
    sink(Reconciled(first="d", last="d", matched=1, differs=0, only_ours=0, only_theirs=0, running=0, drift=0))
    sink(AuthFailing(source="192.0.2.1", failures=1))
    sink(Shed(submits=1, reads=1, late_ms=30))
    metrics.set_jobs({"ACCEPTED": 1})
    metrics.set_budgets({"ads": [Window("day", 10, 1, 1)]})
    metrics.set_breaker("inference", "closed")
    metrics.observe_redis("admit", 0.001)
    metrics.count_redis_failure()
    metrics.count_sink_failure("LogSink")
    return metrics
