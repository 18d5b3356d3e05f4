from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from dataclasses import fields
from datetime import UTC, datetime

import pytest
import structlog
from hypothesis import given
from structlog.typing import FilteringBoundLogger
from support import events

from gateway.core.events import Alert, Event, HttpRequest, JobEnded, UpstreamCall, WebhookDelivery
from gateway.core.job import JobState
from gateway.telemetry.logs import LogSink, configure_logs
from gateway.telemetry.writer import LineWriter

UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e]")
SECRET = "sgw_video-team_k1_s3cr3t"

CALL = UpstreamCall(
    operation="submit",
    outcome="ok",
    latency_ms=41.23456,
    tenant="video-team",
    key_id="k1",
    model="kling-2.6-standard-motion-control",
    job_id="0199-job",
    upstream_id="vendor-1",
    request_id="req-1",
    upstream_status=200,
    cost=0,
    held=941_500_000,
)
CALL_LINE = (
    b'{"timestamp":"NOW","level":"info","event":"upstream.call","operation":"submit","outcome":"ok",'
    b'"latency_ms":41.235,"tenant":"video-team","key_id":"k1","model":"kling-2.6-standard-motion-control",'
    b'"job_id":"0199-job","upstream_id":"vendor-1","request_id":"req-1","upstream_status":200,"attempt":1,'
    b'"cost":"0","held":"0.9415"}\n'
)
REQUEST = HttpRequest(
    method="POST", route="/v2/{model}", status=406, latency_ms=2, request_id="r", code="budget_exhausted"
)
REQUEST_LINE = (
    b'{"timestamp":"NOW","level":"info","event":"http.request","method":"POST","route":"/v2/{model}","status":406,'
    b'"latency_ms":2,"request_id":"r","code":"budget_exhausted","idempotent":false}\n'
)
ENDED = JobEnded(
    tenant="ads",
    key_id="k2",
    model="flux-2-pro",
    job_id="j",
    state=JobState.COMPLETED,
    held=72_500_000,
    cost=80_000_001,
    estimated=False,
    overrun=7_500_001,
    duration_ms=26_000,
)
ENDED_LINE = (
    b'{"timestamp":"NOW","level":"warning","event":"job.ended","tenant":"ads","key_id":"k2","model":"flux-2-pro",'
    b'"job_id":"j","state":"COMPLETED","held":"0.0725","cost":"0.080000001","estimated":false,'
    b'"overrun":"0.007500001","duration_ms":26000}\n'
)
ALERT = Alert(event="upstream.auth_failed", detail="the vendor refused the key", tenant="ads")
ALERT_LINE = (
    b'{"timestamp":"NOW","level":"error","event":"upstream.auth_failed","detail":"the vendor refused the key",'
    b'"tenant":"ads"}\n'
)


def written(use: Callable[[FilteringBoundLogger], None], *, level: str = "info", terminal: bool = False) -> bytes:
    """Return what a logger writes while it is used."""
    stream = io.BytesIO()
    lines = LineWriter(stream, dropped=lambda _: pytest.fail("a line was dropped"))
    use(configure_logs(lines, level, terminal=terminal))
    lines.close(timeout_s=60)
    return stream.getvalue()


def written_for(*run: Event, level: str = "info", terminal: bool = False, chained: bool = False) -> bytes:
    """Return what the sink writes for events; ``chained``: through structlog's processors, as on a terminal."""
    stream = io.BytesIO()
    lines = LineWriter(stream, dropped=lambda _: pytest.fail("a line was dropped"))
    sink = LogSink(configure_logs(lines, level, terminal=terminal), None if terminal or chained else lines)
    for event in run:
        sink(event)
    lines.close(timeout_s=60)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("event", "line"),
    [(CALL, CALL_LINE), (REQUEST, REQUEST_LINE), (ENDED, ENDED_LINE), (ALERT, ALERT_LINE)],
    ids=lambda value: type(value).__name__,
)
def test_the_line_of_an_event_is_fixed(event: Event, line: bytes) -> None:
    """Each event is one JSON line: stable name and order, credits as decimal text, no empty field, UTC time."""
    data = written_for(event)
    stamp = json.loads(data)["timestamp"]
    assert datetime.fromisoformat(stamp).tzinfo == UTC
    assert data.replace(stamp.encode(), b"NOW") == line


def test_the_line_of_a_request_has_every_field() -> None:
    """Requests have a writer of their own, which leaves out nothing that their event tells."""
    texts = {field.name: field.name for field in fields(HttpRequest)}
    told = HttpRequest(**{**texts, "status": 200, "latency_ms": 1, "idempotent": True, "held": 1, "cost": 2})  # type: ignore[arg-type]  # made up by name
    assert list(json.loads(written_for(told)))[3:] == list(texts)


@pytest.mark.parametrize(
    ("event", "level"),
    [
        (CALL, "info"),
        (UpstreamCall(operation="submit", outcome="refused", latency_ms=1), "warning"),
        (UpstreamCall(operation="submit", outcome="ambiguous", latency_ms=1), "warning"),
        (REQUEST, "info"),
        (HttpRequest(method="GET", route="/", status=503, latency_ms=1, request_id="r"), "warning"),
        (Alert(event="job.unknown", detail="looked up in the history"), "warning"),
        (Alert(event="store.not_ready", detail="no epoch"), "error"),
    ],
)
def test_the_level_says_how_bad_it_is(event: Event, level: str) -> None:
    """What went as it should is info, what was refused or is in doubt a warning, what needs a person an error."""
    assert json.loads(written_for(event))["level"] == level


@given(events.mixed_runs)
def test_no_value_breaks_a_line(run: list[Event]) -> None:
    """Whatever stands in a value, each event is one line, valid JSON, without a character that a terminal obeys."""
    text = written_for(*run).decode()
    assert len(text.splitlines()) == len(run)
    assert all(isinstance(json.loads(line), dict) for line in text.splitlines())
    assert not UNSAFE.search(text)


@given(events.mixed_runs)
def test_the_short_way_writes_the_same(run: list[Event]) -> None:
    """A line that goes past structlog's processors is the one that they would have made."""
    short, long = (
        [re.sub(rb'"timestamp":"[^"]+Z"', b"", line) for line in written_for(*run, chained=chained).splitlines()]
        for chained in (False, True)
    )
    assert short == long


@given(events.text)
def test_json_carries_values_unchanged(value: str) -> None:
    """A value reads back as it was; only what is no text at all (a lone surrogate) is written escaped."""
    read = json.loads(written_for(Alert(event="job.unknown", detail=value or "-")))["detail"]
    valid = not any("\ud800" <= char <= "\udfff" for char in value)
    assert read == (value or "-") if valid else "\\u" in read.lower()


@given(events.mixed_runs)
def test_a_terminal_is_not_steered_by_values(run: list[Event]) -> None:
    """On a terminal too each event is one line, and the only escape sequences are our own colours."""
    text = written_for(*run, terminal=True).decode()
    assert len(text.splitlines()) == len(run)
    assert not UNSAFE.search(re.sub(r"\x1b\[\d+(;\d+)?m", "", text))
    assert "\x1b[31mred" not in text


@pytest.mark.parametrize("terminal", [False, True], ids=["json", "console"])
def test_a_traceback_shows_no_local_variables(*, terminal: bool) -> None:
    """A logged exception tells where it happened and never what the variables held."""

    def use(logger: FilteringBoundLogger) -> None:
        key = SECRET.encode()
        try:
            int(f"{len(key)}?")
        except ValueError:
            logger.exception("app.failed")

    data = written(use, terminal=terminal)
    assert b"ValueError" in data
    assert b"test_logs.py" in data
    assert SECRET.encode() not in data


def test_events_have_no_field_for_a_secret() -> None:
    """No event can carry a key, a prompt, a body or headers: there is nowhere to put them (`params` is opted into)."""
    names = {
        field.name for kind in (UpstreamCall, HttpRequest, JobEnded, WebhookDelivery, Alert) for field in fields(kind)
    }
    words = {word for name in names - {"key_id"} for word in name.split("_")}
    assert not words & {
        "key",
        "secret",
        "token",
        "authorization",
        "prompt",
        "body",
        "params",
        "headers",
        "url",
        "query",
    }


def test_less_than_the_level_is_not_written() -> None:
    """At level warning an info line leaves nothing."""

    def use(logger: FilteringBoundLogger) -> None:
        logger.info("quiet")
        logger.warning("loud")

    data = written(use, level="warning")
    assert json.loads(data)["event"] == "loud"
    assert json.loads(written_for(REQUEST, ENDED, level="warning"))["event"] == "job.ended"


def test_a_value_that_json_lacks_is_written_as_text() -> None:
    """An unknown type, or an integer of more than 64 bits, loses no line."""
    data = written(lambda logger: logger.info("odd", size=2**80, where=object))
    assert json.loads(data)["size"] == str(2**80)


def test_structlog_is_not_configured_globally() -> None:
    """Making a logger changes nothing for anybody else who uses structlog in this process."""
    before = structlog.get_config()
    written(lambda logger: logger.info("x"))
    assert structlog.get_config() == before
