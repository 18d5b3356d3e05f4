"""Result bodies at rest: as they are while small, deflated where that pays."""

from __future__ import annotations

import asyncio
import zlib
from typing import Final

PACK_FROM_BYTES: Final = 4096
"""Smaller bodies, which nearly all are, cost nothing to read."""
THREAD_FROM_BYTES: Final = 256 * 1024
"""Larger bodies are packed and unpacked in a thread: zlib lets the event loop go on meanwhile."""
PACKED: Final = "zlib"
_LEVEL: Final = 1
_SAMPLE_BYTES: Final = 64 * 1024
_WORTH: Final = 0.8
_MOST_SHRUNK: Final = 8


async def pack(body: bytes) -> tuple[bytes, str]:
    """Return a body as it is stored, and how it was packed: `PACKED`, or empty for one that is stored as it is."""
    if len(body) < PACK_FROM_BYTES:
        return body, ""
    packed = await asyncio.to_thread(_deflated, body) if len(body) >= THREAD_FROM_BYTES else _deflated(body)
    return (body, "") if packed is None else (packed, PACKED)


async def unpack(body: bytes, how: bytes | None) -> bytes:
    """Return a body as it was given to `pack`."""
    if not how:
        return body
    if len(body) < THREAD_FROM_BYTES // _MOST_SHRUNK:
        return zlib.decompress(body)
    return await asyncio.to_thread(zlib.decompress, body)


def _deflated(body: bytes) -> bytes | None:
    """Deflate a body; None where its beginning shows that it does not pay, as for pictures and video."""
    sample = body[:_SAMPLE_BYTES]
    packed = zlib.compress(sample, _LEVEL)
    if len(packed) > _WORTH * len(sample):
        return None
    return packed if len(sample) == len(body) else zlib.compress(body, _LEVEL)
