from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.types import Receive, Scope, Send
from web.connection import Connection

from gateway.web.cycle import MAX_JOINED_BYTES, WHOLE
from gateway.web.exchange import HeaderList

BODY = b'{"status":"QUEUED"}'
JSON = (b"content-type", b"application/json")


def sized(body: bytes) -> HeaderList:
    """Return headers that fit a body."""
    return [JSON, (b"content-length", b"%d" % len(body)), (b"age", b"3")]


async def sent(request: bytes, status: int, headers: HeaderList, body: bytes, *, whole: bool) -> list[bytes]:
    """Return what is written for an answer that is given in one message or in two, and if the connection then ends."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if whole:
            assert WHOLE in scope["extensions"]
            await send({"type": WHOLE, "status": status, "headers": headers, "body": body})
        else:
            await send({"type": "http.response.start", "status": status, "headers": headers})
            await send({"type": "http.response.body", "body": body})

    connection = Connection(app)
    await connection.receive(request)
    return [*connection.transport.writes, b"closed" if connection.transport.closed else b"kept"]


@pytest.mark.parametrize("status", [200, 204, 422, 503])
@pytest.mark.parametrize(
    ("headers", "body"),
    [
        (sized(BODY), BODY),
        (sized(b""), b""),
        ([JSON], BODY),
        ([*sized(BODY), (b"connection", b"close")], BODY),
        ([JSON, (b"transfer-encoding", b"chunked")], BODY),
        ([*sized(BODY), (b"X-Upper", b"1")], BODY),
        ([*sized(BODY), (b"bad name", b"1")], BODY),
        ([*sized(BODY), (b"x-a", b"b\r\nx-forged: 1")], BODY),
        ([*sized(BODY), (b"x-a", b"b\nc")], BODY),
        (sized(BODY), BODY[1:]),
        (sized(BODY), BODY + b" "),
        (sized(bytes(MAX_JOINED_BYTES + 1)), bytes(MAX_JOINED_BYTES + 1)),
    ],
)
@pytest.mark.parametrize(
    "request_head",
    ["GET / HTTP/1.1", "HEAD / HTTP/1.1", "GET / HTTP/1.0", "GET / HTTP/1.1\r\nConnection: close"],
)
async def test_one_message_reads_like_two(request_head: str, headers: HeaderList, body: bytes, status: int) -> None:
    """The bytes on the wire, and whether the connection goes on, are the same as uvicorn's own, refusals included."""
    request = f"{request_head}\r\nHost: gw\r\n\r\n".encode()
    *one, end = await sent(request, status, headers, body, whole=True)
    *two, its_end = await sent(request, status, headers, body, whole=False)
    assert (b"".join(one), end) == (b"".join(two), its_end)
    assert b"x-forged" not in b"".join(one)


async def test_a_whole_answer_is_one_write() -> None:
    """Head and body leave in one piece."""
    assert len(await sent(b"GET / HTTP/1.1\r\nHost: gw\r\n\r\n", 200, sized(BODY), BODY, whole=True)) == 2


@given(st.dictionaries(st.binary(max_size=5), st.binary(max_size=5), max_size=3))
async def test_no_header_gets_past_the_check(more: dict[bytes, bytes]) -> None:
    """Whatever bytes stand in names and values, one message is taken or refused just as two are."""
    headers = [*sized(BODY), *more.items()]
    request = b"GET / HTTP/1.1\r\nHost: gw\r\n\r\n"
    one = await sent(request, 200, headers, BODY, whole=True)
    two = await sent(request, 200, headers, BODY, whole=False)
    assert b"".join(one) == b"".join(two)
