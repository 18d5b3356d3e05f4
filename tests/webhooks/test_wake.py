"""A tenant that comes to owe something at the very moment at which its service ends."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

from support.ledger import Store
from support.raw_upstream import RawUpstream
from support.receiver import host_of, takes
from support.webhooks import Notifying, end_job, notifying, until

from gateway.core.queue import Claim
from gateway.core.webhook import Taken
from gateway.service.deliveries import Deliveries


class Told:
    """The queue of tenants; what is claimed from it is known."""

    def __init__(self, due: Any) -> None:  # noqa: ANN401 the whole port, passed on
        self._due = due
        self.claimed = asyncio.Event()

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 as above
        return getattr(self._due, name)

    async def claim(self, **options: Any) -> Claim:  # noqa: ANN401 as above
        """See `Due.claim`."""
        claimed: Claim = await self._due.claim(**options)
        if claimed.entries:
            self.claimed.set()
        return claimed


class Late:
    """What is owed; the last answer in vain of a service comes late, and a job ends meanwhile."""

    def __init__(self, deliveries: Deliveries) -> None:
        self._deliveries = deliveries
        self.meanwhile: Any = None
        self.in_vain = 0

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 as above
        return getattr(self._deliveries, name)

    async def take(self, tenant: str, **options: Any) -> Taken:  # noqa: ANN401 as above
        """See `Deliveries.take`."""
        taken = await self._deliveries.take(tenant, **options)
        self.in_vain += not taken.owed and not options["under_way"]
        if self.in_vain == 2 and self.meanwhile is not None:
            meanwhile, self.meanwhile = self.meanwhile, None
            await meanwhile()
        return taken


async def test_a_job_that_ends_while_its_tenant_is_let_go(store: Store, receiver: RawUpstream) -> None:
    """Who was told of it, but had looked just before, looks again: it does not wait for the lease to run out."""
    receiver.reply = takes
    credential = await store.caller("team", webhook_url=f"{receiver.url}/hook", webhook_hosts=(host_of(receiver),))
    late, told = Late(store.deliveries), Told(store.hooks)
    slow: Any = replace(store, deliveries=late, hooks=told)  # type: ignore[arg-type]  # they pass on the rest of the port
    ended: list[str] = []

    async with notifying(slow) as notified:

        async def meanwhile() -> None:
            told.claimed.clear()
            ended.append(await end_job(store, credential))
            await notified.wake()
            await told.claimed.wait()

        late.meanwhile = meanwhile
        first = await end_job(store, credential)
        await notified.wake()
        assert (await notified.delivery(first, attempts=1)).state == "delivered"
        await until(lambda: _delivered(notified, ended))


async def _delivered(notified: Notifying, ended: list[str]) -> bool:
    return bool(ended) and (await notified.delivery(ended[0], attempts=1)).state == "delivered"
