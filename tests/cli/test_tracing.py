from __future__ import annotations

import sys

import pytest

from gateway.cli.tracing import tracing_from
from gateway.errors import ConfigError
from gateway.telemetry.tracing import Tracing

ENDPOINT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": ""},
        {"OTEL_SERVICE_NAME": "x"},
        ENDPOINT | {"OTEL_TRACES_EXPORTER": "none"},
        ENDPOINT | {"OTEL_SDK_DISABLED": "true"},
    ],
)
def test_tracing_is_off_unless_a_collector_is_named(environ: dict[str, str]) -> None:
    """Without a collector, or where it is switched off, nothing traces."""
    assert type(tracing_from(environ)) is Tracing


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        (ENDPOINT | {"OTEL_TRACES_EXPORTER": "zipkin"}, "OTEL_TRACES_EXPORTER: 'zipkin'"),
        (ENDPOINT | {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "OTEL_EXPORTER_OTLP_PROTOCOL: 'grpc'"),
    ],
)
def test_what_is_not_spoken_is_refused(environ: dict[str, str], message: str) -> None:
    """An exporter or a protocol that would silently send nothing is refused at start."""
    with pytest.raises(ConfigError, match=message):
        tracing_from(environ)


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where tracing is asked for and OpenTelemetry is not installed, the start says what to install."""
    monkeypatch.delitem(sys.modules, "gateway.telemetry.otel", raising=False)
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    with pytest.raises(ConfigError, match=r"segmind-gateway\[otel\]"):
        tracing_from(ENDPOINT)
