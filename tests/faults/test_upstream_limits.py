"""The vendor's limit: the whole fleet backs off together, and no tenant takes another's share of it."""

from __future__ import annotations

import asyncio
import io
from collections import Counter
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from support.gateway import TENANT, Gateway, eventually, gateway_on, settings_for
from support.ledger import entries
from support.ports import UNLIMITED
from support.vendor import KLING

from gateway.cli.serve import serving
from gateway.core.policy import Policy
from gateway.core.tenant import TenantPolicy
from gateway.sandbox import Fault
from gateway.sandbox.faults import RouteKind
from gateway.store import keys
from gateway.upstream.reset import DEFAULT_S, HEADER, MOST_S


def limited(*, reset_in_s: float | None, on: RouteKind = "submit") -> Fault:
    """Make the vendor answer submits, or uploads, by 429, with a reset so many seconds from now."""
    headers = {}
    if reset_in_s is not None:
        headers[HEADER] = (datetime.now(UTC) + timedelta(seconds=reset_in_s)).isoformat()
    return Fault(action="respond", on=(on,), status=429, body={"error": "slow down"}, headers=headers)


async def upload(gateway: Gateway, **headers: str) -> httpx.Response:
    """Upload an asset."""
    return await gateway.post("/upload-asset", {"data_urls": ["data:image/png;base64,AAAA"]}, **headers)


def refused_for_s(answer: httpx.Response, by: str) -> int:
    """Check that an answer is a 429 with a sane wait, and return that."""
    said = answer.json()
    assert (answer.status_code, said["code"], said["limited_by"]) == (429, "upstream_rate_limited", by), said
    assert 1 <= int(answer.headers["retry-after"]) == said["retry_after"] <= MOST_S
    return int(answer.headers["retry-after"])


@pytest.mark.parametrize(
    ("reset_in_s", "least_s", "most_s"),
    [(None, 1, DEFAULT_S), (-3600, 1, DEFAULT_S), (3 * 3600, MOST_S - 1, MOST_S), (300, MOST_S - 1, MOST_S)],
    ids=["missing", "an hour past", "ahead by hours", "in minutes"],
)
async def test_r14_a_429_is_released_and_the_process_backs_off(
    redis_url: str, reset_in_s: float | None, least_s: int, most_s: int
) -> None:
    """Nothing is held, the wait is sane, the key is free; until it is over no submit reaches the vendor."""
    async with gateway_on(redis_url) as gateway:
        gateway.vendor.sandbox.faults.replace([limited(reset_in_s=reset_in_s)])
        first = await gateway.post(idempotency_key="k")
        assert least_s <= refused_for_s(first, "upstream") <= most_s
        gateway.vendor.sandbox.faults.replace(())
        before = await entries(gateway.store.client, TENANT)
        for path in (f"/v2/{KLING}", "/v1/faceswap-v2"):
            assert refused_for_s(await gateway.post(path, idempotency_key="k"), "upstream") <= most_s
        assert gateway.upstream_posts() == 1
        assert await entries(gateway.store.client, TENANT) == before
        assert await gateway.money() == (0, 0)


async def test_r14_one_process_hears_it_and_all_back_off(redis_url: str) -> None:
    """Another process, which never saw the 429, refuses submits too, soon after; each then says when to come again."""
    async with gateway_on(redis_url) as gateway:
        gateway.vendor.sandbox.faults.replace([limited(reset_in_s=100)])
        async with serving(settings_for(redis_url, gateway.vendor.url), io.BytesIO()) as other:
            await eventually(lambda: _ready(other.readiness.reasons))
            refused_for_s(await gateway.post(), "upstream")

            # Whoever had not heard of it would have its submit taken now, and not learn it by itself.
            gateway.vendor.sandbox.faults.replace(())

            async def refused() -> bool:
                posts, answer = gateway.upstream_posts(), await gateway.post(f"{other.url}/v2/{KLING}")
                return answer.status_code != httpx.codes.OK and (
                    refused_for_s(answer, "upstream") > 0 and gateway.upstream_posts() == posts
                )

            await eventually(refused)
            await eventually(lambda: _nothing_held(gateway))


@pytest.mark.parametrize("refused", ["upload", "submit"])
async def test_r14_an_account_that_is_limited_gets_no_uploads(redis_url: str, refused: RouteKind) -> None:
    """After a 429 to an upload or to a job, the vendor gets neither; a refused upload counts against no limit."""
    async with gateway_on(redis_url) as gateway:
        gateway.vendor.sandbox.faults.replace([limited(reset_in_s=100, on=refused)])
        refused_for_s(await (gateway.post() if refused == "submit" else upload(gateway)), "upstream")
        counted = await gateway.store.client.get(keys.gcra(TENANT, "submit"))
        for _ in range(3):
            refused_for_s(await upload(gateway), "upstream")
        refused_for_s(await gateway.post(), "upstream")
        assert (await upload(gateway, x_api_key=gateway.key + "x")).status_code == httpx.codes.UNAUTHORIZED
        assert gateway.upstream_posts() == 1
        assert await gateway.store.client.get(keys.gcra(TENANT, "submit")) == counted


async def test_an_upload_takes_a_place_of_its_tenants(redis_url: str) -> None:
    """With ``upstream_rpm`` uploads are among what is limited: a flood of them is refused by the gateway, not sent."""
    async with gateway_on(redis_url, rules=Policy(upstream_rpm=10)) as gateway:
        answers = [await upload(gateway) for _ in range(5)]
        sent = [answer for answer in answers if answer.status_code == httpx.codes.OK]
        assert 1 <= len(sent) == gateway.upstream_posts() < len(answers)
        refused_for_s(answers[-1], "gateway")


async def test_r14_it_goes_on_when_the_wait_is_over(redis_url: str) -> None:
    """A key that was refused with a wait may be used again, and starts the job once the wait is over."""
    async with gateway_on(redis_url) as gateway:
        gateway.vendor.sandbox.faults.replace([limited(reset_in_s=1).model_copy(update={"times": 1})])
        refused_for_s(await gateway.post(idempotency_key="k"), "upstream")

        async def accepted() -> bool:
            return (await gateway.post(idempotency_key="k")).status_code == httpx.codes.OK

        await eventually(accepted)
        assert len(gateway.accepted()) == 1


async def test_r14_a_tenant_within_its_share_is_not_starved(redis_url: str) -> None:
    """With ``upstream_rpm``, of two tenants at 10 to 1 the small one is always let through."""
    async with gateway_on(
        redis_url, rules=Policy(upstream_rpm=300), submit=UNLIMITED, budgets={}, concurrent_jobs=1000
    ) as gateway:
        await gateway.store.tenants.put(TenantPolicy("small", submit=UNLIMITED))
        key = (await gateway.admin.create_key("small")).text.reveal()
        flood: list[httpx.Response] = []
        small: list[httpx.Response] = []
        for _ in range(7):
            flood += await asyncio.gather(*(gateway.post() for _ in range(10)))
            small.append(await gateway.post(x_api_key=key))
        assert Counter(answer.status_code for answer in small) == {200: 7}
        refused = [answer for answer in flood if answer.status_code != httpx.codes.OK]
        assert refused
        assert {answer.json()["limited_by"] for answer in refused} == {"gateway"}
        for answer in refused:
            refused_for_s(answer, "gateway")
        assert gateway.upstream_posts() == len(flood) + len(small) - len(refused)
        accepted = {str(job["request_id"]) for job in gateway.accepted()}
        assert len(accepted) == gateway.upstream_posts()
        await eventually(lambda: _nothing_held(gateway))


async def _nothing_held(gateway: Gateway) -> bool:
    return (await gateway.money())[1] == 0


async def _ready(reasons: object) -> bool:
    return not reasons
