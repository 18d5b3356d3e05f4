from __future__ import annotations

from gateway.core.events import Alert, Event
from gateway.telemetry.sinks import fan_out

EVENT = Alert(event="job.unknown", detail="x")


class Recorder:
    """A sink that works."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def __call__(self, event: Event) -> None:
        """Keep the event."""
        self.events.append(event)


class Broken:
    """A sink with a mistake in it."""

    def __call__(self, event: Event) -> None:
        """Raise."""
        raise RuntimeError(event.name)


def test_a_failing_sink_is_counted_and_stops_no_other() -> None:
    """Each event reaches every sink that works, the caller sees no error, and each loss is told by the sink's name."""
    before, after = Recorder(), Recorder()
    failed: list[str] = []
    sink = fan_out(before, Broken(), after, failed=failed.append)
    sink(EVENT)
    sink(EVENT)
    assert before.events == after.events == [EVENT, EVENT]
    assert failed == ["Broken", "Broken"]
