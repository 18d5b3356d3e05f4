"""The log: one structlog line for each event. No standard-library routing, no global configuration."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from logging import ERROR, INFO, WARNING
from types import MappingProxyType
from typing import Any, BinaryIO, Final, assert_never, cast

import structlog
from structlog.dev import ConsoleRenderer
from structlog.processors import TimeStamper, add_log_level, format_exc_info
from structlog.typing import FilteringBoundLogger, Processor

from gateway.core.credits import format_credits
from gateway.core.events import Alert, Event, HttpRequest, JobEnded, UpstreamCall, WebhookDelivery
from gateway.telemetry.render import escape_values, render_json, write_traceback
from gateway.telemetry.writer import LineWriter

_SERVER_ERROR: Final = 500

MINOR_ALERTS: Final = frozenset(
    {
        "job.adopted",
        "job.cost_estimated",
        "job.expired",
        "job.overdue",
        "job.released",
        "job.unknown",
        "tracker.repaired",
    }
)
"""Alerts that the gateway deals with by itself: warnings. Every other one is an error."""


def _credits(nano: int) -> str:
    return format_credits(nano)


def _milliseconds(value: float) -> float:
    return round(value, 3)


_FORMATS: Final[Mapping[str, Callable[[Any], object]]] = MappingProxyType(
    {"cost": _credits, "held": _credits, "overrun": _credits, "latency_ms": _milliseconds}
)
_FIELDS: Final[Mapping[type[Event], tuple[str, ...]]] = MappingProxyType(
    {
        kind: tuple(field.name for field in fields(kind))
        for kind in (UpstreamCall, HttpRequest, JobEnded, WebhookDelivery)
    }
    | {Alert: tuple(field.name for field in fields(Alert) if field.name != "event")}
)


def configure_logs(lines: LineWriter, level: str, *, terminal: bool) -> FilteringBoundLogger:
    """Return a logger that writes JSON, or coloured text where a person reads it.

    Args:
        lines: Where it writes: neither raises nor waits.
        level: ``debug``, ``info``, ``warning`` or ``error``; less is not written.
        terminal: The stream behind ``lines`` is a terminal.
    """
    logger = structlog.wrap_logger(
        # It calls `write` and `flush`, which a LineWriter has, and nothing else.
        structlog.BytesLogger(cast("BinaryIO", lines)),
        processors=_console() if terminal else _json(),
        wrapper_class=structlog.make_filtering_bound_logger(level),
        context_class=dict,
    )
    return cast("FilteringBoundLogger", logger.bind())


def _json() -> list[Processor]:
    return [add_log_level, TimeStamper(fmt="iso", utc=True), format_exc_info, render_json]


def _console() -> list[Processor]:
    render = ConsoleRenderer(colors=True, sort_keys=False, exception_formatter=write_traceback)
    return [
        add_log_level,
        TimeStamper(fmt="iso", utc=True),
        escape_values,
        lambda logger, method, event_dict: str(render(logger, method, event_dict)).encode(errors="backslashreplace"),
    ]


class LogSink:
    """Write one line for each event."""

    def __init__(self, logger: FilteringBoundLogger) -> None:
        self._logger = logger

    def __call__(self, event: Event) -> None:
        """Write an event's line: its fields but for empty ones, amounts as text in credits."""
        name = event.event if isinstance(event, Alert) else event.name
        self._logger.log(_level(event), name, **_values(event))


def _values(event: Event) -> dict[str, object]:
    values: dict[str, object] = {}
    for name in _FIELDS[type(event)]:
        value = getattr(event, name)
        if value is None or value == "":
            continue
        form = _FORMATS.get(name)
        values[name] = value if form is None else form(value)
    return values


def _level(event: Event) -> int:
    if isinstance(event, UpstreamCall):
        return INFO if event.outcome == "ok" else WARNING
    if isinstance(event, HttpRequest):
        return WARNING if event.status >= _SERVER_ERROR else INFO
    if isinstance(event, JobEnded):
        return WARNING if event.overrun else INFO
    if isinstance(event, WebhookDelivery):
        return INFO if event.outcome == "delivered" else WARNING
    if isinstance(event, Alert):
        return WARNING if event.event in MINOR_ALERTS else ERROR
    assert_never(event)
