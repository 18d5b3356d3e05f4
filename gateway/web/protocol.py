"""What an ASGI application can't see of a request: its raw target, the size of its head, and how long that takes.

uvicorn drops the fragment and the authority of a target, bounds no head, and waits for one for ever.
"""

from __future__ import annotations

import asyncio
import re
from http import HTTPMethod, HTTPStatus
from typing import Final, Self
from urllib.parse import unquote

from httptools import HttpParserError, HttpParserUpgrade
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from gateway.web.cycle import EXTENSIONS, Cycle, RefusedCycle
from gateway.web.exchange import Answer
from gateway.web.gate import Gate, is_short
from gateway.web.problems import problem

HEAD_DEADLINE_S: Final = 10.0
LAST_WORDS_S: Final = 1.0
MAX_HEADERS: Final = 100
MAX_HEAD_BYTES: Final = 32 * 1024
_ALLOW: Final = (b"allow", b"GET, HEAD, POST")
_REQUEST_LINE: Final = re.compile(rb"([\w!#$%&'*+.^`|~-]+) /[^ \r\n]* HTTP/1\.[01]\r\n")
_MALFORMED: Final = "the request is not well-formed HTTP/1.1, or its head is too large"


class StrictProtocol(HttpToolsProtocol):
    """uvicorn's HTTP/1.1 with a bounded head and origin-form targets only (RFC 9112 section 3.2.1).

    Whatever the parser refuses (Content-Length with Transfer-Encoding, obs-fold, bare LF and the like) is a 400 too.
    """

    head_deadline_s = HEAD_DEADLINE_S
    gate: Gate | None = None
    _deadline: asyncio.TimerHandle | None = None
    _head_bytes = 0
    _in_head = False
    _idle: asyncio.TimerHandle | None = None
    _idle_since = 0.0
    _refusal: Answer | None = None

    @classmethod
    def behind(cls, gate: Gate) -> type[Self]:
        """Return a protocol all of whose connections meet a gate."""
        return type(cls.__name__, (cls,), {"gate": gate})

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn
        """Expect a first request soon; a connection too many is told so and closed."""
        super().connection_made(transport)
        self._idle_since = self.loop.time()
        if self.gate is not None and len(self.connections) > self.gate.max_connections:
            transport.write(self.gate.refusal(self.server_state.default_headers, keep_alive=False))
            transport.close()
        else:
            self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the deadlines."""
        self._head_is_there()
        if self._idle is not None:
            self._idle.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read on; a head that has begun and is not whole by then is given a deadline (so most need no timer).

        A wish to speak another protocol from here on is not granted: the request is answered like any other.
        """
        try:
            self.parser.feed_data(data)
        except HttpParserError:
            self._refuse(data)
        except HttpParserUpgrade:
            pass
        if self._in_head and self._deadline is None and not self.transport.is_closing():
            self._expect_head()

    def on_message_begin(self) -> None:
        """Start to count; the scope is made when the head is whole."""
        self.url = b""
        self.headers = []
        self.expect_100_continue = False
        self._head_bytes = 0
        self._in_head = True

    def on_url(self, url: bytes) -> None:
        """Bound the target."""
        self._head_bytes += len(url)
        if self._head_bytes > MAX_HEAD_BYTES:
            raise ValueError("the head is too large")
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Bound the headers."""
        self._head_bytes += len(name) + len(value)
        headers, name = self.headers, name.lower()
        headers.append((name, value))
        if len(headers) > MAX_HEADERS or self._head_bytes > MAX_HEAD_BYTES:
            raise ValueError("the head is too large")
        if name == b"expect" and value.lower() == b"100-continue":
            self.expect_100_continue = True

    def on_headers_complete(self) -> None:
        """Refuse a target that is not a path: a fragment or an authority would be dropped in silence."""
        self._in_head = False
        self._head_is_there()
        method = self.parser.get_method()
        if method == b"CONNECT":
            self._refusal = problem("method_not_allowed", headers=[_ALLOW])
            raise ValueError("this is no proxy")
        if not self.url.startswith(b"/") or b"#" in self.url:
            raise ValueError("the request target must be a path")
        self._begin(method, self.parser.get_http_version())

    def _begin(self, method: bytes, version: str) -> None:
        """Do as uvicorn does, with a cycle of ours; its upgrades, root path and limit on requests are not used here."""
        keep_alive, app = version != "1.0" and self.parser.should_keep_alive(), self.app
        gate = self.gate
        if gate is not None and not gate.shedder.calm:
            keep_alive = keep_alive and not gate.shedder.draining
            if gate.refuses(method):
                if self._refused(gate, keep_alive=keep_alive):
                    return
                app = gate.refuse
        raw_path, _, query = self.url.partition(b"?")
        path = raw_path.decode("ascii")
        self.scope = {
            "type": "http",
            "asgi": {"version": self.asgi_version, "spec_version": "2.3"},
            "http_version": version,
            "method": method.decode("ascii"),
            "server": self.server,
            "client": self.client,
            "scheme": self.scheme,  # type: ignore[typeddict-item]  # as in uvicorn
            "root_path": "",
            "path": unquote(path) if "%" in path else path,
            "raw_path": raw_path,
            "query_string": query,
            "headers": self.headers,
            "extensions": EXTENSIONS,  # type: ignore[typeddict-item]  # a read-only view
        }
        former: RequestResponseCycle | None = self.cycle
        self.cycle = cycle = Cycle(
            scope=self.scope,
            transport=self.transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=self.access_log,
            default_headers=self.server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=self.expect_100_continue,
            keep_alive=keep_alive,
            on_response=self.on_response_complete,
        )
        if former is None or former.response_complete:
            self._start_asgi_task(cycle, app)
        else:
            self.flow.pause_reading()
            self.pipeline.appendleft((cycle, app))

    def _refused(self, gate: Gate, *, keep_alive: bool) -> bool:
        """Refuse a request unread; False, and nothing is written, where its body is long or it is not its turn."""
        former: RequestResponseCycle | None = self.cycle
        if not (is_short(self.headers) and (former is None or former.response_complete)):
            return False
        self.cycle = RefusedCycle()
        self.transport.write(gate.refusal(self.server_state.default_headers, keep_alive=keep_alive))
        if not keep_alive:
            self.transport.close()
        self.on_response_complete()
        return True

    def on_response_complete(self) -> None:
        """Go on with the next request, as uvicorn does, but without a new timer after each answer (1 us of CPU)."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        self._idle_since = self.loop.time()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        elif self._idle is None:
            self._idle = self.loop.call_later(self.timeout_keep_alive, self._close_idle)

    def shutdown(self) -> None:
        """End the connection as uvicorn does, but not while a request may well be on its way.

        An idle one that was opened or answered just now has a moment yet; what it asks is answered, and ends it.
        """
        cycle: RequestResponseCycle | None = self.cycle
        busy = cycle is not None and not cycle.response_complete
        rest_s = LAST_WORDS_S - (self.loop.time() - self._idle_since)
        if busy or (rest_s <= 0 and not self._in_head):
            super().shutdown()
        elif not self.transport.is_closing():
            self.loop.call_later(max(rest_s, LAST_WORDS_S / 10), self.shutdown)

    def _close_idle(self) -> None:
        """Close a connection that has had nothing to do for long enough; else look again when that may be so."""
        busy = self._in_head or not self.cycle.response_complete
        rest_s = self.timeout_keep_alive - (0.0 if busy else self.loop.time() - self._idle_since)
        if rest_s > 0:
            self._idle = self.loop.call_later(rest_s, self._close_idle)
        else:
            self.transport.close()

    def _refuse(self, data: bytes) -> None:
        """Answer what can't be parsed, as a problem like any other, and close."""
        self._head_is_there()
        answer = self._refusal or _refusal_of(data)
        lines = [b"HTTP/1.1 %d %s" % (answer.status, HTTPStatus(answer.status).phrase.encode())]
        lines += [name + b": " + value for name, value in answer.headers]
        body = answer.body if isinstance(answer.body, bytes) else b""
        self.transport.write(b"\r\n".join([*lines, b"connection: close", b"", body]))
        self.transport.close()

    def _expect_head(self) -> None:
        self._deadline = self.loop.call_later(self.head_deadline_s, self.transport.close)

    def _head_is_there(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


def _refusal_of(data: bytes) -> Answer:
    """Tell a made-up method, which the parser refuses too, from what is no HTTP (RFC 9110 section 9.1)."""
    line = _REQUEST_LINE.match(data)
    if line is not None and line[1].decode("ascii") not in HTTPMethod.__members__:
        return problem("method_not_allowed", headers=[_ALLOW])
    return problem("invalid_request", detail=_MALFORMED)
