"""The same `Idempotency-Key`: at most one job at the vendor, whoever asks however often."""

from __future__ import annotations

import httpx
import pytest
from support.gateway import PROMPT, Gateway, eventually

from gateway.core.job import JobState
from gateway.sandbox import Fault

KEY = {"idempotency_key": "clip-42"}


async def test_replay(gateway: Gateway) -> None:
    """A replay gives the same id, while the job runs and after it ended, whatever the order of the body's members."""
    body = {"prompt": "x", "character_orientation": "image"}
    first = await gateway.post(body=body, **KEY)
    again = await gateway.post(body=dict(reversed(body.items())), **KEY)
    await gateway.ended(first.json()["request_id"])
    late = await gateway.post(body=body, idempotency_key='"clip-42"')
    assert first.json() == again.json() == late.json()
    assert [a.headers.get("idempotent-replayed") for a in (first, again, late)] == [None, "true", "true"]
    assert await gateway.money() == (gateway.billed_nano(), 0)
    assert gateway.upstream_posts() == 1


async def nothing_held(gateway: Gateway) -> bool:
    """Tell whether every job of the tenant has ended."""
    return (await gateway.money())[1] == 0


async def test_sync_replay_gives_the_same_bytes(gateway: Gateway) -> None:
    """A sync call that is repeated gives the kept bytes again; it ran and cost once."""
    first = await gateway.post("/v1/faceswap-v2", **KEY)
    assert await eventually(lambda: nothing_held(gateway))
    again = await gateway.post("/v1/faceswap-v2", **KEY)
    assert first.content == again.content
    for name in ("content-type", "x-cost", "x-generation-time"):
        assert first.headers[name] == again.headers[name]
    assert again.headers["idempotent-replayed"] == "true"
    assert gateway.upstream_posts() == 1
    assert await gateway.money() == (gateway.billed_nano(), 0)


async def test_a_lost_answer_is_not_sent_again(gateway: Gateway) -> None:
    """A job that was dropped after the vendor took it is UNKNOWN and 504; its replay is 200, QUEUED, not a new job."""
    gateway.vendor.sandbox.faults.add(Fault(action="drop", after=True, on=("submit",)))
    lost = await gateway.post(**KEY)
    again = await gateway.post(**KEY)
    job = await gateway.job(lost.json()["request_id"])
    status = await gateway.http.get(lost.json()["status_url"])
    assert (lost.status_code, lost.json()["code"], job.state) == (504, "outcome_unknown", JobState.UNKNOWN)
    assert (again.status_code, again.json()["request_id"], again.json()["status"]) == (200, job.id, "QUEUED")
    assert (status.status_code, status.json()["status"]) == (200, "QUEUED")
    assert await gateway.money() == (0, job.hold)
    assert len(gateway.accepted()) == gateway.upstream_posts() == 1


@pytest.mark.parametrize(
    ("status", "second"),
    [(403, 403), (410, 410), (429, 200), (401, 200)],
    ids=["forbidden: replayed", "retired: replayed", "rate limited: sent again", "our key: sent again"],
)
async def test_after_a_refusal(gateway: Gateway, status: int, second: int) -> None:
    """A refusal for good is replayed; one that invites a retry frees the key, since nothing was accepted."""
    gateway.vendor.sandbox.faults.add(Fault(action="respond", status=status, body={"error": "no"}, times=1))
    first = await gateway.post(**KEY)
    assert ("retry-after" in first.headers) == (second == 200)

    async def answered() -> int | None:
        again = await gateway.post(**KEY)  # 429 until the vendor's wait is over
        return None if again.status_code == httpx.codes.TOO_MANY_REQUESTS else again.status_code

    assert await eventually(answered) == second
    assert gateway.upstream_posts() == (2 if second == 200 else 1)


@pytest.mark.parametrize("gateway", [{"require_idempotency_key": True}], indirect=True)
async def test_required(gateway: Gateway) -> None:
    """Where the tenant requires a key, a submit without one is a 400 and spends nothing."""
    refused = await gateway.post()
    assert (refused.status_code, refused.json()["code"]) == (400, "idempotency_key_required")
    assert (await gateway.post(body=PROMPT, **KEY)).status_code == 200
    assert gateway.upstream_posts() == 1
