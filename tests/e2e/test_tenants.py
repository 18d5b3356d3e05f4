"""What a tenant may do: keys, suspension, models, limits; and what it is told about them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from support.gateway import PROMPT, TENANT, Gateway, eventually, nano
from support.ledger import CREDIT
from support.vendor import KEY, KLING

from gateway.core.tenant import RateLimit, TenantPolicy, new_api_key
from gateway.sandbox import Fault

MEMBERS = {"type", "title", "status", "detail", "error", "code"}


async def test_keys_that_open_nothing(gateway: Gateway) -> None:
    """No, malformed, unknown, expired and revoked keys, and the vendor's own, get the same 401."""
    _, unknown = new_api_key(TENANT)
    _, stranger = new_api_key("nobody")
    revoked = await gateway.admin.create_key(TENANT)
    await gateway.admin.revoke_key(TENANT, revoked.key.id)
    expired = await gateway.admin.create_key(TENANT)
    await gateway.store.tenants.expire_key(TENANT, expired.key.id, in_s=0)
    secrets = [key.reveal() for key in (unknown, stranger, revoked.text, expired.text)]
    keys = [*secrets, "", KEY, "sgw_x", "x" * 10_240, gateway.key.upper()]
    gateway.http.headers.pop("x-api-key")
    answers = [
        await gateway.http.request(verb, path, headers=headers, json=PROMPT)
        for headers in ({}, *({"x-api-key": key} for key in keys), {"authorization": f"Bearer {secrets[0]}"})
        for verb, path in (("POST", f"/v2/{KLING}"), ("POST", "/v1/x"), ("GET", "/v1/get-user-credits"))
    ]
    assert {(a.status_code, a.content, a.headers["www-authenticate"]) for a in answers} == {
        (401, answers[0].content, "Bearer")
    }
    assert set(answers[0].json()) == MEMBERS
    assert gateway.upstream_posts() == 0


async def test_revoked_and_suspended_on_the_next_request(gateway: Gateway) -> None:
    """A suspended or removed tenant and a revoked key are refused at once, and let in at once after; jobs go on."""
    running = (await gateway.post()).json()
    other = await gateway.admin.create_key(TENANT)

    async def codes() -> list[tuple[int, str | None]]:
        answers = [await gateway.post(), await gateway.http.get(running["status_url"])]
        return [(a.status_code, a.json().get("code")) for a in answers]

    await gateway.admin.suspend(TENANT)
    suspended = await codes()
    await gateway.admin.resume(TENANT)
    resumed = await codes()
    policy = (await gateway.admin.tenant(TENANT)).policy
    await gateway.store.tenants.remove(TENANT)
    removed = await codes()
    await gateway.store.tenants.put(policy)
    await gateway.admin.revoke_key(TENANT, gateway.key.split("_")[2])
    revoked = await codes()
    gateway.http.headers["authorization"] = f"Bearer {other.text.reveal()}"
    gateway.http.headers.pop("x-api-key")
    by_other = await codes()
    assert suspended == [(403, "tenant_suspended")] * 2
    assert resumed == by_other == [(200, None)] * 2
    assert removed == revoked == [(401, "unauthenticated")] * 2
    await gateway.ended(running["request_id"])


async def test_jobs_of_others(gateway: Gateway) -> None:
    """Another tenant's id, the vendor's id and made-up ids get byte-identical 404s."""
    mine = (await gateway.post()).json()["request_id"]
    await gateway.store.tenants.put(TenantPolicy("other-team"))
    stranger = (await gateway.admin.create_key("other-team")).text.reveal()
    vendor_id = (await gateway.job(mine)).upstream_id
    made_up = "01a20626-ceee-7916-9506-339e5f9dd169"
    answers = [
        await gateway.http.get(f"/v2/requests/{job_id}{tail}", headers={"x-api-key": stranger})
        for job_id in (mine, vendor_id, made_up, "x", mine.upper())
        for tail in ("", "/status")
    ]
    assert {(a.status_code, a.content) for a in answers} == {(404, answers[0].content)}
    assert (await gateway.http.get(f"/v2/requests/{mine}")).status_code == 200


ALLOWED = {"models": ("kling-2.6-*", "workflows/talking-*")}


@pytest.mark.parametrize("gateway", [ALLOWED], indirect=True)
async def test_models(gateway: Gateway) -> None:
    """A model outside the allow-list is a 403 that costs nothing and is not listed; one inside goes through."""
    paths = ("/v2/flux-2-pro", "/v1/faceswap-v2", "/workflows/v2/product-photo", "/v2/kling-2.6")
    answers = [await gateway.post(path) for path in paths]
    assert {(a.status_code, a.json()["code"], a.json()["limited_by"]) for a in answers} == {
        (403, "model_not_allowed", "tenant")
    }
    assert gateway.upstream_posts() == 0
    listed = (await gateway.http.get("/v1/models")).json()["models"]
    assert [model["model"] for model in listed] == [KLING, "kling-2.6-pro-motion-control"]
    assert [(await gateway.post(path)).status_code for path in (f"/v2/{KLING}", "/workflows/v2/talking-x")] == [
        200,
        404,
    ]


LIMITS: dict[str, Any] = {"submit": RateLimit(60, 86400, 2), "read": RateLimit(60, 86400, 3), "concurrent_jobs": 5}


@pytest.mark.parametrize("gateway", [LIMITS], indirect=True)
async def test_rate_limits(gateway: Gateway) -> None:
    """Each answer tells where the limit stands; beyond the burst it is a 429 with the seconds to wait."""
    first, second, third = [await gateway.post() for _ in range(3)]
    assert first.headers["ratelimit-policy"] == '"submit";q=60;w=86400, "jobs";q=5;qu="concurrent-requests"'
    assert [a.headers["ratelimit"].partition(";t=")[0] for a in (first, second)] == ['"submit";r=1', '"submit";r=0']
    assert (third.status_code, third.json()["code"], third.json()["limited_by"]) == (429, "rate_limited", "tenant")
    assert 1400 < int(third.headers["retry-after"]) <= 86400 / 60
    reads = [await gateway.http.get(first.json()["status_url"]) for _ in range(4)]
    assert [a.status_code for a in reads] == [200, 200, 200, 429]
    assert reads[0].headers["ratelimit-policy"] == '"read";q=60;w=86400'
    assert len(gateway.accepted()) == 2


@pytest.mark.parametrize("gateway", [{"concurrent_jobs": 2}], indirect=True)
async def test_concurrent_jobs(gateway: Gateway) -> None:
    """No more jobs run at once than allowed, also when they come together; the end of one makes room."""
    gateway.vendor.sandbox.faults.add(Fault(action="outcome", outcome="PROCESSING"))
    answers = await asyncio.gather(*(gateway.post() for _ in range(10)))
    refused = [a.json() for a in answers if a.status_code == 429]
    assert [(r["code"], r["limited_by"]) for r in refused] == [("concurrency_limited", "tenant")] * 8
    started = [a.json()["request_id"] for a in answers if a.status_code == 200]
    gateway.end_all()
    await asyncio.gather(*map(gateway.ended, started))
    assert (await gateway.post()).status_code == 200


@pytest.mark.parametrize("gateway", [{"budgets": {"total": CREDIT}, "submit": RateLimit(1, 60, 9)}], indirect=True)
async def test_refused_calls_consume_nothing(gateway: Gateway) -> None:
    """Malformed, refused and replayed calls and quotes use up neither rate limit, nor budget, nor key."""
    await gateway.post(idempotency_key="k")
    before = (await gateway.money(), (await gateway.post(idempotency_key="k")).headers["ratelimit"][:12])
    for _ in range(3):
        assert (await gateway.post(idempotency_key="new")).json()["code"] == "budget_exhausted"
        assert (await gateway.post(body={})).json()["field"] == "prompt"
        assert (await gateway.post(body={"prompt": 5})).json()["field"] == "prompt"
        assert (await gateway.post(f"/v2/{KLING}/quote")).json()["admitted"] is False
    assert (await gateway.money(), (await gateway.post(idempotency_key="k")).headers["ratelimit"][:12]) == before
    assert gateway.upstream_posts() == 1


@pytest.mark.parametrize("gateway", [{"models": (KLING,)}], indirect=True)
async def test_usage_counts_what_was_refused(gateway: Gateway) -> None:
    """A refused submit writes nothing at once; some seconds later it stands in the tenant's usage, with its reason."""
    await gateway.ended((await gateway.post()).json()["request_id"])
    assert (await gateway.post("/v2/flux-2-pro")).status_code == 403

    async def counted() -> dict[str, Any] | None:
        said: dict[str, Any] = (await gateway.http.get("/v2/usage?group_by=model")).json()
        return said if said["total"]["refused"] else None

    said = await eventually(counted)
    by_model = {row["model"]: row for row in said["usage"]}
    assert by_model["flux-2-pro"]["refused_by_code"] == {"model_not_allowed": 1}
    assert (by_model[KLING]["completed"], by_model[KLING]["refused"]) == (1, 0)
    assert nano(str(by_model[KLING]["credits"])) == gateway.billed_nano()
