"""Several sinks as one."""

from __future__ import annotations

from collections.abc import Callable

from gateway.core.events import Event
from gateway.core.ports import Sink


def fan_out(*sinks: Sink, failed: Callable[[str], None]) -> Sink:
    """Return a sink that hands each event to all of ``sinks``, in order, and never raises.

    Args:
        sinks: A failure of one keeps no event from the others.
        failed: Told the class name of a sink that raised; must not raise itself.
    """

    def hand_on(event: Event) -> None:
        for sink in sinks:
            try:
                sink(event)
            except Exception:  # noqa: BLE001 whatever breaks in telemetry must not break what it tells of
                failed(type(sink).__name__)

    return hand_on
