"""What an ASGI application can't see of a request: its raw target, the size of its head, and how long that takes.

uvicorn drops the fragment and the authority of a target, bounds no head, and waits for one for ever.
"""

from __future__ import annotations

import asyncio
from typing import Final, Self
from urllib.parse import unquote

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from gateway.web.cycle import EXTENSIONS, Cycle, RefusedCycle
from gateway.web.exchange import Answer
from gateway.web.gate import Gate, is_short
from gateway.web.malformed import last_answer, no_proxy, refusal_of, refuse, without_upgrade
from gateway.web.stall import StallWatch

HEAD_DEADLINE_S: Final = 10.0
LAST_WORDS_S: Final = 1.0
MAX_HEADERS: Final = 100
MAX_HEAD_BYTES: Final = 32 * 1024
MAX_UNREAD_BYTES: Final = 2 * MAX_HEAD_BYTES
"""The parser keeps a header until its end, and tells nothing of it before: so much it may be fed to no effect."""


class StrictProtocol(HttpToolsProtocol):
    """uvicorn's HTTP/1.1 with a bounded head and origin-form targets only (RFC 9112 section 3.2.1).

    Whatever the parser refuses (Content-Length with Transfer-Encoding, obs-fold, bare LF and the like) is a 400 too.
    """

    head_deadline_s = HEAD_DEADLINE_S
    gate: Gate | None = None
    _deadline: asyncio.TimerHandle | None = None
    _stall: StallWatch
    _head_bytes = 0
    _unread_bytes = 0
    _in_head = False
    _idle: asyncio.TimerHandle | None = None
    _idle_since = 0.0
    _refusal: Answer | None = None
    _upgrading = False
    _running: RequestResponseCycle | None = None

    @classmethod
    def behind(cls, gate: Gate) -> type[Self]:
        """Return a protocol all of whose connections meet a gate."""
        return type(cls.__name__, (cls,), {"gate": gate})

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn
        """Expect a first request soon; a connection too many is told so and closed."""
        super().connection_made(transport)
        self._stall = StallWatch(transport, self.loop)
        self._idle_since = self.loop.time()
        gate = self.gate
        if gate is not None and len(self.connections) > gate.max_connections:
            transport.write(gate.refusal(self.server_state.default_headers, keep_alive=False))
            transport.close()
        else:
            self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the deadlines, and tell the request in hand, which may have others behind it."""
        self._head_is_there()
        self._stall.stop()
        if self._idle is not None:
            self._idle.cancel()
        running = self._running
        if running is not None and not running.response_complete:
            running.disconnected = True
            running.message_event.set()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """Hold answers back: the caller does not take what was written."""
        super().pause_writing()
        self._stall.start()

    def resume_writing(self) -> None:
        """Go on: the caller has taken all of it."""
        super().resume_writing()
        self._stall.stop()

    def data_received(self, data: bytes) -> None:
        """Read on; a head that has begun and is not whole by then is given a deadline (so most need no timer).

        A wish to speak another protocol from here on is not granted: the request is answered like any other.
        """
        self._unread_bytes += len(data)
        try:
            self.parser.feed_data(data)
        except HttpParserError:
            self._refuse(data)
        except HttpParserUpgrade as upgrade:
            self._read_without_upgrade(data[upgrade.args[0] :])
        if self._unread_bytes > MAX_UNREAD_BYTES and not self.transport.is_closing():
            self._refuse(data)
        elif self._in_head and self._deadline is None and not self.transport.is_closing():
            self._expect_head()

    def _read_without_upgrade(self, rest: bytes) -> None:
        """Read a request again that the parser takes to end with its head, its body for another protocol's bytes."""
        while self._upgrading:
            self._upgrading = False
            parser = self.parser
            rest = without_upgrade(parser.get_method(), self.url, parser.get_http_version(), self.headers) + rest
            self.parser = HttpRequestParser(self)
            self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn's own
            try:
                self.parser.feed_data(rest)
            except HttpParserError:
                self._refuse(rest)
            except HttpParserUpgrade as upgrade:
                rest = rest[upgrade.args[0] :]

    def on_message_begin(self) -> None:
        """Start to count; the scope is made when the head is whole."""
        self._unread_bytes = 0
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
        """Bound the headers. What stands behind a body is none (RFC 9110 section 6.5.1): a trailer can carry a key."""
        if not self._in_head:
            return
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
            self._refusal = no_proxy()
            raise ValueError("this is no proxy")
        if not self.url.startswith(b"/") or b"#" in self.url:
            raise ValueError("the request target must be a path")
        self._upgrading = self.parser.should_upgrade()
        if not self._upgrading:
            self._begin(method, self.parser.get_http_version())

    def on_body(self, body: bytes) -> None:
        """Take a part of a body."""
        self._unread_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Tell that the body is whole."""
        if not self._upgrading:
            super().on_message_complete()

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
            if not self.pipeline:
                self._running = former
            self.pipeline.appendleft((cycle, app))

    def _refused(self, gate: Gate, *, keep_alive: bool) -> bool:
        """Refuse a request unread; False, and nothing is written, where its body is long or it is not its turn."""
        former: RequestResponseCycle | None = self.cycle
        its_turn = (former is None or former.response_complete) and not self.flow.write_paused
        if not (is_short(self.headers) and its_turn):
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
            self._running, app = self.pipeline.pop()
            self._start_asgi_task(self._running, app)
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
        """Answer what can't be parsed and close, after the answers to what came before it."""
        self._head_is_there()
        cycle: RequestResponseCycle | None = self.cycle
        if cycle is not None and not cycle.response_complete:
            if cycle.more_body and self.pipeline:
                cycle.more_body = False
                self.pipeline[0] = (cycle, refuse)
            if not cycle.more_body:
                cycle.keep_alive = False
                self.flow.pause_reading()
                return
        if cycle is None or cycle.response_complete or not cycle.response_started:
            self.transport.write(last_answer(self._refusal or refusal_of(data)))
        self.transport.close()

    def _expect_head(self) -> None:
        self._deadline = self.loop.call_later(self.head_deadline_s, self.transport.close)

    def _head_is_there(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
