"""What can't be read as HTTP/1.1 as we take it, and the answers to it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from http import HTTPMethod, HTTPStatus
from typing import Any, Final

from gateway.web.exchange import Answer
from gateway.web.problems import problem

_ALLOW: Final = (b"allow", b"GET, HEAD, POST")
_REQUEST_LINE: Final = re.compile(rb"([\w!#$%&'*+.^`|~-]+) /[^ \r\n]* HTTP/1\.[01]\r\n")
_DETAIL: Final = "the request is not well-formed HTTP/1.1, or its head is too large"


def no_proxy() -> Answer:
    """Answer CONNECT."""
    return problem("method_not_allowed", headers=[_ALLOW])


def refusal_of(data: bytes) -> Answer:
    """Tell a made-up method, which the parser refuses too, from what is no HTTP (RFC 9110 section 9.1)."""
    line = _REQUEST_LINE.match(data)
    if line is not None and line[1].decode("ascii") not in HTTPMethod.__members__:
        return problem("method_not_allowed", headers=[_ALLOW])
    return problem("invalid_request", detail=_DETAIL)


def last_answer(answer: Answer) -> bytes:
    """Write a whole answer that ends its connection."""
    lines = [b"HTTP/1.1 %d %s" % (answer.status, HTTPStatus(answer.status).phrase.encode())]
    lines += [name + b": " + value for name, value in answer.headers]
    body = answer.body if isinstance(answer.body, bytes) else b""
    return b"\r\n".join([*lines, b"connection: close", b"", body])


async def refuse(_scope: object, _receive: object, send: Any) -> None:  # noqa: ANN401 uvicorn's and Starlette's differ
    """Answer, as an ASGI application, a request whose body is malformed: when those before it have been answered."""
    answer = problem("invalid_request", detail=_DETAIL)
    await send({"type": "http.response.start", "status": answer.status, "headers": answer.headers})
    await send({"type": "http.response.body", "body": answer.body})


def without_upgrade(method: bytes, target: bytes, version: str, headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Write a head that was well-formed again, without its wish to speak another protocol (RFC 9110 section 7.8)."""
    lines = [b"%b %b HTTP/%b" % (method, target, version.encode("ascii"))]
    lines += [name + b": " + value for name, value in headers if name != b"upgrade"]
    return b"\r\n".join([*lines, b"", b""])
