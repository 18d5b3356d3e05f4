"""Abuse of the tenant API, byte by byte against a whole gateway: what it answers, and that nothing came of it."""

from __future__ import annotations

import asyncio
import json
from dataclasses import fields
from typing import Any, Final
from urllib.parse import urlsplit

import pytest
from support.gateway import Gateway, eventually
from support.vendor import KLING
from web.raw import connected, read_answer

from gateway.core.tenant import new_api_key
from gateway.service.keyfailures import LIMIT
from gateway.web.api import TenantApi
from gateway.web.protocol import StrictProtocol

JSON: Final = "Content-Type: application/json\r\n"
BODY: Final = "Content-Length: 2\r\n\r\n{}"
SUBMIT: Final = f"POST /v2/{KLING} HTTP/1.1\r\n"
MIB: Final = 1 << 20


def head(**headers: str) -> str:
    """Write the headers that every request needs."""
    return "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in {"Host": "gw", **headers}.items())


async def ask(gateway: Gateway, request: str) -> tuple[int, dict[str, str], dict[str, Any]]:
    """Send bytes and read one answer, which must be JSON."""
    async with connected(urlsplit(gateway.url).port or 0) as (reader, writer):
        writer.write(request.encode("latin-1"))
        status, headers, body = await asyncio.wait_for(read_answer(reader), 20)
        return status, headers, json.loads(body)


async def test_a01_a_key_that_opens_nothing_is_in_no_line(gateway: Gateway) -> None:
    """Whatever stands where a key should, in a header or the query, is answered alike and never logged."""
    _, stranger = new_api_key("nobody")
    canaries = ["canary-0001", "canary-0002-" + "k" * 10_000, "canary-0003-\xe9", stranger.reveal()]
    requests = [f"GET /v1/models HTTP/1.1\r\n{head(x_api_key=canary)}\r\n" for canary in canaries]
    requests.append(f"GET /v1/models?x-api-key=canary-0004 HTTP/1.1\r\n{head()}\r\n")
    answers = [await ask(gateway, request) for request in requests]
    assert [(status, body) for status, _, body in answers] == [(401, answers[0][2])] * len(requests)

    async def lines() -> bool:
        return len([line for line in gateway.lines() if line["event"] == "http.request"]) == len(requests)

    await eventually(lines)
    logged = gateway.log.getvalue()
    assert b"canary" not in logged
    assert stranger.reveal().encode() not in logged


async def test_a04_an_operators_token_is_no_tenants_key(gateway: Gateway) -> None:
    """What would open the control plane opens nothing here, nor is there any route of it."""
    status, _, _ = await ask(gateway, f"GET /v1/models HTTP/1.1\r\n{head(Authorization='Bearer adm-1')}\r\n")
    assert status == 401
    for path in ("/admin", "/admin/tenants", "/dashboard"):
        status, _, _ = await ask(gateway, f"GET {path} HTTP/1.1\r\n{head(x_api_key=gateway.key)}\r\n")
        assert status == 404


@pytest.mark.parametrize(
    ("line", "rest"),
    [
        (SUBMIT, "x-api-key: {key}\r\nx-api-key: {key}\r\n"),
        (SUBMIT, "Authorization: Bearer {other}\r\nx-api-key: {key}\r\n"),
        ("POST /v2/..%2fx HTTP/1.1\r\n", "x-api-key: {key}\r\n"),
        ("POST /v2/%0d%0aHost:x HTTP/1.1\r\n", "x-api-key: {key}\r\n"),
        (f"POST /v2/{'a' * 65} HTTP/1.1\r\n", "x-api-key: {key}\r\n"),
        (SUBMIT, "x-api-key: {key}\r\nContent-Length: 2\r\n"),
        (SUBMIT, "x-api-key: {key}\r\nTransfer-Encoding: chunked\r\n"),
        (SUBMIT, "x-api-key: {key}\r\nHost: evil\r\n"),
        (SUBMIT, "x-api-key: {key}\r\nA: b\r\n c\r\n"),
        (SUBMIT, "x-api-key: {key}\nA: b\r\n"),
        (f"POST http://evil/v2/{KLING} HTTP/1.1\r\n", "x-api-key: {key}\r\n"),
        (SUBMIT, f"x-api-key: {{key}}\r\nA: {'x' * 65536}\r\n"),
        (SUBMIT, "x-api-key: {key}\r\n" + "A: b\r\n" * 1000),
    ],
    ids=[
        "a02_same_header_twice", "a02_two_keys", "a05_up", "a05_line_break", "a05_long", "a08_two_lengths",
        "a08_both_framings", "a08_two_hosts", "a08_obs_fold", "a08_bare_lf", "a08_absolute_target", "a12_64_kib_header",
        "a12_thousand_headers",
    ],
)  # fmt: skip
async def test_a_request_that_two_could_read_in_two_ways(gateway: Gateway, line: str, rest: str) -> None:
    """It is a 400 of ours, or a 404 where only the path is odd; nothing is held and nothing goes upstream."""
    _, other = new_api_key("nobody")
    sent = rest.format(key=gateway.key, other=other.reveal())
    status, headers, body = await ask(gateway, f"{line}{head()}{sent}{JSON}{BODY}")
    assert status in {400, 404}
    assert (headers["content-type"], body["status"]) == ("application/problem+json", status)
    assert (gateway.upstream_posts(), await gateway.money()) == (0, (0, 0))


@pytest.mark.parametrize("length", ["+2", "-2", "2, 2", "2,3", "0x2", "2 2", "", "9" * 30])
async def test_a08_a_length_that_is_none(gateway: Gateway, length: str) -> None:
    """A signed, listed or absurd length is a 400 (the absurdly large one a 413) and nothing goes upstream."""
    key = head(x_api_key=gateway.key)
    status, _, _ = await ask(gateway, f"{SUBMIT}{key}{JSON}Content-Length: {length}\r\n\r\n{{}}")
    assert status in ({400, 413} if length.isdecimal() else {400})
    assert gateway.upstream_posts() == 0


async def test_a09_bodies_have_a_bound_for_each_route(gateway: Gateway) -> None:
    """One byte above 1 MiB, or 32 MiB for an asset, is a 413 before any of it was sent; 100 MB everywhere."""
    key = head(x_api_key=gateway.key)
    for path, size in ((f"/v2/{KLING}", MIB), ("/v1/x", MIB), ("/upload-asset", 32 * MIB)):
        for length in (size + 1, 100_000_000):
            announced = f"{key}{JSON}Content-Length: {length}\r\n\r\n"
            status, headers, body = await ask(gateway, f"POST {path} HTTP/1.1\r\n{announced}")
            assert (status, headers["connection"], body["code"]) == (413, "close", "body_too_large")
    assert gateway.upstream_posts() == 0


def test_a11_who_is_slow_has_these_seconds() -> None:
    """Ten for a head, thirty for a body: what the tests of the deadlines shorten."""
    assert StrictProtocol.head_deadline_s <= 10
    [body_s] = [field.default for field in fields(TenantApi) if field.name == "body_deadline_s"]
    assert isinstance(body_s, float)
    assert body_s <= 30


async def test_a19_no_value_of_a_caller_breaks_a_line(gateway: Gateway) -> None:
    """Escapes in a header are refused; braces in one, and anything in a prompt, leave each line one JSON object."""
    prompt = json.dumps({"prompt": "a\r\nb\u2028\x1b[31m {} {0} %s"})
    body = f"{JSON}Content-Length: {len(prompt)}\r\n\r\n{prompt}"
    for agent, expected in (("u\x1b[31m", 400), ("u {}%s \x85", 200)):
        odd = head(x_api_key=gateway.key, User_Agent=agent, X_Gateway_Labels="a={}%s")
        assert (await ask(gateway, f"{SUBMIT}{odd}{body}"))[0] == expected

    async def told() -> bool:
        return any(line["event"] == "http.request" for line in gateway.lines())

    await eventually(told)
    text = gateway.log.getvalue()
    assert b"\x1b" not in text
    assert all(isinstance(json.loads(line), dict) for line in text.decode().splitlines())


async def test_a21_other_methods(gateway: Gateway) -> None:
    """TRACE, CONNECT and PUT are a JSON 405 on every kind of route, with and without a key."""
    for method in ("TRACE", "CONNECT", "PUT"):
        for path in (f"/v2/{KLING}", "/v2/requests/x/status", "/v1/models", "/upload-asset", "/openapi.json"):
            for more in ({}, {"x_api_key": gateway.key}):
                status, headers, body = await ask(gateway, f"{method} {path} HTTP/1.1\r\n{head(**more)}\r\n")
                assert (status, body["code"], bool(headers["allow"])) == (405, "method_not_allowed", True)


async def test_a22_who_guesses_is_slowed_down_and_who_has_a_key_is_not(gateway: Gateway) -> None:
    """Of one address, failures above the limit are 429; a valid key from it is served all the same, a submit too."""
    guess = f"GET /v1/models HTTP/1.1\r\n{head(x_api_key=gateway.key[:-1] + 'g')}\r\n"
    async with connected(urlsplit(gateway.url).port or 0) as (reader, writer):
        writer.write((2 * LIMIT.burst * guess).encode())
        answers = [await asyncio.wait_for(read_answer(reader), 20) for _ in range(2 * LIMIT.burst)]
    statuses = [status for status, _, _ in answers]
    assert statuses[: LIMIT.burst] == [401] * LIMIT.burst
    assert set(statuses[LIMIT.burst :]) <= {401, 429}
    assert 429 in statuses
    assert all(int(headers["retry-after"]) == 1 for status, headers, _ in answers if status == 429)
    assert (await gateway.http.get("/v1/models")).status_code == 200
    assert (await gateway.post()).status_code == 200
