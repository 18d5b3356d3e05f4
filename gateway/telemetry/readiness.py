"""Whether this process may be sent requests, told by those who know and asked by the ops port."""

from __future__ import annotations

from collections.abc import Mapping
from threading import Lock


class Readiness:
    """Reasons for not being ready, by check; ready when there are none. Thread-safe.

    Args:
        reasons: What stands in the way from the start (``store="not checked yet"``).
    """

    def __init__(self, **reasons: str) -> None:
        self._lock = Lock()
        self._reasons: Mapping[str, str] = reasons

    @property
    def reasons(self) -> Mapping[str, str]:
        """What stands in the way now; never changed afterwards."""
        return self._reasons

    def block(self, check: str, reason: str) -> None:
        """Say why a check (``store``, ``draining``) keeps requests away; without secrets, it is served."""
        with self._lock:
            self._reasons = {**self._reasons, check: reason}

    def clear(self, check: str) -> None:
        """Say that a check is all right."""
        with self._lock:
            self._reasons = {name: reason for name, reason in self._reasons.items() if name != check}

    def say(self, check: str, reason: str) -> None:
        """Say how a check stands: why it keeps requests away, or an empty text where it does not."""
        if reason:
            self.block(check, reason)
        else:
            self.clear(check)
