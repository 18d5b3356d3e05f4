"""The port `HistoryReader`: what the vendor was asked and billed."""

from __future__ import annotations

import json
from typing import Any, Final

import pytest
from support.memory_vendor import RECORD_TTL_S, Plan
from support.vendors import PlayedVendor

from gateway.core.adoption import History, HistoryRow
from gateway.core.inputs import fingerprint
from gateway.core.vendor import CallContext
from gateway.errors import UpstreamError

MODEL: Final = "mock-inference"
FIRST_LISTED_S: Final = 120.0


async def submit(vendor: PlayedVendor, model: str = MODEL, **params: Any) -> str:  # noqa: ANN401 of the model
    """Submit a job that runs 30 s; return the vendor's id."""
    body = json.dumps({"prompt": "x", "sleep": 30, **params}).encode()
    return await vendor.client.submit(model, body, {}, CallContext(model=model))


async def read(vendor: PlayedVendor, model: str = MODEL, *, ago_s: float = 600) -> History:
    """Read the history of so many seconds."""
    return await vendor.client.history(
        model, since_ms=vendor.now_ms - round(ago_s * 1000), now_ms=vendor.now_ms, upstream_key="default"
    )


@pytest.mark.parametrize("fails", [True, False])
async def test_the_row_of_a_job(vendor: PlayedVendor, *, fails: bool) -> None:
    """It has the inputs and the time of the POST, is PENDING until the job ends, and then tells the bill."""
    vendor.plan(Plan(fails=fails))
    made_ms, upstream_id = vendor.now_ms, await submit(vendor)
    ends = ("FAILED", 0) if fails else ("COMPLETED", vendor.took[upstream_id])
    print_ = fingerprint(MODEL, {"sleep": 30, "prompt": "x"})
    for seconds, (status, cost) in ((0, ("PENDING", 0)), (10, ("PENDING", 0)), (30, ends), (RECORD_TTL_S, ends)):
        vendor.pass_time(seconds)
        row = HistoryRow(
            request_id=upstream_id, model=MODEL, status=status, cost=cost, fingerprint=print_, created_ms=made_ms
        )
        assert await read(vendor, ago_s=2 * RECORD_TTL_S) == History([row], complete=True)


async def test_a_sync_call_has_a_row_like_any(vendor: PlayedVendor) -> None:
    """Nothing in it tells that it was one."""
    stream = await vendor.client.sync(MODEL, b'{"prompt": "x", "sleep": 0}', {}, CallContext(model=MODEL))
    await stream.aclose()
    (row,) = (await read(vendor)).rows
    assert (row.request_id, row.status, row.cost) == (stream.upstream_id, "COMPLETED", stream.cost)
    assert row.fingerprint == fingerprint(MODEL, {"prompt": "x", "sleep": 0})


@pytest.mark.parametrize("takes", [True, False])
async def test_what_became_of_a_post_without_an_answer(vendor: PlayedVendor, *, takes: bool) -> None:
    """Its row is there if it was taken; one that was not, or was refused, has none."""
    known = await submit(vendor)
    vendor.plan(Plan(answer="lost", takes=takes))
    with pytest.raises(UpstreamError):
        await submit(vendor)
    vendor.plan(Plan(answer=400))
    with pytest.raises(UpstreamError):
        await submit(vendor)
    rows = (await read(vendor)).rows
    assert {row.request_id for row in rows} == set(vendor.took)
    assert (known in vendor.took, len(rows)) == (True, 1 + takes)


async def test_several_outputs_are_one_request(vendor: PlayedVendor) -> None:
    """However many rows the vendor has of it."""
    upstream_id = await submit(vendor, "flux-2-pro", num_images=3)
    vendor.pass_time(60)
    (row,) = (await read(vendor, "flux-2-pro")).rows
    assert (row.request_id, row.cost) == (upstream_id, vendor.took[upstream_id])


async def test_other_models_are_left_out(vendor: PlayedVendor) -> None:
    """One whose name begins with the wanted one's, too."""
    await submit(vendor, "kling-2.6-standard-motion-control")
    wanted = await submit(vendor, "kling-2.6")
    assert [row.request_id for row in (await read(vendor, "kling-2.6")).rows] == [wanted]


async def test_a_row_appears_late(vendor: PlayedVendor) -> None:
    """Until then it is as if there had been nothing."""
    upstream_id = await submit(vendor)
    vendor.pass_time(FIRST_LISTED_S)
    vendor.plan(Plan(listed_s=60))
    late = await submit(vendor)
    assert [row.request_id for row in (await read(vendor)).rows] == [upstream_id]
    vendor.pass_time(60)
    assert {row.request_id for row in (await read(vendor)).rows} == {upstream_id, late}


async def test_nothing_of_late(vendor: PlayedVendor) -> None:
    """A history that shows the model, but nothing of the time asked for, is an empty one."""
    await submit(vendor)
    vendor.pass_time(5 * 86_400)
    assert await read(vendor) == History([], complete=True)


async def test_a_model_never_shown(vendor: PlayedVendor) -> None:
    """Where there is no request of the model in a month, finding nothing means nothing."""
    await submit(vendor, "flux-2-pro")
    with pytest.raises(UpstreamError):
        await read(vendor)
    await submit(vendor)
    vendor.pass_time(31 * 86_400)
    with pytest.raises(UpstreamError):
        await read(vendor)


async def test_not_readable(vendor: PlayedVendor) -> None:
    """A history that can't be read is never an empty one."""
    await submit(vendor)
    vendor.hide()
    with pytest.raises(UpstreamError):
        await read(vendor)
