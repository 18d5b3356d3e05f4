"""The vendor's own client, unmodified, against the sandbox: jobs run 200 times as fast as listed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest
import segmind
from segmind.files import Files
from segmind.pixelflows import PixelFlows
from support.vendor import KEY, KLING

from gateway.sandbox import Fault, SandboxSettings
from gateway.sandbox.server import Running, running


@pytest.fixture
async def vendor() -> AsyncIterator[Running]:
    """Run a fast sandbox by the real clock."""
    async with running(SandboxSettings(api_keys=(KEY,), time_scale=200)) as handle:
        yield handle


@pytest.fixture
def client(vendor: Running) -> Iterator[segmind.SegmindClient]:
    """Give the vendor's client, pointed at the sandbox."""
    client = segmind.SegmindClient(api_key=KEY, base_url=f"{vendor.url}/v1")
    yield client
    client._client.close()


async def test_submit_and_wait(vendor: Running, client: segmind.SegmindClient) -> None:
    """A Kling job goes to COMPLETED; its output can be fetched; its cost is what the account loses."""
    job = await asyncio.to_thread(client.submit_async, KLING, prompt="cat and dog are dancing.")
    result = await asyncio.to_thread(job.wait, timeout=60, interval=0.05)
    assert (result["status"], result["video"]["url"]) == ("COMPLETED", result["output"])
    async with httpx.AsyncClient(trust_env=False) as http:
        video = await http.get(result["output"])
    assert video.headers["content-type"] == result["video"]["content_type"] == "video/mp4"
    assert len(video.content) == result["video"]["file_size"]
    [accepted] = vendor.sandbox.accepted
    assert (accepted["request_id"], float(str(accepted["cost"]))) == (job.request_id, result["metrics"]["cost"])
    assert result["metrics"]["remaining_credits"] == pytest.approx(1000 - result["metrics"]["cost"], abs=1e-9)


async def test_run_and_run_sync(client: segmind.SegmindClient) -> None:
    """`run` returns the result body, `run_sync` the raw bytes with the cost in the headers."""
    result = await asyncio.to_thread(client.run, "flux-2-pro", prompt="a lamp", num_images=2)
    assert result["output"] == result["images"][0]["url"] != result["images"][1]["url"]
    raw = await asyncio.to_thread(client.run_sync, "faceswap-v2", prompt="x")
    assert raw.headers["content-type"] == "image/jpeg"
    assert raw.content.startswith(b"\xff\xd8\xff")
    names = ("x-cost", "x-remaining-credits", "x-request-id", "x-generation-time", "x-seed-value")
    assert all(raw.headers[name] for name in (*names, "x-rate-limit-reset-at-utc"))


@pytest.mark.parametrize("slug", ["gpt-5.5", "claude-4.5-sonnet", "gemini-3-pro"])
async def test_chat_in_three_shapes(client: segmind.SegmindClient, slug: str) -> None:
    """`chat`, `submit_chat` and `chat_sync` understand each provider's shape."""
    messages = [{"role": "user", "content": "hello"}]
    job = await asyncio.to_thread(client.submit_chat, slug, messages=messages)
    waited = await asyncio.to_thread(job.wait, timeout=30, interval=0.02)
    blocking = await asyncio.to_thread(client.chat_sync, slug, prompt="hello")
    assert waited.text == blocking.text == "Sandbox reply to: hello"
    assert waited.usage
    assert waited.finish_reason
    assert (await asyncio.to_thread(client.chat, slug, prompt="hello")).text == waited.text


async def test_failures_reach_the_sdk(vendor: Running, client: segmind.SegmindClient) -> None:
    """FAILED raises `InferenceFailed`, a job that never ends `InferenceTimeout`, a wrong key `SegmindError`."""
    bad = await asyncio.to_thread(client.submit_async, KLING, prompt="x", character_orientation="up")
    with pytest.raises(segmind.InferenceFailed) as failed:
        await asyncio.to_thread(bad.wait, timeout=10, interval=0.02)
    assert "character_orientation" in str(failed.value.detail)
    vendor.sandbox.faults.add(Fault(action="outcome", outcome="PROCESSING"))
    endless = await asyncio.to_thread(client.submit_async, "mock-inference", sleep=0)
    with pytest.raises(segmind.InferenceTimeout) as late:
        await asyncio.to_thread(endless.wait, timeout=0.05, interval=0.02)
    assert late.value.request_id == endless.request_id
    stranger = segmind.SegmindClient(api_key="SG_ffffffffffffffff", base_url=client.base_url)
    with stranger._client, pytest.raises(segmind.SegmindError) as refused:
        await asyncio.to_thread(stranger.run, KLING, prompt="x")
    assert (refused.value.status, refused.value.detail) == (401, "invalid_api_key")


async def test_upload(client: segmind.SegmindClient, vendor: Running, tmp_path: Path) -> None:
    """`files.upload` gets a URL under which the same bytes are served."""
    picture = tmp_path / "cat.png"
    picture.write_bytes(b"\x89PNG not really")

    class Storage(Files):
        STORAGE_BASE_URL = vendor.url

    answer = await asyncio.to_thread(Storage(client).upload, picture)
    async with httpx.AsyncClient(trust_env=False) as http:
        back = await http.get(answer["file_urls"][0])
    assert (back.content, back.headers["content-type"]) == (picture.read_bytes(), "image/png")


@pytest.mark.parametrize("path", ["talking-avatar", "v2/talking-avatar"])
async def test_pixelflows(client: segmind.SegmindClient, vendor: Running, path: str) -> None:
    """`pixelflows.run` follows a workflow to its parsed output, by id and on the v2 route; FAILED is returned."""
    flows = PixelFlows(client)
    flows.workflows_base = f"{vendor.url}/workflows"
    done = await asyncio.to_thread(flows.run, path, data={"prompt": "x"}, poll_interval=0)
    assert done["status"] == "COMPLETED"
    assert isinstance(done["output"], list)
    failed = await asyncio.to_thread(flows.run, path, data={"prompt": 5}, poll_interval=0)
    assert failed["status"] == "FAILED"
