"""What tracing puts around the parts of a data plane. `gateway.telemetry.otel` does it; this by itself adds nothing."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Final

from aiohttp import ClientMiddlewareType
from starlette.types import ASGIApp

from gateway.core.job import Job
from gateway.core.ports import CallWatch, Sink


class Tracing:
    """What a process has that does not trace: everything is handed back as it came.

    Attributes:
        every_call: Every call to Redis is to be timed, not some.
    """

    every_call = False

    def served(self, app: ASGIApp) -> ASGIApp:
        """Trace each request of an application."""
        return app

    def sent(self) -> Sequence[ClientMiddlewareType]:
        """Return what traces each call to the vendor."""
        return ()

    def watched(self, watch: CallWatch) -> CallWatch:
        """Trace each call to Redis that is made for a request or a poll."""
        return watch

    def told(self, sink: Sink) -> Sink:
        """Give what events say to the spans that they belong to."""
        return sink

    def poll(self, _job: Job) -> AbstractContextManager[object]:
        """Trace a poll as part of its job's own trace, while the block runs."""
        return nullcontext()

    def close(self) -> None:
        """Deliver what is traced so far; waits for some seconds at most."""


UNTRACED: Final = Tracing()
"""What everything has unless it is told otherwise."""
