"""What only raw bytes on a real server can show."""

from __future__ import annotations

import asyncio
import json

import pytest
from web.fakes import JOB_ID, KEY, Services
from web.raw import ask, connected, read_answer

HEAD = f"Host: gw:8080\r\nx-api-key: {KEY}\r\n"
JSON = HEAD + "Content-Type: application/json\r\n"


MADE_UP = (
    "..", "%2e%2e", "a%2Fb", "a%252fb", "a/../b", "%00", "a%00", "%0d%0aHost:x", "http://evil/", "//evil", "%3F",
    "a%3Fb", "%23", "a%23b", "@", "a@b", "a#b", "a" * 65, "a?key=1", "a;b", "a\\b", "\xe4", "%c3%a4", "a%20b", "a.%2e",
)  # fmt: skip


@pytest.mark.parametrize("prefix", ["/v2/", "/v1/", "/workflows/v2/", "/workflows/"])
async def test_made_up_models_reach_no_service(port: int, services: Services, prefix: str) -> None:
    """A model that is none is refused on its raw spelling, before any service sees it."""
    for model in MADE_UP:
        status, _, _ = await ask(port, f"POST {prefix}{model} HTTP/1.1\r\n{JSON}Content-Length: 2\r\n\r\n{{}}")
        assert status in {400, 404}, model
    assert services.seen == []


@pytest.mark.parametrize("path", ["/v2/m", f"/v2/requests/{JOB_ID}", "/v1/models", "/upload-asset"])
async def test_strange_methods_are_refused(port: int, path: str) -> None:
    """TRACE, PUT and the like are a JSON 405 on the wire too."""
    for method in ("TRACE", "PUT", "CONNECT", "PROPFIND", "FETCH", "get", "X-Y"):
        status, headers, body = await ask(port, f"{method} {path} HTTP/1.1\r\n{HEAD}\r\n")
        assert (status, json.loads(body)["code"]) == (405, "method_not_allowed"), method
        assert headers["allow"]


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ("Content-Length: 2\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"),
        ("Content-Length: 2\r\nContent-Length: 2\r\n", "{}"),
        ("Content-Length: +2\r\n", "{}"),
        ("Content-Length: -2\r\n", "{}"),
        ("Content-Length: 2\r\nHost: evil\r\n", "{}"),
        (f"Content-Length: 2\r\nX-API-Key: {KEY}\r\n", "{}"),
        (f"Content-Length: 2\r\nAuthorization: Bearer {KEY[:-1]}0\r\n", "{}"),
        ("Content-Length: 2\r\nIdempotency-Key: a\r\nIdempotency-Key: b\r\n", "{}"),
    ],
)
async def test_ambiguous_requests_are_400(port: int, services: Services, headers: str, body: str) -> None:
    """A request that two readers could take differently is refused."""
    status, _, _ = await ask(port, f"POST /v2/m HTTP/1.1\r\n{JSON}{headers}\r\n{body}")
    assert status == 400
    assert services.seen == []


@pytest.mark.parametrize(
    "request_head",
    [
        f"GET http://evil/v1/models HTTP/1.1\r\n{HEAD}\r\n",
        f"GET /v1/models#x HTTP/1.1\r\n{HEAD}\r\n",
        f"GET /v1/models HTTP/1.1\n{HEAD}\r\n",
        f"GET /v1/models HTTP/1.1\r\n{HEAD}A: b\r\n c\r\n\r\n",
        f"GET /v1/models HTTP/1.1\r\n{HEAD}A: {'x' * 65536}\r\n\r\n",
        "GET /v1/models HTTP/1.1\r\n" + HEAD + "A: b\r\n" * 1000 + "\r\n",
        "FETCH /v1/models\r\n\r\n",
        "\x16\x03\x01\x02\x00\x01",
    ],
    ids=["absolute target", "fragment", "bare LF", "obs-fold", "64 KiB header", "1,000 headers", "no HTTP", "TLS"],
)
async def test_a_malformed_or_oversized_head_is_a_400_problem(port: int, request_head: str) -> None:
    """What the parser refuses, and what it would drop in silence, is answered like any other problem."""
    status, headers, body = await ask(port, request_head)
    assert (status, headers["content-type"]) == (400, "application/problem+json")
    assert json.loads(body)["code"] == "invalid_request"


@pytest.mark.parametrize("sent", ["", "GET /v1/models HT", f"GET /v1/models HTTP/1.1\r\n{HEAD}"])
async def test_a_silent_or_slow_head_is_closed(port: int, sent: str) -> None:
    """A connection that does not finish a request's head in time is closed."""
    async with connected(port) as (reader, writer):
        writer.write(sent.encode())
        assert await reader.read() == b""


async def test_a_huge_body_is_refused_unread(port: int) -> None:
    """An announced 100 MB is a 413 before a byte of it is sent."""
    request = f"POST /v2/m HTTP/1.1\r\n{JSON}Content-Length: 104857600\r\n\r\n"
    status, headers, body = await ask(port, request)
    assert (status, headers["connection"], json.loads(body)["code"]) == (413, "close", "body_too_large")


async def test_who_sends_too_much_can_still_read_why(port: int) -> None:
    """The connection of a refused sender ends after the answer, not with a reset that destroys it."""
    size = 16 << 20
    async with connected(port) as (reader, writer):
        writer.write(f"POST /v2/m HTTP/1.1\r\n{JSON}Content-Length: {size}\r\n\r\n".encode())
        writer.write(b"a" * size)
        await writer.drain()
        status, _, _ = await read_answer(reader)
        assert status == 413
        assert await reader.read() == b""


async def test_an_endless_body_is_cut_at_the_limit(port: int, services: Services) -> None:
    """A chunked body without end is a 413 at the limit."""
    async with connected(port) as (reader, writer):
        writer.write(f"POST /v2/m HTTP/1.1\r\n{JSON}Transfer-Encoding: chunked\r\n\r\n".encode())
        writer.write(8 * (b"100\r\n" + b"a" * 256 + b"\r\n"))
        status, headers, body = await read_answer(reader)
    assert (status, headers["connection"], json.loads(body)["code"]) == (413, "close", "body_too_large")
    assert services.seen == []


@pytest.mark.parametrize("length", ["Content-Length: 10", "Transfer-Encoding: chunked"])
async def test_a_slow_body_is_given_up(port: int, services: Services, length: str) -> None:
    """A body that does not arrive within the deadline is a 408 and the connection ends."""
    status, headers, body = await ask(port, f"POST /v2/m HTTP/1.1\r\n{JSON}{length}\r\n\r\n")
    assert (status, headers["connection"], json.loads(body)["code"]) == (408, "close", "request_timeout")
    assert services.seen == []


async def test_a_chunked_body_within_the_limit_is_whole(port: int, services: Services) -> None:
    """A body in pieces arrives as one, and the connection goes on."""
    async with connected(port) as (reader, writer):
        writer.write(f"POST /v2/m HTTP/1.1\r\n{JSON}Transfer-Encoding: chunked\r\n\r\n5\r\n".encode())
        writer.write(b'{"a":\r\n2\r\n1}\r\n0\r\n\r\n')
        status, _, _ = await read_answer(reader)
        writer.write(f"GET /v2/requests/{JOB_ID}/status HTTP/1.1\r\n{HEAD}\r\n".encode())
        again, _, _ = await read_answer(reader)
    assert (status, again) == (200, 200)
    assert services.seen[0].body == b'{"a":1}'


UPGRADE = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"


@pytest.mark.parametrize("apart", [False, True])
async def test_a_body_of_a_client_that_would_upgrade_is_its_body(port: int, services: Services, *, apart: bool) -> None:
    """Java's HttpClient offers h2c with its first request: the body is read, never taken for another request."""
    body = f"GET /nowhere HTTP/1.1\r\n{HEAD}\r\n"
    other = f"GET /v2/requests/{JOB_ID}/status HTTP/1.1\r\n{HEAD}{UPGRADE}\r\n"
    async with connected(port) as (reader, writer):
        writer.write(f"POST /v2/m HTTP/1.1\r\n{JSON}{UPGRADE}Content-Length: {len(body)}\r\n\r\n".encode())
        if apart:
            await writer.drain()
            await asyncio.sleep(0.01)
        writer.write((body + 2 * other).encode())
        statuses = [(await read_answer(reader))[0] for _ in range(3)]
    assert statuses == [400, 200, 200]  # the body is no JSON; what follows is answered in its turn
    assert len(services.requests) == 3


async def test_a_submit_that_would_upgrade_runs(port: int, services: Services) -> None:
    """A wish for another protocol changes nothing about a submit."""
    status, _, _ = await ask(port, f'POST /v2/m HTTP/1.1\r\n{JSON}{UPGRADE}Content-Length: 7\r\n\r\n{{"a":1}}')
    assert status == 200
    assert services.seen[0].body == b'{"a":1}'


async def test_trailers_are_no_headers(port: int, services: Services) -> None:
    """What stands behind a chunked body can't carry the key, nor stand in the way of what the head said."""
    chunked = "Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n"
    no_key = f"Host: gw\r\nContent-Type: application/json\r\n{chunked}x-api-key: {KEY}\r\n\r\n"
    status, _, _ = await ask(port, f"POST /v2/m HTTP/1.1\r\n{no_key}")
    assert (status, services.seen) == (401, [])
    status, _, _ = await ask(port, f"POST /v2/m HTTP/1.1\r\n{JSON}{chunked}Host: evil\r\nx-api-key: evil\r\n\r\n")
    assert status == 200


@pytest.mark.parametrize(
    "begun",
    [
        "GET /v1/models HTTP/1.1\r\nA: ",
        "GET /v1/models HTTP/1.1\r\n",
        f"POST /v2/m HTTP/1.1\r\n{JSON}Transfer-Encoding: chunked\r\n\r\n2\r\n{{}}\r\n0\r\nA: ",
        f"POST /v2/m HTTP/1.1\r\n{JSON}Transfer-Encoding: chunked\r\n\r\n2;",
    ],
    ids=["value", "name", "trailer", "chunk extension"],
)
async def test_what_never_ends_is_refused_early(port: int, begun: str) -> None:
    """A header without end is not kept until the deadline for it: that was memory and time without bound."""
    async with connected(port) as (reader, writer):
        writer.write(begun.encode())
        writer.write(b"a" * (1 << 20))
        status, headers, _ = await read_answer(reader)
    assert (status, headers["connection"]) == (400, "close")


async def test_a_stacked_transfer_encoding_is_refused(port: int, services: Services) -> None:
    """A body said to be compressed underneath is not read as if it were not."""
    body = "Transfer-Encoding: gzip, chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"
    status, _, _ = await ask(port, f"POST /v2/m HTTP/1.1\r\n{JSON}{body}")
    assert (status, services.seen) == (415, [])


GARBAGE = ("GARBAGE GARBAGE\r\n\r\n", f"POST /v2/m HTTP/1.1\r\n{JSON}Transfer-Encoding: chunked\r\n\r\nzz\r\n")


@pytest.mark.parametrize("garbage", GARBAGE, ids=["head", "body"])
async def test_a_submit_is_answered_whatever_comes_after_it(port: int, services: Services, garbage: str) -> None:
    """What follows a submit and is malformed takes no answer away from it: 400 for a job that runs would be a lie."""
    submit = f"POST /v2/m HTTP/1.1\r\n{JSON}Content-Length: 2\r\n\r\n{{}}"
    async with connected(port) as (reader, writer):
        writer.write((submit + garbage).encode())
        status, _, body = await read_answer(reader)
        rest = await reader.read()
    assert (status, json.loads(body)["status"], len(services.seen)) == (200, "QUEUED", 1)
    assert b"200 OK" not in rest


async def test_a_caller_who_leaves_early_starts_nothing(port: int, services: Services) -> None:
    """A body cut off by its sender reaches no service and leaves one event."""
    async with connected(port) as (_, writer):
        writer.write(f'POST /v2/m HTTP/1.1\r\n{JSON}Content-Length: 9\r\n\r\n{{"a'.encode())
        await writer.drain()
    await asyncio.wait_for(services.noted.wait(), 5)
    assert [event.status for event in services.requests] == [499]
    assert services.seen == []
