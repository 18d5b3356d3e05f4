"""Names that tests against the sandbox share: a key, a model, and a clock that is moved by hand."""

from __future__ import annotations

from dataclasses import dataclass

KEY = "SG_00000000000000aa"
KLING = "kling-2.6-standard-motion-control"


@dataclass
class HandClock:
    """A source of time that stands still until `now` is set; epoch seconds."""

    now: float = 1_790_000_000.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now
