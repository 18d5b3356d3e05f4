"""A real OTLP receiver, and what of its spans a test asks for."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from opentelemetry.proto.trace.v1.trace_pb2 import Span
from oteltap import OtelTapHttpProtobufReceiver, OtelTapHttpProtobufReceiverSettings
from support.gateway import eventually


@dataclass(slots=True)
class Traces:
    """The spans that came so far."""

    url: str
    spans: list[Span] = field(default_factory=list)

    def named(self, name: str) -> list[Span]:
        """Return the spans of a name."""
        return [span for span in self.spans if span.name == name]

    async def first(self, name: str, fits: Callable[[Span], bool] = lambda _: True) -> Span:
        """Wait for a span."""

        async def found() -> Span | None:
            return next((span for span in self.named(name) if fits(span)), None)

        return await eventually(found)

    def env(self) -> dict[str, str]:
        """Return the variables by which a process sends its spans here, soon."""
        return {"OTEL_EXPORTER_OTLP_ENDPOINT": self.url, "OTEL_BSP_SCHEDULE_DELAY": "50"}


def attributes(span: Span) -> dict[str, object]:
    """Return a span's attributes as plain values."""
    return {item.key: getattr(item.value, str(item.value.WhichOneof("value"))) for item in span.attributes}


@asynccontextmanager
async def receiving_traces() -> AsyncIterator[Traces]:
    """Receive spans on loopback until the block ends."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings = OtelTapHttpProtobufReceiverSettings(
        http_port=port,
        listen_on_all_interfaces=False,
        print_traces_as_ndjson=False,
        print_logs_as_ndjson=False,
        print_metrics_as_ndjson=False,
    )
    async with OtelTapHttpProtobufReceiver(settings) as receiver:
        traces = Traces(f"http://127.0.0.1:{port}")

        async def collect() -> None:
            async for span in receiver.stream_traces():
                traces.spans.append(span)

        task = asyncio.create_task(collect())
        try:
            yield traces
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
