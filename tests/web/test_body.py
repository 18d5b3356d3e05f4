from __future__ import annotations

from typing import Any

import httpx
import pytest
from web.fakes import Services

from gateway.core.movements import Denied
from gateway.errors import InvalidRequest, StoreUnavailable

JSON = {"content-type": "application/json"}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"not json",
        b"[]",
        b'"text"',
        b"null",
        b'{"a": 1, "a": 2}',
        b'{"a": NaN}',
        b'{"a": -Infinity}',
        b'{"a": 1e400}',
        b'{"a": ' + b"9" * 5000 + b"}",
        b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"a": "\xff"}',
    ],
    ids=lambda body: body[:16].decode("latin-1"),
)
async def test_a_body_that_two_readers_could_differ_on(
    client: httpx.AsyncClient, services: Services, body: bytes
) -> None:
    """A body that is not one plain JSON object is a 400 and reaches no service."""
    for path in ("/v2/kling-2.6", "/v1/kling-2.6", "/v2/kling-2.6/quote"):
        answer = await client.post(path, content=body, headers=JSON)
        assert (answer.status_code, answer.json()["code"]) == (400, "invalid_request")
    assert services.seen == []


@pytest.mark.parametrize(
    "headers",
    [
        {"content-type": "text/plain"},
        {"content-type": "application/x-www-form-urlencoded"},
        {"content-type": ""},
        {},
        JSON | {"content-encoding": "gzip"},
        JSON | {"content-encoding": "identity, br"},
    ],
)
async def test_only_plain_json_is_taken(client: httpx.AsyncClient, services: Services, headers: dict[str, str]) -> None:
    """Another content type, none, or an encoding is a 415."""
    for path in ("/v2/kling-2.6", "/v1/kling-2.6", "/upload-asset"):
        answer = await client.post(path, content=b"{}", headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_media_type")
    assert services.seen == []


async def test_parameters_of_the_media_type_are_fine(client: httpx.AsyncClient, services: Services) -> None:
    """A charset, an explicit identity encoding and capitals are no reason to refuse, nor to ask for the key alone."""
    headers = {"content-type": "Application/JSON; charset=utf-8", "content-encoding": "identity"}
    assert (await client.post("/v2/kling-2.6", content=b"{}", headers=headers)).status_code == 200
    assert services.asked == []


@pytest.mark.parametrize(
    "headers",
    [{"idempotency-key": ""}, {"x-gateway-labels": "x"}, {"x-webhook-url": "file:///etc/passwd"}],
)
async def test_a_malformed_option_reaches_no_service(
    client: httpx.AsyncClient, services: Services, headers: dict[str, str]
) -> None:
    """A header of ours that can't be read is a 400, never ignored."""
    assert (await client.post("/v2/kling-2.6", json={}, headers=headers)).status_code == 400
    assert services.seen == []


@pytest.mark.parametrize(
    "path",
    ["/v2/kling-2.6?x=1", "/v1/kling-2.6?x=1", "/v2/" + "a" * 65, "/v2/-a", "/v2/a..b", "/v2/a:b", "/v2/workflows%2fa"],
)
async def test_a_model_that_is_none(client: httpx.AsyncClient, services: Services, path: str) -> None:
    """A model's name out of bounds, or a query beside it, is a 400 and reaches no service."""
    answer = await client.post(path, json={})
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_request")
    assert services.seen == []


MISTAKES = [
    ("POST", "/v2/m", {"content": b"{"}),
    ("POST", "/v2/m", {"content": b"x" * (2 << 20)}),
    ("POST", "/v2/m", {"content": b"{}", "headers": {"content-type": "text/plain"}}),
    ("POST", "/v2/m", {"json": {}, "headers": {"idempotency-key": ""}}),
    ("POST", "/v1/m?x=1", {"json": {}}),
    ("POST", "/upload-asset", {"content": b"{}", "headers": {"content-type": "text/plain"}}),
    ("GET", "/v2/requests?limit=x", {}),
]


@pytest.mark.parametrize(("method", "path", "request_"), MISTAKES)
async def test_a_mistake_is_told_to_callers_who_may_act(
    client: httpx.AsyncClient, services: Services, method: str, path: str, request_: dict[str, Any]
) -> None:
    """An unknown key gets the same 401 whatever else is wrong; a suspended one 403; a valid one learns its mistake."""
    if method == "POST" and "headers" not in request_:
        request_ = {**request_, "headers": JSON}
    services.denial = Denied("unauthenticated")
    unknown = await client.request(method, path, **request_)
    plain = await client.get("/v1/models")
    assert (unknown.status_code, unknown.content) == (401, plain.content)
    services.denial = Denied("tenant_suspended")
    assert (await client.request(method, path, **request_)).status_code == 403
    for services.denial in (None, StoreUnavailable("down")):
        assert (await client.request(method, path, **request_)).status_code in {400, 413, 415}
    assert [event.tenant for event in services.requests] == ["", "", "video-team", "video-team", ""]
    assert [seen for seen in services.seen if hasattr(seen, "body")] == []


async def test_a_parameter_that_the_catalogue_refuses_is_told_likewise(
    client: httpx.AsyncClient, services: Services
) -> None:
    """The schema's word comes after the key's too."""
    services.outcome, services.denial = InvalidRequest("no", field="prompt"), Denied("unauthenticated")
    assert (await client.post("/v2/m", json={})).status_code == 401
    services.denial = None
    assert (await client.post("/v2/m", json={})).json()["field"] == "prompt"
