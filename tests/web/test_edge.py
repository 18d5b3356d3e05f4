from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest
from web.fakes import JOB_ID, KEY, VENDOR_ID, Services, build, client_of

from gateway.core.movements import Denied
from gateway.service.keyfailures import LIMIT
from gateway.web.app import ROUTES, TenantApi, create_app

PATHS = [
    (route.template.replace("{id}", JOB_ID).replace("{model}", "m").replace("{slug}", "s"), set(route.endpoints))
    for route in ROUTES
]


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT"])
@pytest.mark.parametrize(("path", "allowed"), PATHS)
async def test_other_methods_are_405(
    client: httpx.AsyncClient, services: Services, path: str, allowed: set[str], method: str
) -> None:
    """A method that a route does not take is a JSON 405 naming those that it takes, key or no key."""
    if method in allowed:
        return
    answer = await client.request(method, path)
    assert (answer.status_code, answer.json()["code"]) == (405, "method_not_allowed")
    assert set(answer.headers["allow"].split(", ")) == allowed
    assert services.seen == []


@pytest.mark.parametrize("path", ["/", "/v2", "/v2/", "/v3/m", "/v2/requests/a/b", "/v2/m/", "//v2/m", "/admin"])
async def test_unknown_paths_are_404(client: httpx.AsyncClient, path: str) -> None:
    """A path that is none is a JSON 404."""
    answer = await client.post(path, json={})
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


async def test_each_request_is_one_event(client: httpx.AsyncClient, services: Services) -> None:
    """Each request, however it ends, is one event under the id that its answer carries."""
    answers = [
        await client.get(f"/v2/requests/{JOB_ID}/status"),
        await client.get("/nowhere", headers={"x-request-id": "of-the-caller"}),
        await client.delete("/v2/m"),
        await client.post("/v2/m", content=b"{"),
    ]
    assert [event.request_id for event in services.requests] == [a.headers["x-request-id"] for a in answers]
    assert len({event.request_id for event in services.requests}) == 4
    first, *others = services.requests
    assert (first.method, first.route, first.status) == ("GET", "/v2/requests/{id}/status", 200)
    assert (first.tenant, first.key_id, first.job_id, first.upstream_id, first.model, first.held) == (
        "video-team", "abcd1234", JOB_ID, VENDOR_ID, "kling-2.6", 941_500_000,
    )  # fmt: skip
    assert [(e.route, e.status, e.code) for e in others] == [
        ("(none)", 404, "not_found"),
        ("/v2/{model}", 405, "method_not_allowed"),
        ("/v2/{model}", 415, "unsupported_media_type"),
    ]


async def test_a_bug_is_a_500_without_its_words(client: httpx.AsyncClient, services: Services) -> None:
    """An unforeseen exception is a plain 500 problem; operators are told where it broke, nobody what it said."""
    services.outcome = ValueError(f"broke on {KEY}")
    answer = await client.post("/v2/m", json={})
    assert (answer.status_code, answer.json()["code"]) == (500, "internal_error")
    (alert,) = services.alerts
    assert alert.event == "http.internal_error"
    assert "ValueError at " in alert.detail
    assert KEY not in answer.text + repr(services.events)


async def test_head_is_get_without_a_body(client: httpx.AsyncClient) -> None:
    """HEAD is answered like GET; the server leaves the body out."""
    assert (await client.head(f"/v2/requests/{JOB_ID}/status")).status_code == 200


async def test_the_lifespan_is_entered_and_left() -> None:
    """The app opens and closes what it was given, by Starlette's own lifespan."""
    seen: list[str] = []

    @asynccontextmanager
    async def lifespan(_: object) -> AsyncIterator[None]:
        seen.append("open")
        yield
        seen.append("closed")

    services = Services()
    api: TenantApi = build(services)._api
    async with create_app(api, lifespan=lifespan).router.lifespan_context(None):
        assert seen == ["open"]
    assert seen == ["open", "closed"]


async def test_clients_without_a_host_are_told(services: Services) -> None:
    """Without a usable Host header nothing is submitted, since the answer could name no URL."""
    async with client_of(build(services)) as client:
        assert (await client.post("/v2/m", json={}, headers={"host": ""})).status_code == 400
    assert services.seen == []


@pytest.mark.parametrize("denied", [False, True])
async def test_a_caller_without_a_valid_key_is_told_by_its_address(services: Services, *, denied: bool) -> None:
    """Who guesses keys, or goes on with a revoked one, is found by the address in its line; of others none is kept."""
    services.denial = Denied("unauthenticated") if denied else None
    async with client_of(build(services)) as client:
        answer = await client.get("/v1/models", headers={} if denied else {"x-api-key": "malformed"})
        assert answer.status_code == 401
        services.denial = None
        assert (await client.get("/v1/models")).status_code == 200
    assert [event.source for event in services.requests] == ["127.0.0.1", ""]


async def test_a22_who_keeps_on_guessing_is_slowed_down_and_nobody_else(services: Services) -> None:
    """Above the limit a failure is a 429 without an event of its own; a valid key from the same address goes on."""
    async with client_of(build(services)) as client:
        wrong = {"x-api-key": "malformed"}
        answers = [await client.get("/v1/models", headers=wrong) for _ in range(LIMIT.burst + 2)]
        assert [answer.status_code for answer in answers] == [401] * LIMIT.burst + [429] * 2
        last, told = answers[-1], answers[-1].json()
        assert (told["code"], told["limited_by"], last.headers["retry-after"]) == ("rate_limited", "gateway", "1")
        assert len(services.requests) == LIMIT.burst
        assert (await client.get("/v1/models")).status_code == 200
    assert [event.source for event in services.requests][-2:] == ["127.0.0.1", ""]
