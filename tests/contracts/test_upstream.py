"""The port `Upstream`: what each answer of the vendor proves, and how a job stands."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Final, Literal

import pytest
from support.memory_vendor import RECORD_TTL_S, Plan, Trouble
from support.vendors import PlayedVendor

from gateway.core.job import VendorStatus
from gateway.core.vendor import CallContext, VendorState
from gateway.errors import (
    UpstreamAmbiguous,
    UpstreamHeldBack,
    UpstreamInvalidResponse,
    UpstreamRefused,
    UpstreamUnsent,
)
from gateway.upstream.wire import DEFINITE

MODEL: Final = "mock-inference"
BODY: Final = json.dumps({"prompt": "x", "sleep": 30}).encode()
AT_ONCE: Final = json.dumps({"prompt": "x", "sleep": 0}).encode()
CONTEXT: Final = CallContext(model=MODEL, upstream_key="default")
Write = Literal["submit", "sync"]
Read = Literal["status", "result"]
WRITES: Final = pytest.mark.parametrize("write", ["submit", "sync"])
READS: Final = pytest.mark.parametrize("read", ["status", "result"])
TAKES: Final = pytest.mark.parametrize("takes", [True, False])


async def post(vendor: PlayedVendor, write: Write = "submit", context: CallContext = CONTEXT) -> str:
    """Make a write; return the vendor's id."""
    if write == "submit":
        return await vendor.client.submit(MODEL, BODY, {}, context)
    stream = await vendor.client.sync(MODEL, AT_ONCE, {}, context)
    await stream.aclose()
    return stream.upstream_id or ""


async def ask(vendor: PlayedVendor, read: Read, upstream_id: str) -> VendorState:
    """Poll a job."""
    poll = vendor.client.status if read == "status" else vendor.client.result
    return await poll(upstream_id, CONTEXT)


@WRITES
async def test_each_post_is_a_job_of_its_own(vendor: PlayedVendor, write: Write) -> None:
    """The same inputs twice are two jobs with two ids, by the key that is current; nothing holds calls back."""
    ids = [await post(vendor, write) for _ in range(2)]
    assert list(vendor.took) == ids
    assert (len(set(ids)), vendor.posts) == (2, 2)
    assert (vendor.client.current_key(), vendor.client.wait_s("inference")) == ("default", 0)


@WRITES
async def test_a_refusal_is_definite(vendor: PlayedVendor, write: Write) -> None:
    """Nothing was taken; a rate limit says when it ends, within sane bounds."""
    for posts, status in enumerate(sorted({*DEFINITE, 500}), 1):
        vendor.plan(Plan(answer=status))
        with pytest.raises(UpstreamRefused) as caught:
            await post(vendor, write)
        wait_s = caught.value.retry_after_s
        assert caught.value.status == status
        assert wait_s in range(1, 121) if status == 429 else wait_s is None
        assert (dict(vendor.took), vendor.posts) == ({}, posts)


@WRITES
async def test_what_never_left(vendor: PlayedVendor, write: Write) -> None:
    """Without a connection nothing was sent, which is not the same as having been held back."""
    vendor.plan(Plan(answer="unsent"))
    with pytest.raises(UpstreamUnsent) as caught:
        await post(vendor, write)
    assert not isinstance(caught.value, UpstreamHeldBack)
    assert (dict(vendor.took), vendor.posts) == ({}, 0)


@WRITES
async def test_what_may_not_leave(vendor: PlayedVendor, write: Write) -> None:
    """A write whose time is over when it would leave is held back, and is not tried again."""
    asked = []

    def leaving() -> None:
        asked.append(write)
        raise UpstreamHeldBack("overloaded", "too late", retry_after_s=1)

    with pytest.raises(UpstreamHeldBack):
        await post(vendor, write, replace(CONTEXT, leaving=leaving))
    assert (dict(vendor.took), vendor.posts, len(asked)) == ({}, 0, 1)
    assert await post(vendor, write) in vendor.took


@WRITES
@TAKES
@pytest.mark.parametrize("answer", ["lost", "nonsense", 502, 503, 504])
async def test_what_may_have_been_taken(
    vendor: PlayedVendor, write: Write, answer: Literal["lost", "nonsense"] | int, *, takes: bool
) -> None:
    """A broken connection, an unreadable answer and those of gateways look the same whether the job runs or not."""
    vendor.plan(Plan(answer=answer, takes=takes))
    with pytest.raises(UpstreamAmbiguous) as caught:
        await post(vendor, write)
    assert caught.value.status == (answer if isinstance(answer, int) else 200 if answer == "nonsense" else None)
    assert caught.value.timed_out is (answer == 504)
    assert (len(vendor.took), vendor.posts) == (takes, 1)


@WRITES
@TAKES
async def test_silence(vendor: PlayedVendor, write: Write, *, takes: bool) -> None:
    """A call that is never answered ends by its time-out, which shows nothing of its job."""
    vendor.plan(Plan(answer="lost", parked=True, takes=takes))
    with pytest.raises(UpstreamAmbiguous) as caught:
        await vendor.outlast(post(vendor, write))
    assert (caught.value.timed_out, caught.value.status) == (True, None)
    assert (len(vendor.took), vendor.posts) == (takes, 1)


@READS
@pytest.mark.parametrize("told", [True, False])
async def test_the_life_of_a_job(vendor: PlayedVendor, read: Read, *, told: bool) -> None:
    """It is queued, runs, and has completed at its bill, if the vendor tells; only a full read brings the body."""
    vendor.plan(Plan() if told else Plan(reported=None))
    upstream_id = await post(vendor)
    words: list[tuple[float, VendorStatus]] = [(0, "QUEUED"), (10, "PROCESSING"), (30, "COMPLETED")]
    for seconds, word in words:
        vendor.pass_time(seconds)
        state = await ask(vendor, read, upstream_id)
        assert (state.status, state.error) == (word, None)
        assert state.cost == (vendor.took[upstream_id] if told and word == "COMPLETED" else None)
        assert (json.loads(state.body)["status"] == word) if read == "result" else state.body == b""


@READS
async def test_a_job_that_failed(vendor: PlayedVendor, read: Read) -> None:
    """Either read says so (422), with the reason, the body and no cost."""
    vendor.plan(Plan(fails=True))
    upstream_id = await post(vendor)
    vendor.pass_time(60)
    state = await ask(vendor, read, upstream_id)
    said = json.loads(state.body)
    assert (state.status, state.cost) == ("FAILED", None)
    assert (said["status"], said["error"]) == ("FAILED", state.error)
    assert state.error


@READS
async def test_a_job_that_the_vendor_does_not_know(vendor: PlayedVendor, read: Read) -> None:
    """An id that it never gave and one of an hour ago are the same to it (404)."""
    upstream_id = await post(vendor)
    vendor.pass_time(RECORD_TTL_S)
    assert await ask(vendor, read, upstream_id) == VendorState(None)
    assert await ask(vendor, read, "7c9e6679-7425-40de-944b-e07fc1f90ae7") == VendorState(None)


@READS
@pytest.mark.parametrize(
    ("trouble", "error"),
    [("lost", UpstreamAmbiguous), ("limited", UpstreamRefused), ("garbage", UpstreamInvalidResponse)],
)
async def test_a_poll_that_goes_wrong(
    vendor: PlayedVendor, read: Read, trouble: Trouble, error: type[Exception]
) -> None:
    """It says nothing of the job, and the next one is answered."""
    upstream_id = await post(vendor)
    vendor.spoil(trouble)
    with pytest.raises(error) as caught:
        await ask(vendor, read, upstream_id)
    if isinstance(caught.value, UpstreamRefused):
        assert (caught.value.status, caught.value.retry_after_s in range(1, 121)) == (429, True)
    assert (await ask(vendor, read, upstream_id)).status == "QUEUED"


@READS
async def test_a_word_of_the_past(vendor: PlayedVendor, read: Read) -> None:
    """The vendor may deny a job that it runs, or tell an older state after a later one."""
    upstream_id = await post(vendor)
    vendor.pass_time(60)
    for trouble, words in (("missing", {None}), ("stale", {"QUEUED", "PROCESSING"})):
        vendor.spoil("missing" if trouble == "missing" else "stale")
        state = await ask(vendor, read, upstream_id)
        assert (state.status in words, state.cost) == (True, None)
    assert (await ask(vendor, read, upstream_id)).status == "COMPLETED"


@pytest.mark.parametrize("told", [True, False])
async def test_a_sync_answer_streams(vendor: PlayedVendor, *, told: bool) -> None:
    """Its head names the job and, if the vendor tells, its bill; closing it twice is nothing."""
    vendor.plan(Plan() if told else Plan(reported=None))
    stream = await vendor.client.sync(MODEL, AT_ONCE, {}, CONTEXT)
    assert b"".join([chunk async for chunk in stream.chunks()])
    await stream.aclose()
    await stream.aclose()
    ((upstream_id, bill),) = vendor.took.items()
    assert (stream.status, stream.upstream_id, stream.cost) == (200, upstream_id, bill if told else None)
    assert stream.headers["content-type"] == "application/json"
    assert "x-remaining-credits" not in stream.headers


async def test_a_sync_answer_that_breaks_off(vendor: PlayedVendor) -> None:
    """The caller has a part of it, and then learns that it is no more than that."""
    vendor.plan(Plan(breaks=True))
    stream = await vendor.client.sync(MODEL, AT_ONCE, {}, CONTEXT)
    with pytest.raises(UpstreamAmbiguous):
        [chunk async for chunk in stream.chunks()]
    await stream.aclose()
    assert len(vendor.took) == 1


async def test_a_sync_call_that_failed(vendor: PlayedVendor) -> None:
    """It is a refusal (500): the job ran, and costs nothing."""
    vendor.plan(Plan(fails=True))
    with pytest.raises(UpstreamRefused) as caught:
        await post(vendor, "sync")
    assert (caught.value.status, len(vendor.took)) == (500, 1)


async def test_an_upload(vendor: PlayedVendor) -> None:
    """Each asset has a URL."""
    body = json.dumps({"data_urls": ["data:image/png;base64,AAAA"] * 2}).encode()
    answer = await vendor.client.upload(body, {}, CONTEXT)
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    assert len(set(json.loads(answer.body)["file_urls"])) == 2
