"""What an ASGI application can't see of a request: its raw target, the size of its head, and how long that takes.

uvicorn drops the fragment and the authority of a target, bounds no head, and waits for one for ever.
"""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from gateway.web.exchange import Answer
from gateway.web.problems import problem

HEAD_DEADLINE_S: Final = 10.0
MAX_HEADERS: Final = 100
MAX_HEAD_BYTES: Final = 32 * 1024
_MALFORMED: Final = "the request is not well-formed HTTP/1.1, or its head is too large"


class StrictProtocol(HttpToolsProtocol):
    """uvicorn's HTTP/1.1 with a bounded head and origin-form targets only (RFC 9112 section 3.2.1).

    Whatever the parser refuses (Content-Length with Transfer-Encoding, obs-fold, bare LF and the like) is a 400 too.
    """

    head_deadline_s = HEAD_DEADLINE_S
    _deadline: asyncio.TimerHandle | None = None
    _head_bytes = 0
    _refusal: Answer | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn
        """Expect a first request soon."""
        super().connection_made(transport)
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the deadline."""
        self._head_is_there()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        """Start to count."""
        super().on_message_begin()
        self._head_bytes = 0
        if self._deadline is None:
            self._expect_head()

    def on_url(self, url: bytes) -> None:
        """Bound the target."""
        self._grow(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Bound the headers."""
        self._grow(len(name) + len(value))
        super().on_header(name, value)
        if len(self.headers) > MAX_HEADERS:
            raise ValueError("too many headers")

    def on_headers_complete(self) -> None:
        """Refuse a target that is not a path: a fragment or an authority would be dropped in silence."""
        self._head_is_there()
        if self.parser.get_method() == b"CONNECT":
            self._refusal = problem("method_not_allowed", headers=[(b"allow", b"GET, POST")])
            raise ValueError("this is no proxy")
        if not self.url.startswith(b"/") or b"#" in self.url:
            raise ValueError("the request target must be a path")
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:
        """Answer what can't be parsed, as a problem like any other, and close."""
        del msg  # names the parser's state, which helps nobody
        self._head_is_there()
        answer = self._refusal or problem("invalid_request", detail=_MALFORMED)
        lines = [b"HTTP/1.1 %d %s" % (answer.status, HTTPStatus(answer.status).phrase.encode())]
        lines += [name + b": " + value for name, value in answer.headers]
        body = answer.body if isinstance(answer.body, bytes) else b""
        self.transport.write(b"\r\n".join([*lines, b"connection: close", b"", body]))
        self.transport.close()

    def _grow(self, size: int) -> None:
        self._head_bytes += size
        if self._head_bytes > MAX_HEAD_BYTES:
            raise ValueError("the head is too large")

    def _expect_head(self) -> None:
        self._deadline = self.loop.call_later(self.head_deadline_s, self.transport.close)

    def _head_is_there(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
