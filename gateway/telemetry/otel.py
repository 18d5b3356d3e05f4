"""Traces by OpenTelemetry: a span for each request, Redis call, call to the vendor and poll. Needs ``gateway[otel]``.

Attributes come from events, which hold neither keys nor prompts; the texts of exceptions, which can, are left out.
What belongs to no request and no job (claims, sweeps, look-ups) is not traced.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import replace
from threading import Thread
from time import time_ns
from typing import Final

from aiohttp import ClientHandlerType, ClientMiddlewareType, ClientRequest, ClientResponse
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Span, SpanKind, StatusCode, Tracer
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.core.credits import format_credits
from gateway.core.events import Alert, Event, HttpRequest, JobEnded, UpstreamCall
from gateway.core.job import Job
from gateway.core.ports import CallWatch, Sink
from gateway.telemetry.tracing import Tracing

CLOSE_S: Final = 3.0
_SERVER_ERROR: Final = 500
_W3C: Final = TraceContextTextMapPropagator()
_NAMES: Final = (b"traceparent", b"tracestate")


class OpenTelemetry(Tracing):
    """Send spans to the collector that the standard ``OTEL_*`` variables name.

    Args:
        environ: Tells whether the service was given a name; the rest the SDK reads by itself.
        version: Of the gateway.
    """

    every_call = True

    def __init__(self, environ: Mapping[str, str], version: str) -> None:
        named = {} if environ.get("OTEL_SERVICE_NAME") else {"service.name": "segmind-gateway"}
        resource = Resource.create({**named, "service.version": version})
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("gateway", version)
        self._calling: ContextVar[Span | None] = ContextVar("call to the vendor", default=None)

    def served(self, app: ASGIApp) -> ASGIApp:
        """See `Tracing.served`."""
        return _TracedApp(app, self._tracer)

    def sent(self) -> Sequence[ClientMiddlewareType]:
        """See `Tracing.sent`."""
        return (self._call,)

    def watched(self, watch: CallWatch) -> CallWatch:
        """See `Tracing.watched`."""
        return _TracedCalls(watch, self._tracer)

    def told(self, sink: Sink) -> Sink:
        """See `Tracing.told`."""
        complaints = logging.getLogger("opentelemetry")
        complaints.handlers = [_Complaints(sink)]
        complaints.propagate = False
        return _TracedSink(sink, self._calling)

    def poll(self, job: Job) -> AbstractContextManager[object]:
        """See `Tracing.poll`; a job that was submitted without a trace has none."""
        if job.traceparent is None:
            return nullcontext()
        return self._poll(_W3C.extract({"traceparent": job.traceparent}, Context()), job)

    def close(self) -> None:
        """See `Tracing.close`."""
        closing = Thread(target=self._provider.shutdown, name="otel-close", daemon=True)
        closing.start()
        closing.join(CLOSE_S)

    async def _call(self, request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
        """Begin a span with a call and send its context on; the call's event ends it (`_TracedSink`)."""
        if trace.get_current_span().get_span_context().is_valid:
            span = self._calling.get()
            if span is None:  # else aiohttp sends a read again, whose connection was dead
                span = self._tracer.start_span(f"{request.method} {request.url.host}", kind=SpanKind.CLIENT)
                self._calling.set(span)
            with trace.use_span(span, record_exception=False, set_status_on_exception=False):
                request.headers["traceparent"] = _injected()["traceparent"]
        return await handler(request)

    @contextmanager
    def _poll(self, context: Context, job: Job) -> Iterator[None]:
        attributes = {"gateway.tenant": job.tenant, "gateway.model": job.model, "gateway.job_id": job.id}
        span = self._tracer.start_span("job.poll", context, SpanKind.INTERNAL, attributes)
        with trace.use_span(span, end_on_exit=True, record_exception=False, set_status_on_exception=False):
            yield


class _TracedApp:
    """Serve each request in a span that continues the caller's trace; what is inside sees the span as the caller."""

    def __init__(self, app: ASGIApp, tracer: Tracer) -> None:
        self._app = app
        self._tracer = tracer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = {name.decode(): value.decode("latin-1") for name, value in scope["headers"] if name in _NAMES}
        span = self._tracer.start_span(scope["method"], _W3C.extract(given, Context()), SpanKind.SERVER)
        headers = [(name, value) for name, value in scope["headers"] if name not in _NAMES]
        with trace.use_span(span, end_on_exit=True, record_exception=False, set_status_on_exception=False):
            headers += [(name.encode(), value.encode()) for name, value in _injected().items() if name == "traceparent"]
            await self._app({**scope, "headers": headers}, receive, send)


class _TracedCalls:
    """Add a span for each call to Redis, once it is over."""

    def __init__(self, watch: CallWatch, tracer: Tracer) -> None:
        self._watch = watch
        self._tracer = tracer

    def observe_redis(self, operation: str, duration_s: float) -> None:
        self._watch.observe_redis(operation, duration_s)
        if trace.get_current_span().is_recording():
            now_ns = time_ns()
            attributes = {"db.system.name": "redis", "db.operation.name": operation}
            start_ns = now_ns - round(duration_s * 1e9)
            self._tracer.start_span(
                f"redis {operation}", kind=SpanKind.CLIENT, attributes=attributes, start_time=start_ns
            ).end(now_ns)

    def count_redis_failure(self) -> None:
        self._watch.count_redis_failure()
        trace.get_current_span().add_event("redis.failed")


class _TracedSink:
    """Tell spans what events say, then hand the events on, with the trace's id where they have none."""

    def __init__(self, sink: Sink, calling: ContextVar[Span | None]) -> None:
        self._sink = sink
        self._calling = calling

    def __call__(self, event: Event) -> None:
        span = trace.get_current_span()
        if isinstance(event, HttpRequest):
            _describe_request(span, event)
            if not event.trace_id and span.get_span_context().is_valid:
                event = replace(event, trace_id=trace.format_trace_id(span.get_span_context().trace_id))
        elif isinstance(event, UpstreamCall):
            call = self._calling.get()
            if call is not None:
                self._calling.set(None)
                _describe_call(call, event)
                call.end()
        elif isinstance(event, JobEnded):
            span.add_event(event.name, {"gateway.state": event.state, "gateway.cost": format_credits(event.cost)})
        elif isinstance(event, Alert):
            span.add_event(event.event)
        self._sink(event)


class _Complaints(logging.Handler):
    """Say in a line of ours that spans are lost; the SDK's own text may hold the collector's address and password."""

    def __init__(self, sink: Callable[[Event], None]) -> None:
        super().__init__(logging.WARNING)
        self._sink = sink

    def emit(self, record: logging.LogRecord) -> None:
        detail = f"spans may be lost, {record.name.rpartition('.')[2]} complains: see OTEL_EXPORTER_OTLP_ENDPOINT"
        self._sink(Alert(event="tracing.failed", detail=detail))


def _injected() -> dict[str, str]:
    carrier: dict[str, str] = {}
    _W3C.inject(carrier)
    return carrier


def _describe_request(span: Span, event: HttpRequest) -> None:
    span.update_name(f"{event.method} {event.route}")
    span.set_attributes(
        {
            "http.request.method": event.method,
            "http.route": event.route,
            "http.response.status_code": event.status,
            "gateway.request_id": event.request_id,
            "gateway.tenant": event.tenant,
            "gateway.model": event.model,
            "gateway.job_id": event.job_id,
            "gateway.code": event.code,
            "gateway.idempotent": event.idempotent,
        }
    )
    if event.status >= _SERVER_ERROR:
        span.set_status(StatusCode.ERROR, event.code)


def _describe_call(span: Span, event: UpstreamCall) -> None:
    span.update_name(f"segmind {event.operation}")
    span.set_attributes(
        {
            "gateway.operation": event.operation,
            "gateway.outcome": event.outcome,
            "gateway.attempt": event.attempt,
            "gateway.tenant": event.tenant,
            "gateway.model": event.model,
            "gateway.job_id": event.job_id,
            "gateway.upstream_id": event.upstream_id,
        }
    )
    if event.upstream_status is not None:
        span.set_attribute("http.response.status_code", event.upstream_status)
    if event.outcome != "ok":
        span.set_status(StatusCode.ERROR, event.outcome)
