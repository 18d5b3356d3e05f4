from __future__ import annotations

from dataclasses import replace

import httpx
import pytest
from web.fakes import QUOTA, SECRET, Services

from gateway.core.credits import MAX_NANO, NANO
from gateway.core.movements import Denied
from gateway.core.tenant import TenantPolicy, digest_of
from gateway.core.vendor import VendorAnswer
from gateway.errors import UpstreamAmbiguous
from gateway.service.outcomes import Rejected, Uploaded


@pytest.mark.parametrize(
    ("remaining", "said"),
    [(49_123_456_789, b"49.123456789"), (0, b"0"), (MAX_NANO, b"9000000")],
)
async def test_credits_are_the_tenants(
    client: httpx.AsyncClient, services: Services, remaining: int, said: bytes
) -> None:
    """The credits call answers in Segmind's shape with the tenant's least remaining budget."""
    services.quota = replace(QUOTA, remaining=remaining)
    answer = await client.get("/v1/get-user-credits")
    assert answer.content == b'{"credits":%b,"free-credits":0}' % said
    assert answer.headers["ratelimit"] == '"submit";r=12;t=30'


async def test_models_are_those_that_the_tenant_may_call(client: httpx.AsyncClient, services: Services) -> None:
    """The list has the allowed models only, at the tenant's own prices."""
    services.policy = TenantPolicy(id="video-team", models=("kling-*", "my-own"), prices={"my-own": NANO // 4})
    assert (await client.get("/v1/models")).json() == {
        "models": [
            {"model": "kling-2.6", "kind": "video", "price": 1, "expected_latency_s": 30.0,
             "parameters": {"type": "object", "required": ["prompt"]}},
            {"model": "my-own", "kind": "video", "price": 0.25, "expected_latency_s": 30.0, "parameters": None},
        ]
    }  # fmt: skip


async def test_an_upload_is_passed_on(client: httpx.AsyncClient, services: Services) -> None:
    """An asset goes on byte for byte with allow-listed headers; of the answer's, only those of the list come back."""
    headers = {"content-type": "application/json", "set-cookie": "a=b", "server": "x", "x-remaining-credits": "1"}
    said = VendorAnswer(200, headers, b'{"file_urls": ["https://x"], "message": "ok"}')
    services.uploaded = Uploaded(said, QUOTA)
    sent = {"content-type": "application/json", "cookie": "a=b", "connection": "content-type"}
    answer = await client.post("/upload-asset", content=b'{"data_urls": []}', headers=sent)
    assert (answer.status_code, answer.content) == (200, said.body)
    assert answer.headers["ratelimit"] == '"submit";r=12;t=30'
    assert not {"set-cookie", "server"} & set(answer.headers)
    credential, body, passed_on, request_id = services.seen[0]
    assert (credential.digest, body) == (digest_of(SECRET), b'{"data_urls": []}')
    assert passed_on == {"content-type": "application/json", "accept": "*/*", "user-agent": passed_on["user-agent"]}
    assert request_id == answer.headers["x-request-id"]


@pytest.mark.parametrize(
    ("outcome", "status"),
    [
        (Denied("rate_limited", QUOTA), 429),
        (Denied("unauthenticated"), 401),
        (Rejected("upstream_auth", "our key", "upstream", 30), 503),
        (UpstreamAmbiguous("reset"), 502),
        (UpstreamAmbiguous("late", timed_out=True), 504),
    ],
)
async def test_an_upload_that_fails(
    client: httpx.AsyncClient, services: Services, outcome: Denied | Rejected | Exception, status: int
) -> None:
    """An upload that is refused, or breaks off, has its status."""
    services.uploaded = outcome
    assert (await client.post("/upload-asset", json={})).status_code == status
