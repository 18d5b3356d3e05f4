"""A budget for retries: so many for each call, so that a vendor in trouble is not asked twice as often."""

from __future__ import annotations


class RetryBudget:
    """Tokens: each call adds a share of one, each retry takes a whole one.

    Args:
        share: Of calls that may be tried again, from 0 to 1.
        most: Tokens kept at most, so that an hour without failures does not pay for a storm.
    """

    def __init__(self, share: float = 0.1, most: float = 10.0) -> None:
        self._share = share
        self._most = most
        self._tokens = 0.0

    def called(self) -> None:
        """Count a call."""
        self._tokens = min(self._tokens + self._share, self._most)

    def take(self) -> bool:
        """Take a retry, if there is one."""
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True
