"""Tells an unknown key from a dataset that is not the ledger: a flushed or wrong Redis knows no key at all."""

from __future__ import annotations

from gateway.core.movements import Denied
from gateway.errors import StoreNotReady
from gateway.store.connect import RedisClient
from gateway.store.readiness import read_epoch


class EpochGuard:
    """Looks at ``ledger:epoch`` when a caller is unknown, and only then: the other requests need no second trip."""

    def __init__(self, client: RedisClient) -> None:
        self._client = client

    async def denied(self, code: str) -> Denied:
        """Return the refusal of a caller about whom nothing may be told.

        Raises:
            StoreNotReady: This dataset is no ledger, so nothing it does not know means anything.
            StoreUnavailable: Redis did not answer.
        """
        if code == "unauthenticated" and await read_epoch(self._client) is None:
            raise StoreNotReady("ledger:epoch is missing: a new, flushed or wrong Redis; run `gateway apply`")
        return Denied(code)
