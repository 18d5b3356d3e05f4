"""Request bodies: bounded in bytes and in time, whatever the caller announces."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from gateway.errors import BodyTooLarge, InvalidRequest, Refused, UnsupportedMediaType
from gateway.service.room import Lease, Room
from gateway.web.exchange import Exchange

_MAX_LENGTH_DIGITS = 18


class CallerGone(Exception):
    """The connection ended before the body did: there is nobody to answer."""


def require_json(headers: Mapping[bytes, bytes]) -> None:
    """Refuse a body that does not say it is plain JSON.

    Raises:
        UnsupportedMediaType: Another content type, none at all, or a content or transfer encoding besides ``chunked``.
    """
    kind = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
    if kind != b"application/json":
        raise UnsupportedMediaType("the body must be application/json")
    if headers.get(b"content-encoding", b"identity").strip().lower() != b"identity":
        raise UnsupportedMediaType("the body must not have a Content-Encoding")
    if headers.get(b"transfer-encoding", b"chunked").strip().lower() != b"chunked":
        raise UnsupportedMediaType("the body's Transfer-Encoding must be chunked alone")


async def read_body(exchange: Exchange, room: Room, *, max_bytes: int, deadline_s: float, weight: int = 1) -> bytes:
    """Read the request's body to its end.

    Args:
        exchange: Gets the lease for what is read.
        room: Where that must fit.
        max_bytes: Largest body.
        deadline_s: Within which it must be there.
        weight: Bytes of memory that a byte of it may become.

    Raises:
        BodyTooLarge: Announced or sent more than ``max_bytes``; what is announced is refused unread.
        Refused: ``request_timeout``: the body took longer than ``deadline_s``; ``overloaded``: it does not fit.
        CallerGone: The caller left.
    """
    room.refuse_unless(weight * _announced(exchange.headers.get(b"content-length"), max_bytes))
    # Taken as it comes, not as announced: who announces a body and sends none holds no room.
    exchange.lease = lease = Lease(room)
    try:
        async with asyncio.timeout(deadline_s):
            body = await _receive(exchange, lease, max_bytes, weight)
    except TimeoutError:
        raise Refused("request_timeout", f"the body did not arrive within {deadline_s:g} s") from None
    exchange.body_read = True
    return body


def _announced(declared: bytes | None, max_bytes: int) -> int:
    if declared is None:
        return 0
    if not declared.isdigit():
        raise InvalidRequest("Content-Length is not a number")
    if len(declared) > _MAX_LENGTH_DIGITS or int(declared) > max_bytes:
        raise _too_large(max_bytes)
    return int(declared)


async def _receive(exchange: Exchange, lease: Lease, max_bytes: int, weight: int) -> bytes:
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await exchange.receive()
        if message["type"] == "http.disconnect":
            raise CallerGone
        chunk: bytes = message.get("body", b"")
        size += len(chunk)
        if size > max_bytes:
            raise _too_large(max_bytes)
        lease.grow_or_refuse(weight * len(chunk))
        chunks.append(chunk)
        if not message.get("more_body", False):
            return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def _too_large(max_bytes: int) -> BodyTooLarge:
    return BodyTooLarge(f"the body is larger than {max_bytes} bytes")
