"""What webhooks need of the outside: deliveries on record, and a way to send a message."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from gateway.core.tenant import Secret
from gateway.core.webhook import Announcement, Answer, Delivery, Noted, Owed, Taken


class Deliveries(Protocol):
    """Deliveries on record. Every method raises `StoreUnavailable`; each may be run twice."""

    async def take(self, tenant: str, *, limit: int, each: int, under_way: Mapping[str, int], lease_s: float) -> Taken:
        """Lease deliveries that are due, at most ``limit`` and to one receiver at most ``each`` with those under way.

        Those to a receiver that has enough, or that was down a moment ago, are put off.
        """

    async def read(self, tenant: str, owed: Owed) -> Announcement | None:
        """Read what sending a delivery takes; None where it is not owed (any more)."""

    async def note(self, tenant: str, job_id: str, noted: Noted) -> bool:
        """Record an attempt; False where it was recorded before."""


class WebhookSender(Protocol):
    """Sends a signed message, once. Never raises for what a receiver or its network does."""

    async def send(self, url: str, message_id: str, body: bytes, secrets: tuple[Secret, ...]) -> Answer:
        """Send a message; the answer says how that went."""


class WebhookStore(Protocol):
    """Deliveries and endpoints as operators see them. Every method raises `StoreUnavailable`."""

    async def unsettled(self, tenant: str, *, limit: int) -> Sequence[str]:
        """List jobs whose delivery is pending, failed or was not made: at most ``limit`` of each kind."""

    async def delivery(self, tenant: str, job_id: str) -> Delivery | None:
        """Read a job's delivery; None where none is or was owed."""

    async def again(self, tenant: str, job_id: str) -> bool:
        """Owe the delivery of a job that has ended once more, at once; False where there is none."""

    async def secret(self, tenant: str) -> Secret:
        """Read the tenant's signing secret; made where there is none."""

    async def rotate(self, tenant: str, *, overlap_s: int) -> Secret:
        """Make a new signing secret; the old one signs too for so long."""

    async def disabled(self, tenant: str) -> str | None:
        """Read which endpoint of the tenant answered 410, if it has not been enabled since."""

    async def enable(self, tenant: str) -> bool:
        """Send to the tenant's endpoint again; False where it was not disabled."""
