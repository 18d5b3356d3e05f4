"""A receiver of webhooks: a real server on loopback that keeps what came and answers as the test says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from standardwebhooks import Webhook
from support.raw_upstream import RawUpstream, Received, Reply, raw_upstream

OK = b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n"


async def takes(writer: asyncio.StreamWriter) -> None:
    """Answer 204."""
    writer.write(OK)


@asynccontextmanager
async def receiving(reply: Reply = takes) -> AsyncIterator[RawUpstream]:
    """Listen on a free loopback port until the block ends."""
    async with raw_upstream(reply) as receiver:
        yield receiver


def host_of(receiver: RawUpstream) -> str:
    """Name a receiver as an allow-list does."""
    return receiver.url.removeprefix("http://")


def verified(message: Received, secret: str) -> dict[str, Any]:
    """Read a message as receivers should: only if its signature is good."""
    told: dict[str, Any] = Webhook(secret).verify(message.body, message.headers)
    return told


def jobs_told(receiver: RawUpstream, secret: str) -> list[str]:
    """List the jobs of which a receiver was told, in the order in which it was, each message verified."""
    return [verified(message, secret)["data"]["request_id"] for message in receiver.requests]
