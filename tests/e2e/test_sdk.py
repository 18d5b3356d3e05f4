"""The unmodified Segmind SDK through the gateway: only ``base_url`` and ``api_key`` differ."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
import pytest
import segmind
from segmind.files import Files
from segmind.pixelflows import PixelFlows
from support.gateway import BUDGET, PROMPT, Gateway, nano
from support.ledger import CREDIT
from support.vendor import KEY, KLING

from gateway.sandbox import Fault

FAST = 0.05


async def test_submit_and_wait(gateway: Gateway) -> None:
    """A Kling job reads QUEUED, PROCESSING, COMPLETED under an id of ours; its output is the vendor's."""
    gateway.vendor.sandbox.faults.add(Fault(action="outcome", outcome="PROCESSING"))
    with gateway.sdk() as client:
        job = await asyncio.to_thread(client.submit_async, KLING, **PROMPT)
        seen = [job.submit_response["status"]]
        while seen[-1] != "COMPLETED":
            said = (await asyncio.to_thread(job.status))["status"]
            seen += [said] if said != seen[-1] else []
            if said == "PROCESSING":
                gateway.end_all()
        result = await asyncio.to_thread(job.wait, timeout=20, interval=FAST)
    assert seen == ["QUEUED", "PROCESSING", "COMPLETED"]
    [accepted] = gateway.accepted()
    assert job.request_id != accepted["request_id"] == (await gateway.job(job.request_id)).upstream_id
    assert job.status_url.startswith(gateway.url)
    assert job.response_url.startswith(gateway.url)
    assert (result["status"], result["output"]) == ("COMPLETED", result["video"]["url"])
    async with httpx.AsyncClient(trust_env=False) as http:
        assert (await http.get(result["output"])).headers["content-type"] == "video/mp4"
    spent, held = await gateway.money()
    assert (spent, held) == (nano(str(accepted["billed"])), 0)
    # The balance in the result is the tenant's, as it stood when the job was settled.
    assert result["metrics"]["remaining_credits"] <= BUDGET / CREDIT
    assert result["metrics"]["cost"] == float(str(accepted["cost"]))


async def test_run_and_run_sync(gateway: Gateway) -> None:
    """`run` returns the vendor's result body; `run_sync` its very bytes, with cost and seed but no balance of ours."""
    with gateway.sdk() as client:
        result, raw = await asyncio.gather(
            asyncio.to_thread(client.run, "flux-2-pro", prompt="a lamp", num_images=2),
            asyncio.to_thread(client.run_sync, "faceswap-v2", prompt="x"),
        )
        async with httpx.AsyncClient(headers={"x-api-key": KEY}, trust_env=False) as http:
            direct = await http.post(f"{gateway.vendor.url}/v1/faceswap-v2", json={"prompt": "x"})
    assert result["output"] == result["images"][0]["url"] != result["images"][1]["url"]
    assert raw.content == direct.content
    assert raw.headers["content-type"] == direct.headers["content-type"] == "image/jpeg"
    assert {"x-cost", "x-generation-time", "x-seed-value", "x-request-id"} <= set(raw.headers)
    assert raw.headers["x-request-id"] not in {job["request_id"] for job in gateway.accepted()}
    assert "x-rate-limit-reset-at-utc" not in raw.headers
    assert raw.headers["x-remaining-credits"] == raw.headers["x-credits-remaining"]


@pytest.mark.parametrize("gateway", [{"time_scale": 1000}], indirect=True)
async def test_chat_in_three_shapes(gateway: Gateway) -> None:
    """`chat`, `submit_chat` and `chat_sync` understand each provider's shape through the gateway."""
    slugs = ("gpt-5.5", "claude-4.5-sonnet", "gemini-3-pro")
    with gateway.sdk() as client:
        messages = [{"role": "user", "content": "hello"}]
        jobs = [await asyncio.to_thread(client.submit_chat, slug, messages=messages) for slug in slugs]
        answers = await asyncio.gather(
            *(asyncio.to_thread(job.wait, timeout=20, interval=FAST) for job in jobs),
            *(asyncio.to_thread(client.chat_sync, slug, prompt="hello") for slug in slugs),
            *(asyncio.to_thread(client.chat, slug, prompt="hello") for slug in slugs),
        )
    assert [answer.text for answer in answers] == ["Sandbox reply to: hello"] * 9
    assert all(answer.usage and answer.finish_reason for answer in answers)


async def test_failures_reach_the_sdk(gateway: Gateway) -> None:
    """FAILED raises `InferenceFailed` in the vendor's words, a job that never ends `InferenceTimeout` with our id."""
    faults = gateway.vendor.sandbox.faults
    with gateway.sdk() as client:
        faults.add(Fault(action="outcome", message="blocked: content policy", times=1))
        failing = await asyncio.to_thread(client.submit_async, KLING, **PROMPT)
        faults.add(Fault(action="outcome", outcome="PROCESSING", times=1))
        endless = await asyncio.to_thread(client.submit_async, KLING, **PROMPT)
        with pytest.raises(segmind.InferenceFailed) as failed:
            await asyncio.to_thread(failing.wait, timeout=20, interval=FAST)
        with pytest.raises(segmind.InferenceTimeout) as late:
            await asyncio.to_thread(endless.wait, timeout=0.1, interval=FAST)
        again = await asyncio.to_thread(failing.status)
    assert failed.value.detail == again["error"] == "blocked: content policy"
    assert late.value.request_id == endless.request_id
    assert await gateway.money() == (0, (await gateway.job(endless.request_id)).hold)


@pytest.mark.parametrize("gateway", [{"budgets": {"day": CREDIT}, "models": ("kling-2.6-*",)}], indirect=True)
async def test_our_refusals_reach_the_sdk(gateway: Gateway) -> None:
    """What we refuse is a `SegmindError` with our status and text, as an error of the vendor's would be."""
    with gateway.sdk() as client:
        refusals = [
            (KLING, {}, 400, "prompt is required"),
            ("flux-2-pro", PROMPT, 403, "this tenant may not call this model"),
            ("kling-2.6-pro-motion-control", PROMPT, 406, "not enough credits in this tenant's budget"),
        ]
        for slug, params, status, words in refusals:
            with pytest.raises(segmind.SegmindError) as refused:
                await asyncio.to_thread(client.submit_async, slug, **params)
            assert (refused.value.status, refused.value.detail) == (status, words)
    assert gateway.upstream_posts() == 0


async def test_upload(gateway: Gateway, tmp_path: Path) -> None:
    """`files.upload`, its base overridden, gets a URL where the vendor serves the same bytes; it costs nothing."""
    picture = tmp_path / "cat.png"
    picture.write_bytes(b"\x89PNG not really")

    class Storage(Files):
        STORAGE_BASE_URL = gateway.url

    with gateway.sdk() as client:
        answer = await asyncio.to_thread(Storage(client).upload, picture)
    async with httpx.AsyncClient(trust_env=False) as http:
        back = await http.get(answer["file_urls"][0])
    assert (back.content, back.headers["content-type"]) == (picture.read_bytes(), "image/png")
    assert await gateway.money() == (0, 0)


@pytest.mark.parametrize("path", ["talking-avatar", "v2/talking-avatar"])
async def test_pixelflows(gateway: Gateway, path: str) -> None:
    """`pixelflows.run`, its base overridden, follows a workflow to its parsed output, by id and on the v2 route."""
    with gateway.sdk() as client:
        flows = PixelFlows(client)
        flows.workflows_base = f"{gateway.url}/workflows"
        done = await asyncio.to_thread(flows.run, path, data={"prompt": "x"}, poll_interval=0)
    assert done["status"] == "COMPLETED"
    assert isinstance(done["output"], list)
    assert await gateway.money() == (gateway.billed_nano(), 0)
