from __future__ import annotations

import io
import json
from collections import Counter
from dataclasses import replace
from decimal import Decimal
from typing import get_args

import pytest
from hypothesis import given
from support import events
from support.scrape import Series, parsed, total
from support.series import ended

from gateway.core.alerts import AlertName
from gateway.core.events import Alert, Event, HttpRequest, UpstreamCall
from gateway.core.quota import Window
from gateway.telemetry.logs import LogSink, configure_logs
from gateway.telemetry.metrics import Metrics, MetricsSink
from gateway.telemetry.readiness import Readiness
from gateway.telemetry.sinks import fan_out
from gateway.telemetry.writer import LineWriter


def scraped(metrics: Metrics) -> Series:
    """Return every sample as Prometheus reads it."""
    return parsed(metrics.render().decode())


def catalogue(model: str) -> bool:
    """Know two models."""
    return model in {"flux-2-pro", "kling-2.6"}


@given(events.mixed_runs)
def test_logs_and_metrics_agree(run: list[Event]) -> None:
    """Over any run the log lines of each kind, tenant, outcome and amount add up to what the metrics say."""
    stream, metrics = io.BytesIO(), Metrics(version="1")
    lines = LineWriter(stream, dropped=metrics.count_dropped_lines)
    log = LogSink(configure_logs(lines, "info", terminal=False))
    sink = fan_out(log, MetricsSink(metrics, known_model=catalogue), failed=metrics.count_sink_failure)
    for event in run:
        sink(event)
    lines.close(timeout_s=60)
    written = [json.loads(line) for line in stream.getvalue().splitlines()]
    series = scraped(metrics)
    names = Counter(line["event"] for line in written)
    assert total(series, "gateway_http_requests_total") == names["http.request"]
    assert total(series, "gateway_http_request_duration_seconds_count") == names["http.request"]
    assert total(series, "gateway_upstream_call_duration_seconds_count") == names["upstream.call"]
    assert total(series, "gateway_job_duration_seconds_count") == names["job.ended"]
    rejected = sum(line["event"] == "http.request" and "code" in line for line in written)
    assert total(series, "gateway_rejections_total") == rejected
    for name in ("job.unknown", "upstream.auth_failed"):
        assert total(series, "gateway_alerts_total", event=name) == names[name]
    for outcome in ("ok", "refused", "unsent", "ambiguous", "invalid"):
        logged = sum(line["event"] == "upstream.call" and line["outcome"] == outcome for line in written)
        assert total(series, "gateway_upstream_calls_total", outcome=outcome) == logged
    for outcome in ("delivered", "gone", "refused", "error"):
        logged = sum(line["event"] == "webhook.delivery" and line["outcome"] == outcome for line in written)
        assert total(series, "gateway_webhook_deliveries_total", outcome=outcome) == logged
    for tenant in ("", "video-team", "ads"):
        ended = [line for line in written if line["event"] == "job.ended" and line.get("tenant", "") == tenant]
        assert total(series, "gateway_jobs_ended_total", tenant=tenant) == len(ended)
        spent = sum(Decimal(line["cost"]) for line in ended)
        assert total(series, "gateway_spent_credits_total", tenant=tenant) == pytest.approx(float(spent))
    assert total(series, "gateway_sink_failures_total") == 0
    assert total(series, "gateway_log_lines_dropped_total") == 0


def feed(metrics: Metrics, count: int) -> None:
    """Send events that name ``count`` made-up models, methods and vendor statuses."""
    sink = MetricsSink(metrics, known_model=catalogue)
    for number in range(count):
        model = f"made-up-{number}"
        sink(
            HttpRequest(
                method=f"M{number}",
                route="/v2/{model}",
                status=404,
                latency_ms=1,
                request_id=model,
                job_id=model,
                model=model,
                code="model_not_found",
            )
        )
        sink(
            UpstreamCall(
                operation="submit", outcome="ok", latency_ms=1, model=model, job_id=model, upstream_status=-number
            )
        )
        sink(replace(ended(model=model, state="FAILED", cost=0), key_id=model, job_id=model))


def test_made_up_values_make_no_series() -> None:
    """20,000 models that nobody has, with as many ids, methods and absurd statuses, take the series of one."""
    few, many = Metrics(version="1"), Metrics(version="1")
    feed(few, 1)
    feed(many, 20_000)
    series = scraped(many)
    assert series.keys() == scraped(few).keys()
    assert total(series, "gateway_jobs_ended_total", model="other") == 20_000


def test_models_of_the_catalogue_are_told_apart() -> None:
    """A known model has its own series, a call without one an empty label."""
    metrics = Metrics(version="1")
    sink = MetricsSink(metrics, known_model=catalogue)
    for model in ("flux-2-pro", "kling-2.6", "", "secret"):
        sink(UpstreamCall(operation="submit", outcome="ok", latency_ms=1, model=model, upstream_status=200))
    series = scraped(metrics)
    counts = {name: total(series, "gateway_upstream_calls_total", model=name) for name in ("flux-2-pro", "", "other")}
    assert counts == {"flux-2-pro": 1, "": 1, "other": 1}


@pytest.mark.parametrize(
    ("name", "labels", "seconds"),
    [
        ("gateway_http_request_duration_seconds", {"route": "/r", "status_class": "2xx"}, 0.005),
        ("gateway_upstream_call_duration_seconds", {"operation": "sync", "model": "", "outcome": "ok"}, 600.0),
        ("gateway_job_duration_seconds", {"model": "", "state": "COMPLETED"}, 600.0),
    ],
)
def test_buckets_suit_what_they_measure(name: str, labels: dict[str, str], seconds: float) -> None:
    """A read of 5 ms and a job of 10 minutes each end in a finite bucket no wider than 2.5 times its lower bound."""
    metrics = Metrics(version="1")
    sink = MetricsSink(metrics, known_model=catalogue)
    ms = seconds * 1000
    sink(HttpRequest(method="GET", route="/r", status=200, latency_ms=ms, request_id="r"))
    sink(UpstreamCall(operation="sync", outcome="ok", latency_ms=ms))
    sink(ended(model="", duration_ms=int(ms)))
    buckets = sorted(
        (float(dict(has)["le"]), value)
        for (found, has), value in scraped(metrics).items()
        if found == f"{name}_bucket" and has >= labels.items()
    )
    upper = next(bound for bound, count in buckets if count)
    lower = max(bound for bound, count in buckets if not count)
    assert lower < seconds <= upper < float("inf")
    assert upper <= 5 * lower


def test_budgets_are_replaced_as_a_whole() -> None:
    """The gauges show the last reading only: a window that is gone is gone, one without a limit shows none."""
    metrics = Metrics(version="1")
    metrics.set_budgets(
        {"ads": [Window("day", 50_000_000_000, 1_500_000_000, 250_000_000), Window("total", None, 1, 0)]}
    )
    series = scraped(metrics)
    assert total(series, "gateway_budget_spent_credits", tenant="ads", window="day") == 1.5
    assert total(series, "gateway_budget_held_credits", tenant="ads", window="day") == 0.25
    assert [dict(has) for name, has in series if name == "gateway_budget_limit_credits"] == [
        {"tenant": "ads", "window": "day"}
    ]
    metrics.set_budgets({})
    assert not [name for name, _ in scraped(metrics) if name.startswith("gateway_budget")]


def test_what_events_do_not_tell_is_set() -> None:
    """Job states, queue, balance, breaker, lag, Redis, lost lines and the build read back as they were set."""
    metrics = Metrics(version="1.2.3")
    metrics.set_jobs({"ACCEPTED": 7, "UNKNOWN": 2})
    metrics.set_due_jobs(5)
    metrics.set_upstream_credits(18_492_104)
    metrics.set_breaker("inference", "open")
    metrics.set_breaker("inference", "half_open")
    metrics.observe_tracker_lag(2.5)
    metrics.observe_redis("admit", 0.0007)
    metrics.count_redis_failure()
    metrics.count_dropped_lines(3)
    series = scraped(metrics)
    assert total(series, "gateway_jobs", state="UNKNOWN") == 2
    assert total(series, "gateway_tracker_due_jobs") == 5
    assert total(series, "gateway_upstream_remaining_credits") == 0.018492104
    assert total(series, "gateway_upstream_breaker_state", state="half_open") == 1
    assert total(series, "gateway_upstream_breaker_state", host="inference") == 1
    assert total(series, "gateway_upstream_breaker_state", state="closed") == 4
    assert total(series, "gateway_tracker_lag_seconds_sum") == 2.5
    assert total(series, "gateway_redis_call_duration_seconds_bucket", operation="admit", le="0.001") == 1
    assert total(series, "gateway_redis_failures_total") == 1
    assert total(series, "gateway_log_lines_dropped_total") == 3
    assert total(series, "gateway_build_info", version="1.2.3") == 1


def test_two_sets_of_metrics_share_nothing() -> None:
    """There is no global registry: what one counts the other does not show."""
    one, other = Metrics(version="1"), Metrics(version="1")
    one.count_alert(Alert(event="job.unknown", detail="x"))
    assert total(scraped(one), "gateway_alerts_total") == 1
    assert total(scraped(other), "gateway_alerts_total") == 0


def test_alerts_count_from_zero() -> None:
    """Every kind of alert has its series before the first one: else that would be no increase to a rule."""
    series = scraped(Metrics(version="1"))
    assert {dict(has)["event"] for name, has in series if name == "gateway_alerts_total"} == set(get_args(AlertName))


def test_readiness_is_shown_with_its_reasons() -> None:
    """Ready is 1 or 0, and each check that stands in the way has a series until it is cleared."""
    metrics, readiness = Metrics(version="1"), Readiness(store="not checked yet")
    metrics.follow(readiness)
    readiness.block("draining", "SIGTERM")
    series = scraped(metrics)
    assert total(series, "gateway_ready") == 0
    assert {dict(has)["check"] for name, has in series if name == "gateway_unready"} == {"store", "draining"}
    readiness.clear("store")
    readiness.clear("draining")
    series = scraped(metrics)
    assert total(series, "gateway_ready") == 1
    assert not [name for name, _ in series if name == "gateway_unready"]
