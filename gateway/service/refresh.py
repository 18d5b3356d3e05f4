"""Keeps the rules of a process up to date with what ``gateway apply`` wrote last."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from gateway.catalogue.loader import Catalogue
from gateway.core.events import Alert
from gateway.core.ports import Sink
from gateway.errors import StoreUnavailable
from gateway.service.rules import Rules
from gateway.service.spec import DeclaredRules
from gateway.service.tenants import TenantStore

REFRESH_S = 2.0


class RulesRefresher:
    """Reads policy and models every 2 s. Tenants are not among them: admission reads those in Redis itself.

    Args:
        store: Where `gateway apply` writes.
        rules: What to keep up to date.
        shipped: The catalogue that declared models are put over.
    """

    def __init__(
        self,
        store: TenantStore,
        rules: Rules,
        shipped: Catalogue,
        sink: Sink,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._store = store
        self._rules = rules
        self._shipped = shipped
        self._sink = sink
        self._sleep = sleep
        self._seen: DeclaredRules | None = None

    async def run(self) -> None:
        """Refresh until cancelled; while the store does not answer, the last rules stay."""
        while True:
            try:
                await self.refresh()
            except StoreUnavailable:
                pass
            except ValueError as exc:
                self._sink(Alert(event="rules.unreadable", detail=f"the last rules stay in force: {exc}"))
            await self._sleep(REFRESH_S)

    async def refresh(self) -> None:
        """Read the rules once. Raises `StoreUnavailable`, or `ValueError` for rules of a version not understood."""
        declared = await self._store.rules()
        if declared is None or declared == self._seen:
            return
        catalogue = self._shipped.with_overrides(declared.models, media_urls=declared.policy.media_urls)
        self._rules.replace(declared.policy, catalogue)
        self._seen = declared
