"""Upstream clients for tests: the real pool with short timeouts, its events kept, its pauses not slept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from gateway.core.events import Event, UpstreamCall
from gateway.core.tenant import Secret
from gateway.core.vendor import CallContext
from gateway.upstream.auth import KeyRing
from gateway.upstream.client import SegmindUpstream, forget
from gateway.upstream.transport import Limits, Timeouts, Transport

KEY = "SG_00112233aabbccdd"
MODEL = "kling-2.6-standard-motion-control"
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
CONTEXT = CallContext(
    tenant="video-team",
    key_id="a1b2c3d4",
    model=MODEL,
    job_id="job-1",
    request_id="req-1",
    traceparent=f"00-{TRACE}-00f067aa0ba902b7-01",
    held=941_500_000,
)
QUICK = Timeouts(connect_s=2, pool_s=2, read_s=2, sync_read_s=2, total_s=5, upload_total_s=5, sync_total_s=5)


@dataclass(slots=True)
class Bench:
    """A client and what it told."""

    client: SegmindUpstream
    events: list[Event] = field(default_factory=list)
    pauses: list[float] = field(default_factory=list)

    @property
    def calls(self) -> list[UpstreamCall]:
        """The events, all of which are calls."""
        return [event for event in self.events if isinstance(event, UpstreamCall)]


def bench(
    url: str,
    *,
    keys: KeyRing | None = None,
    limits: Limits | None = None,
    timeouts: Timeouts = QUICK,
    learn_balance: Callable[[int], None] = forget,
    **transport: Any,  # noqa: ANN401 passed on as it is
) -> Bench:
    """Open a client; the caller closes it."""
    limits = limits or Limits()
    events: list[Event] = []
    pauses: list[float] = []

    def keep(event: Event) -> None:
        events.append(event)

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    client = SegmindUpstream(
        base_url=url,
        storage_url=url,
        history_url=url,
        keys=keys or KeyRing({"default": Secret(KEY)}),
        sink=keep,
        transport=Transport(limits=limits, **{"draw": lambda: 1.0, **transport}),
        limits=limits,
        timeouts=timeouts,
        sleep=sleep,
        learn_balance=learn_balance,
        jitter=lambda: 0.5,
        wall=lambda: 1_700_000_000.0,
    )
    return Bench(client, events, pauses)
