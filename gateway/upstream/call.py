"""One call to the vendor: what is asked, and the one event that tells of each attempt."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import field
from typing import Final

from gateway.core.breaker import BreakerName
from gateway.core.events import Outcome, UpstreamCall
from gateway.core.ports import Sink
from gateway.core.record import record
from gateway.core.vendor import CallContext
from gateway.errors import UpstreamError, UpstreamInvalidResponse, UpstreamRefused, UpstreamUnsent
from gateway.upstream import wire


def host_of(operation: str) -> BreakerName:
    """Return which of the vendor's hosts an operation is one of."""
    return "storage" if operation == "upload" else "history" if operation == "history" else "inference"


@record(kw_only=True)
class Call:
    """What is asked of the vendor.

    Attributes:
        operation: As in `gateway.core.events.UpstreamCall`.
        key: Name of the company key.
        headers: What of the tenant's goes upstream.
        accepts: Statuses that are answers, besides 2xx.
        max_bytes: Largest body of the answer.
        read_s: Longest silence, in seconds; ``total_s`` longest exchange.
    """

    operation: str
    method: str
    url: str
    key: str
    context: CallContext
    max_bytes: int
    read_s: float
    total_s: float
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    accepts: frozenset[int] = frozenset()

    @property
    def host(self) -> BreakerName:
        """Which of the vendor's hosts is called."""
        return host_of(self.operation)

    @property
    def write(self) -> bool:
        """Tell whether the call can start, and cost, something."""
        return self.method == "POST"


class Record:
    """What becomes of one attempt. `end` emits its event, once.

    Args:
        ended: Called with it.

    Attributes:
        key: Name of the company key that it is made with.
        status: HTTP status, once an answer's head has come.
        cost: Nanocredits that the vendor reported.
        upstream_id: The vendor's id, once known.
    """

    def __init__(
        self, call: Call, *, attempt: int, sink: Sink, clock: Callable[[], float], ended: Callable[[], None]
    ) -> None:
        self.status: int | None = None
        self.cost: int | None = None
        self.key = call.key
        self.upstream_id = call.context.upstream_id
        self._call = call
        self._attempt = attempt
        self._sink = sink
        self._clock = clock
        self._started_s = clock()
        self._tell_end = ended
        self._ended = False

    def end(self, failure: BaseException | None = None, *, note: str = "") -> None:
        """Emit the event, unless that has been done."""
        if self._ended:
            return
        self._ended = True
        self._tell_end()
        context = self._call.context
        self._sink(
            UpstreamCall(
                operation=self._call.operation,
                outcome=_outcome(failure),
                latency_ms=(self._clock() - self._started_s) * 1000,
                tenant=context.tenant,
                key_id=context.key_id,
                model=context.model,
                job_id=context.job_id,
                upstream_id=self.upstream_id,
                request_id=context.request_id,
                trace_id=wire.trace_id(self._call.headers, context.traceparent),
                upstream_status=self.status,
                attempt=self._attempt,
                cost=self.cost,
                held=context.held,
                error=_error(failure) or note,
            )
        )


_OUTCOMES: Final[tuple[tuple[type[BaseException], Outcome], ...]] = (
    (UpstreamUnsent, "unsent"),
    (UpstreamRefused, "refused"),
    (UpstreamInvalidResponse, "invalid"),
)


def _outcome(failure: BaseException | None) -> Outcome:
    if failure is None:
        return "ok"
    return next((outcome for kind, outcome in _OUTCOMES if isinstance(failure, kind)), "ambiguous")


def _error(failure: BaseException | None) -> str:
    """Say why in words of ours: the vendor's can echo a prompt."""
    if failure is None or isinstance(failure, UpstreamRefused):
        return ""
    if isinstance(failure, asyncio.CancelledError):
        return "cancelled"
    return str(failure) if isinstance(failure, UpstreamError) else type(failure).__name__
