"""What a request meets before the application: whether it is refused unread, and whether its connection goes on.

A refusal must cost next to nothing, or refusing two thirds of the requests takes the time that the others need. It is
one write of bytes that are there already, made as soon as the head is read; a request whose body can't simply be read
over goes the long way, to have it drained.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from gateway.service.shedding import Shedder
from gateway.web.problems import problem

MAX_SKIPPED_BYTES: Final = 64 * 1024
"""A longer body of a refused request is not simply read over on a connection that stays open."""
_ANSWER: Final = problem("overloaded")
_HEAD: Final = STATUS_LINE[_ANSWER.status] + b"".join(name + b": " + value + b"\r\n" for name, value in _ANSWER.headers)
_END: Final = b"\r\n\r\n" + (_ANSWER.body if isinstance(_ANSWER.body, bytes) else b"")
_LAST_END: Final = b"\r\nconnection: close" + _END
_METHODS: Final = frozenset({b"GET", b"POST"})
_STANDING: Final = frozenset({b"transfer-encoding", b"expect"})


@dataclass(frozen=True, slots=True)
class Gate:
    """What the connections of a server share.

    Attributes:
        shedder: Decides what is refused.
        refuse: Answers a refused request the long way.
        request_ids: Names the others.
        max_connections: More are answered 503 and closed as they come.
    """

    shedder: Shedder
    refuse: ASGIApp
    request_ids: Iterator[str]
    max_connections: int

    def refuses(self, method: bytes) -> bool:
        """Decide on a request: HEAD and whatever else is no read and no submit is answered as ever."""
        return method in _METHODS and self.shedder.refuses(write=method == b"POST")

    def refusal(self, default_headers: Iterable[tuple[bytes, bytes]], *, keep_alive: bool) -> bytes:
        """Write a whole answer 503 ``overloaded``."""
        date = b"".join(name + b": " + value + b"\r\n" for name, value in default_headers)
        request_id = next(self.request_ids).encode("ascii")
        return b"".join((_HEAD, date, b"x-request-id: ", request_id, _END if keep_alive else _LAST_END))


def is_short(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Tell whether a request's body, if it has one, may be read over."""
    given = dict(headers)
    return _STANDING.isdisjoint(given) and int(given.get(b"content-length", b"0")) <= MAX_SKIPPED_BYTES
