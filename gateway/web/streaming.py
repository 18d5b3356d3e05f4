"""Bodies of the vendor on their way to the tenant: which headers may pass, and chunks as they come."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Mapping
from typing import Final

from starlette.types import Receive, Send

from gateway.web.exchange import HeaderList

RESPONSE = frozenset({"content-type", "x-generation-time", "x-seed-value", "x-cost", "x-remaining-credits"})
"""What may come back. ``x-remaining-credits`` is the tenant's own by then; ``content-length`` is set with the body."""
LARGE_BYTES: Final = 64 * 1024
"""Smaller bodies leave in one piece."""
SLICE_BYTES: Final = 256 * 1024
_VALUE = re.compile(r"[\x20-\x7e]{1,1024}")


def response_headers(headers: Mapping[str, str]) -> HeaderList:
    """Pick the vendor's headers that a tenant may see."""
    return [
        (name.encode("ascii"), value.encode("ascii"))
        for name, value in ((name.lower(), value) for name, value in headers.items())
        if name in RESPONSE and _VALUE.fullmatch(value)
    ]


async def sliced(body: bytes) -> AsyncIterator[bytes]:
    """Give a large body bit by bit: the next one when the caller has taken most of those before it."""
    for start in range(0, len(body), SLICE_BYTES):
        yield body[start : start + SLICE_BYTES]


async def stream(
    chunks: AsyncIterator[bytes], receive: Receive, send: Send, *, stalled_s: float
) -> BaseException | None:
    """Send chunks until they end or the caller leaves, or takes nothing for so long; the iterator is closed anyway.

    Returns:
        What cut the stream off: the iterator's own exception, `CancelledError` where the caller left, `TimeoutError`
        where it stalled, or None where the body went out whole.
    """
    pump = asyncio.create_task(_pump(chunks, send, stalled_s))
    gone = asyncio.create_task(left(receive))
    try:
        await asyncio.wait({pump, gone}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        pump.cancel()
        gone.cancel()
        ended, _ = await asyncio.gather(pump, gone, return_exceptions=True)
        close = getattr(chunks, "aclose", None)
        if close is not None:
            await close()
    return ended


async def _pump(chunks: AsyncIterator[bytes], send: Send, stalled_s: float) -> None:
    async for chunk in chunks:
        async with asyncio.timeout(stalled_s):
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
    async with asyncio.timeout(stalled_s):
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def left(receive: Receive) -> None:
    """Return when the caller has left: a server tells it through ``receive``, and swallows what is sent after."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def linger(receive: Receive, *, seconds: float) -> None:
    """Drain what the caller still sends, for a while.

    Closing a socket with unread bytes resets it, and a reset takes the answer away before it was read (RFC 9112
    section 9.6).
    """
    try:
        async with asyncio.timeout(seconds):
            while (await receive()).get("more_body", False):
                pass
    except TimeoutError:
        return
