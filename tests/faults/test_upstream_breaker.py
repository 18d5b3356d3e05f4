"""The vendor is down: nothing is held, nothing is sent, and all goes on by itself when it is back."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import httpx
from support.gateway import TENANT, Gateway, eventually, gateway_on
from support.ledger import entries
from support.valkey import free_port
from support.vendor import KLING

from gateway.core.job import JobState
from gateway.sandbox import Fault
from gateway.service.account import POLICY as ACCOUNT
from gateway.store import keys
from gateway.upstream.hosts import POLICY

DOWN = Fault(action="respond", on=("submit",), status=503, body={"error": "down"})


async def submits(gateway: Gateway, count: int) -> Sequence[httpx.Response]:
    """Start jobs, all at once."""
    return await asyncio.gather(*(gateway.post(idempotency_key=f"job-{n}") for n in range(count)))


async def accepted(gateway: Gateway) -> httpx.Response | None:
    """Try a submit."""
    answer = await gateway.post()
    return answer if answer.status_code == httpx.codes.OK else None


async def told(gateway: Gateway, states: Sequence[str]) -> bool:
    """Tell whether the log has these changes of the vendor's breaker."""
    lines = [line for line in gateway.lines() if line["event"] == "upstream.breaker"]
    return [line["state"] for line in lines if line["host"] == "inference"] == states


async def test_r12_an_outage_opens_the_breaker_and_holds_nothing(redis_url: str) -> None:
    """While it is open a submit gets 503 with Retry-After and leaves no trace; a replay still gets its job."""
    async with gateway_on(redis_url) as gateway:
        first = await gateway.post(idempotency_key="first")
        await gateway.ended(first.json()["request_id"])
        gateway.vendor.sandbox.faults.replace([DOWN])
        assert {answer.status_code for answer in await submits(gateway, POLICY.failures)} == {504}
        assert await gateway.breaker("inference") == "open"
        before = gateway.upstream_posts(), await gateway.money(), await entries(gateway.store.client, TENANT)

        shed = [await gateway.post(), await gateway.post("/v1/faceswap-v2")]
        for answer in shed:
            said = answer.json()
            assert (answer.status_code, said["code"], said["limited_by"]) == (503, "upstream_unavailable", "upstream")
            assert 1 <= int(answer.headers["retry-after"]) == said["retry_after"] <= POLICY.open_s
        replay = await gateway.post(idempotency_key="first")
        assert (replay.status_code, replay.json()["request_id"]) == (200, first.json()["request_id"])
        stranger = await gateway.http.post(f"/v2/{KLING}", json={}, headers={"x-api-key": gateway.key + "x"})
        assert stranger.status_code == 401
        assert (gateway.upstream_posts(), await gateway.money()) == before[:2]
        assert await entries(gateway.store.client, TENANT) == before[2]

        gateway.vendor.sandbox.faults.replace(())
        await eventually(lambda: accepted(gateway))
        assert await gateway.breaker("inference") == "closed"
        await eventually(lambda: told(gateway, ["open", "half_open", "closed"]))


async def test_r12_a_storage_that_is_down_gets_no_uploads(redis_url: str) -> None:
    """While its breaker is open an upload gets 503 with Retry-After, unsent and counted against nothing; jobs go on."""
    async with gateway_on(redis_url) as gateway:
        gateway.vendor.sandbox.faults.replace([DOWN.model_copy(update={"on": ("upload",)})])
        asset = {"data_urls": ["data:image/png;base64,AAAA"]}
        for _ in range(POLICY.failures):
            assert (await gateway.post("/upload-asset", asset)).status_code == httpx.codes.BAD_GATEWAY
        assert await gateway.breaker("storage") == "open"
        counted = await gateway.store.client.get(keys.gcra(TENANT, "submit"))
        answer = await gateway.post("/upload-asset", asset)
        said = answer.json()
        assert (answer.status_code, said["code"], said["limited_by"]) == (503, "upstream_unavailable", "upstream")
        assert 1 <= int(answer.headers["retry-after"]) == said["retry_after"] <= POLICY.open_s
        assert gateway.upstream_posts() == POLICY.failures
        assert await gateway.store.client.get(keys.gcra(TENANT, "submit")) == counted
        assert (await gateway.post()).status_code == httpx.codes.OK


async def test_r11_an_unreachable_vendor_is_not_tried_for_each_submit(redis_url: str) -> None:
    """Three attempts a submit at most, each released with 503; then the breaker keeps what can't work from trying."""
    async with gateway_on(redis_url, upstream_url=f"http://127.0.0.1:{free_port()}") as gateway:
        answers = await submits(gateway, POLICY.failures)
        assert {(answer.status_code, answer.json()["code"]) for answer in answers} == {(503, "upstream_unavailable")}
        attempts = await gateway.metric("gateway_upstream_calls_total", outcome="unsent")
        assert POLICY.failures <= attempts <= 3 * len(answers)
        assert await gateway.breaker("inference") == "open"
        assert (await gateway.post()).status_code == 503
        assert await gateway.metric("gateway_upstream_calls_total") == attempts
        assert await gateway.money() == (0, 0)
        jobs = {entry["job"] for entry in await entries(gateway.store.client, TENANT)}
        assert {(await gateway.job(job_id)).state for job_id in jobs} == {JobState.REJECTED}


async def test_r15_an_empty_account_is_asked_by_one_call_at_a_time(redis_url: str) -> None:
    """Content type, credits and team cap are told apart; credits that are out: 503, an alert, and no more calls."""
    async with gateway_on(redis_url) as gateway:
        sandbox, words = gateway.vendor.sandbox, "Content-Type must be application/json"
        sandbox.faults.replace([Fault(action="respond", on=("submit",), status=406, body={"error": words})])
        types = [(await gateway.post()).json()["code"] for _ in range(ACCOUNT.failures + 1)]
        assert set(types) == {"unsupported_media_type"}
        sandbox.faults.replace(())
        sandbox.knobs.team_limit_reached = True
        team = await gateway.post()
        sandbox.account.set_balance(sandbox.account.remaining(0) * 0, 0)
        spent = [await gateway.post() for _ in range(ACCOUNT.failures - 1)]
        posts = gateway.upstream_posts()
        shed = await gateway.post()
        for answer in (team, *spent, shed):
            said = answer.json()
            assert (answer.status_code, said["code"]) == (503, "upstream_credits_exhausted")
            assert (said["limited_by"], int(answer.headers["retry-after"]) >= 1) == ("upstream", True)
        assert ("team" in team.json()["detail"], "team" in shed.json()["detail"]) == (True, False)
        assert (gateway.upstream_posts(), await gateway.money()) == (posts, (0, 0))
        assert await gateway.breaker("account") == "open"
        quoted = (await gateway.post(f"/v2/{KLING}/quote")).json()
        assert {name: quoted[name] for name in ("admitted", "code", "detail")} == {
            "admitted": False, "code": "upstream_credits_exhausted", "detail": shed.json()["detail"],
        }  # fmt: skip
        assert await gateway.alerts("upstream.team_limit") == 1
        assert await gateway.alerts("upstream.credits_exhausted") == len(spent)

        sandbox.knobs.team_limit_reached = False
        sandbox.account.set_balance(sandbox.account.remaining(0) + 100, 0)
        await eventually(lambda: accepted(gateway))
        assert await gateway.breaker("account") == "closed"


async def test_r16_a_refused_key_is_ours_and_not_the_tenants(redis_url: str) -> None:
    """The vendor's 401 is 503 with an alert, never 401; after three the key is no longer shown for a while."""
    async with gateway_on(redis_url) as gateway:
        refuses = Fault(action="respond", on=("submit",), status=401, body={"error": "invalid_api_key"})
        gateway.vendor.sandbox.faults.replace([refuses])
        answers = [await gateway.post() for _ in range(ACCOUNT.failures + 2)]
        assert {(answer.status_code, answer.json()["code"]) for answer in answers} == {(503, "upstream_auth")}
        assert all(int(answer.headers["retry-after"]) >= 1 for answer in answers)
        assert gateway.upstream_posts() == ACCOUNT.failures
        assert await gateway.money() == (0, 0)
        assert await gateway.breaker("key") == "open"
        assert await gateway.alerts("upstream.auth_failed") == ACCOUNT.failures
