"""One request on a connection, and the answer to it: uvicorn's, but that a whole answer leaves in one write.

uvicorn writes head and body apart: two system calls and two packets (7 us of CPU an answer, measured, of which a read
has about 50), and holds two patterns against each header (3 us for ten). What is not simply whole goes uvicorn's way.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, cast

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

from gateway.web.exchange import HeaderList

if TYPE_CHECKING:
    from uvicorn._types import ASGISendEvent

WHOLE: Final = "gateway.whole"
"""An ASGI extension of ours: a message with status, headers and body of a whole answer, in place of the two."""
EXTENSIONS: Final[Mapping[str, Mapping[object, object]]] = MappingProxyType({WHOLE: MappingProxyType({})})
MAX_JOINED_BYTES: Final = 64 * 1024
"""Copying a larger body to its head costs more than the second write."""
_PLAIN: Final = frozenset(
    {
        *(b"age", b"allow", b"cache-control", b"content-length", b"content-location", b"content-type", b"date"),
        *(b"idempotent-replayed", b"preference-applied", b"ratelimit", b"ratelimit-policy", b"retry-after"),
        *(b"www-authenticate", b"x-credits-held", b"x-credits-remaining", b"x-remaining-credits", b"x-request-id"),
        b"x-upstream-request-id",
    }
)
"""Headers that are valid and tell nothing about the connection."""
_CONTROLS: Final = bytes(code for code in range(128) if (code < ord(" ") and chr(code) != "\t") or chr(code) == "\x7f")


class Cycle(RequestResponseCycle):
    """uvicorn's, which also takes the message `WHOLE`."""

    async def send(self, message: Mapping[str, Any]) -> None:
        """Take an ASGI message. Raises `RuntimeError` for what is out of turn or no valid header."""
        if message["type"] != WHOLE:
            await super().send(cast("ASGISendEvent", message))
            return
        status, headers, body = message["status"], message["headers"], message["body"]
        if not self._write_whole(status, headers, body):
            await super().send({"type": "http.response.start", "status": status, "headers": headers})
            await super().send({"type": "http.response.body", "body": body})

    def _write_whole(self, status: int, headers: HeaderList, body: bytes) -> bool:
        """Write an answer; False, and nothing is written, where there is anything special about it."""
        lines = self.default_headers + headers
        names = dict(lines)
        if (
            self.response_started
            or self.disconnected
            or not self.keep_alive
            or self.flow.write_paused
            or self.access_log
            or len(body) > MAX_JOINED_BYTES
            or names.get(b"content-length") != b"%d" % len(body)
            or not _PLAIN.issuperset(names)
            or self.scope["method"] == "HEAD"
        ):
            return False
        head = b"\r\n".join(map(b": ".join, lines))
        if len(head) - len(head.translate(None, _CONTROLS)) != 2 * (len(lines) - 1):
            return False  # a line break, or the like, in a value
        self.transport.write(b"".join((STATUS_LINE[status], head, b"\r\n\r\n", body)))
        self.response_started = self.response_complete = True
        self.waiting_for_100_continue = False
        self.message_event.set()
        self.on_response()
        return True


class RefusedCycle(RequestResponseCycle):
    """A request that was answered unread: its body is nobody's, and the next one may come."""

    def __init__(self) -> None:
        self.response_complete = True
        self.disconnected = self.keep_alive = False
        self.message_event = asyncio.Event()
