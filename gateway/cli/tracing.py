"""Whether a process traces: as the standard ``OTEL_*`` variables say."""

from __future__ import annotations

from collections.abc import Mapping

from gateway import __version__
from gateway.errors import ConfigError
from gateway.telemetry.tracing import UNTRACED, Tracing

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")


def tracing_from(environ: Mapping[str, str]) -> Tracing:
    """Return what traces by an environment; without a collector in it nothing does, and nothing is imported.

    Raises:
        ConfigError: Tracing is asked for, and can't be had.
    """
    exporter = environ.get("OTEL_TRACES_EXPORTER", "")
    wanted = exporter == "otlp" or any(environ.get(name) for name in _ENDPOINTS)
    if not wanted or exporter == "none" or environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return UNTRACED
    if exporter not in {"", "otlp"}:
        raise ConfigError(f"OTEL_TRACES_EXPORTER: {exporter!r} is none of otlp and none")
    protocol = next((environ[name] for name in _PROTOCOLS if environ.get(name)), "http/protobuf")
    if protocol != "http/protobuf":
        raise ConfigError(f"OTEL_EXPORTER_OTLP_PROTOCOL: {protocol!r} is not spoken here; http/protobuf is")
    try:
        from gateway.telemetry.otel import OpenTelemetry  # noqa: PLC0415  an extra: absent, or not to be paid for
    except ModuleNotFoundError as exc:
        raise ConfigError("OTEL_EXPORTER_OTLP_ENDPOINT: tracing needs segmind-gateway[otel] installed") from exc
    return OpenTelemetry(environ, __version__)
