"""What the vendor does wrong, and what the caller gets, what is on record and what stays held for it."""

from __future__ import annotations

from typing import Final

import httpx
import pytest
from support.gateway import TENANT, Gateway
from support.ledger import entries

from gateway.core.job import JobState
from gateway.sandbox import Fault

SYNC: Final = "/v1/faceswap-v2"
HTML: Final = "<!doctype html><title>Bad Gateway</title>"


async def test_real_refusals(gateway: Gateway) -> None:
    """The vendor's own 403, 404, 410, 406 and 429, as it really sends them, come out as they should."""
    sandbox = gateway.vendor.sandbox
    models = ("sandbox-forbidden", "no-such-model", "sandbox-retired")
    seen = [(await gateway.post(f"/v2/{model}")).json()["code"] for model in models]
    sandbox.knobs.team_limit_reached = True
    seen.append((await gateway.post()).json()["code"])
    sandbox.knobs.rate_limit_rpm = 1
    await gateway.post()
    seen.append((await gateway.post()).json()["code"])
    assert seen == [
        "upstream_forbidden",
        "model_not_found",
        "model_retired",
        "upstream_credits_exhausted",
        "upstream_rate_limited",
    ]
    assert await gateway.money() == (0, 0)


async def test_a_sync_answer_that_breaks_off(gateway: Gateway) -> None:
    """A sync answer that breaks off breaks off for the caller too; it was billed, so it is charged."""
    gateway.vendor.sandbox.faults.add(Fault(action="truncate", on=("sync",)))
    with pytest.raises(httpx.RemoteProtocolError):
        await gateway.post(SYNC)
    [job_id] = {entry["job"] for entry in await entries(gateway.store.client, TENANT)}
    assert (await gateway.ended(job_id)).state is JobState.COMPLETED
    assert await gateway.money() == (gateway.billed_nano(), 0)


@pytest.mark.parametrize(
    ("fault", "status", "code"),
    [
        (Fault(action="respond", on=("upload",), status=502, body=HTML), 502, "upstream_error"),
        (Fault(action="respond", on=("upload",), status=504, body=HTML), 504, "upstream_timeout"),
        (Fault(action="respond", on=("upload",), status=401, body={"error": "x"}), 503, "upstream_auth"),
    ],
)
async def test_uploads(gateway: Gateway, fault: Fault, status: int, code: str) -> None:
    """An upload that the vendor fails is told as such; it holds nothing either way."""
    gateway.vendor.sandbox.faults.add(fault)
    answer = await gateway.post("/upload-asset", {"data_urls": ["data:image/png;base64,AAAA"]})
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert await gateway.money() == (0, 0)
