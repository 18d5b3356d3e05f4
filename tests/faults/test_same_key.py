"""One `Idempotency-Key` in many hands: at most one job at the vendor, and nothing spent for any other."""

from __future__ import annotations

import asyncio
import io
import re
from collections import Counter
from typing import Final

import pytest
from support.gateway import TENANT, Gateway, eventually, gateway_on, settings_for
from support.ledger import assert_audited, entries
from support.vendor import KLING

from gateway.cli.serve import serving
from gateway.sandbox import Fault

KEY: Final = {"idempotency_key": "clip-42"}


@pytest.mark.parametrize("path", [f"/v2/{KLING}", "/v1/faceswap-v2"])
async def test_r07_fifty_clients_at_once(redis_url: str, path: str) -> None:
    """Of 50 clients of two gateways, one starts a job; the others get 409 with Retry-After, or its replay."""
    async with (
        gateway_on(redis_url) as gateway,
        serving(settings_for(redis_url, gateway.vendor.url), io.BytesIO()) as other,
    ):
        await eventually(lambda: _ready(other.readiness.reasons))
        gateway.vendor.sandbox.faults.add(Fault(action="delay", delay_s=0.2))
        urls = [gateway.url + path, other.url + path] * 25
        answers = await asyncio.gather(*(gateway.post(url, **KEY) for url in urls))
        told = Counter((a.status_code, a.headers.get("idempotent-replayed")) for a in answers)
        assert told[200, None] == 1
        assert set(told) <= {(200, None), (200, "true"), (409, None)}
        assert all(int(a.headers["retry-after"]) >= 1 for a in answers if a.status_code == 409)
        assert {a.json()["code"] for a in answers if a.status_code == 409} <= {"idempotency_in_progress"}
        assert len({_without_host(a.text) for a in answers if a.status_code == 200}) == 1
        assert len(gateway.accepted()) == gateway.upstream_posts() == 1
        await eventually(lambda: _nothing_held(gateway))
        await assert_audited(gateway.store.client)


async def test_r08_another_body_or_model(gateway: Gateway) -> None:
    """The same key for another body, model or route is a 422, and nothing is sent, held or spent for it."""
    await gateway.ended((await gateway.post(**KEY)).json()["request_id"])
    before = await gateway.money(), await entries(gateway.store.client, TENANT)
    others = [
        await gateway.post(body={"prompt": "another"}, **KEY),
        await gateway.post("/v2/flux-2-pro", **KEY),
        await gateway.post("/workflows/v2/talking-avatar", **KEY),
    ]
    assert [(a.status_code, a.json()["code"]) for a in others] == [(422, "idempotency_mismatch")] * 3
    assert gateway.upstream_posts() == 1
    assert (await gateway.money(), await entries(gateway.store.client, TENANT)) == before


def _without_host(text: str) -> str:
    """Leave out at which gateway a job is asked for: its URLs are those of the one that answers."""
    return re.sub(r"http://127\.0\.0\.1:\d+", "", text)


async def _ready(reasons: object) -> bool:
    return not reasons


async def _nothing_held(gateway: Gateway) -> bool:
    return (await gateway.money())[1] == 0
