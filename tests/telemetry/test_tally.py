from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

from gateway.telemetry.series import Registry
from gateway.telemetry.tally import Tally, Timings

BUCKETS = (0.001, 0.05, 1, 60)
LABELS = ("route", "status")
ROUTES = st.sampled_from(["/v2/{model}", "", 'a "quoted"\nline'])


def text(registry: CollectorRegistry) -> list[str]:
    """Return what Prometheus scrapes, in an order of its own."""
    return sorted(generate_latest(registry).decode().splitlines())


@given(st.lists(st.tuples(ROUTES, st.integers(200, 202))))
def test_a_tally_reads_like_a_counter(events: list[tuple[str, int]]) -> None:
    """What is scraped is what the library's own counter would say of the same events."""
    ours, theirs = Registry(), Registry()
    tally = Tally("gateway_requests_total", "Requests.", LABELS, registry=ours)
    counter = Counter("gateway_requests_total", "Requests.", LABELS, registry=theirs)
    for route, status in events:
        tally.add((route, status))
        counter.labels(route, str(status)).inc()
    assert text(ours) == text(theirs)


@given(st.lists(st.tuples(ROUTES, st.sampled_from([0.0, 0.001, 0.0011, 0.05, 0.5, 1.0, 59.0, 60.0, 61.0, 1e9]))))
def test_timings_read_like_a_histogram(events: list[tuple[str, float]]) -> None:
    """What is scraped is what the library's own histogram would say of the same durations, bucket edges included."""
    ours, theirs = Registry(), Registry()
    timings = Timings("gateway_seconds", "Time.", LABELS, buckets=BUCKETS, registry=ours)
    histogram = Histogram("gateway_seconds", "Time.", LABELS, buckets=BUCKETS, registry=theirs)
    for route, seconds in events:
        timings.observe((route, 200), seconds)
        histogram.labels(route, "200").observe(seconds)
    assert text(ours) == text(theirs)
