from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from support.raw_upstream import RawUpstream, answers, drops, floods, sends
from support.upstream_client import CONTEXT, KEY, MODEL, Bench

from gateway.errors import UpstreamAmbiguous, UpstreamRefused
from gateway.upstream.stream import VendorStream
from gateway.upstream.transport import Limits, Timeouts

IMAGE = bytes(range(256)) * 300
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\nx-cost: 0.05\r\n"


async def read(stream: VendorStream) -> bytes:
    """Read to the end and close."""
    body = b"".join([chunk async for chunk in stream.chunks()])
    await stream.aclose()
    return body


async def test_a_sync_answer_streams(made: Bench, vendor: RawUpstream) -> None:
    """Status, allowed headers and cost before the body; the bytes as sent; one event, at the end."""
    go_on = asyncio.Event()

    async def reply(writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD + b"x-remaining-credits: 99\r\nx-seed-value: 7\r\nSet-Cookie: a=b\r\nServer: nginx\r\n")
        writer.write(f"Content-Length: {len(IMAGE)}\r\n\r\n".encode() + IMAGE[:1000])
        await go_on.wait()
        writer.write(IMAGE[1000:])

    vendor.reply = reply
    stream = await made.client.sync(MODEL, b"{}", {}, CONTEXT)
    assert (stream.status, stream.cost, made.events) == (200, 50_000_000, [])
    assert stream.headers == {
        "content-type": "image/jpeg",
        "content-length": str(len(IMAGE)),
        "x-seed-value": "7",
        "x-cost": "0.05",
    }
    go_on.set()
    assert await read(stream) == IMAGE
    assert [(call.operation, call.outcome, call.cost) for call in made.calls] == [("sync", "ok", 50_000_000)]
    assert vendor.requests[0].line == f"POST /v1/{MODEL} HTTP/1.1"


async def test_the_connection_is_used_again_after_a_whole_answer(made: Bench, vendor: RawUpstream) -> None:
    """Reading to the end gives the connection back."""
    vendor.reply = answers(200, b"{}", content_type="image/png")
    for _ in range(3):
        await read(await made.client.sync(MODEL, b"{}", {}, CONTEXT))
    assert vendor.connections == 1


async def test_a_stream_closed_early_frees_its_place(opened: Callable[..., Bench], vendor: RawUpstream) -> None:
    """Our caller left: the connection is cut, the pool is free, and the call was good."""
    vendor.reply = floods
    made = opened(vendor.url, limits=Limits(connections=1))
    for _ in range(3):
        stream = await made.client.sync(MODEL, b"{}", {}, CONTEXT)
        assert await anext(stream.chunks())
        await stream.aclose()
        await stream.aclose()
    assert [(call.outcome, call.error) for call in made.calls] == [("ok", "closed early")] * 3


@pytest.mark.parametrize(
    "tail",
    [b"Content-Length: 500\r\n\r\nhalf", b"Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n"],
    ids=["length", "chunks"],
)
async def test_a_stream_that_breaks_off_is_ambiguous(made: Bench, vendor: RawUpstream, tail: bytes) -> None:
    """What came is passed on, then the break is told, with the cost that the head announced."""
    vendor.reply = sends(HEAD + tail, close=True)
    stream = await made.client.sync(MODEL, b"{}", {}, CONTEXT)
    with pytest.raises(UpstreamAmbiguous):
        await read(stream)
    assert [(call.outcome, call.cost, call.upstream_status) for call in made.calls] == [("ambiguous", 50_000_000, 200)]


async def test_a_stream_is_capped(opened: Callable[..., Bench], vendor: RawUpstream) -> None:
    """An endless answer ends at the limit."""
    vendor.reply = floods
    made = opened(vendor.url, limits=Limits(stream_bytes=100_000))
    with pytest.raises(UpstreamAmbiguous, match="larger"):
        await read(await made.client.sync(MODEL, b"{}", {}, CONTEXT))
    assert [call.outcome for call in made.calls] == ["ambiguous"]


async def test_a_stream_is_bounded_in_time(opened: Callable[..., Bench], vendor: RawUpstream) -> None:
    """The whole call has an end, however the bytes trickle."""

    async def trickles(writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD + b"Content-Length: 100000\r\n\r\n")
        while not writer.is_closing():
            writer.write(b" ")
            await asyncio.sleep(0.01)

    vendor.reply = trickles
    made = opened(vendor.url, timeouts=Timeouts(sync_read_s=60, sync_total_s=0.2))
    with pytest.raises(UpstreamAmbiguous) as caught:
        await read(await made.client.sync(MODEL, b"{}", {}, CONTEXT))
    assert caught.value.timed_out


async def test_a_refusal_is_raised_not_streamed(made: Bench, vendor: RawUpstream) -> None:
    """The same errors as a submit's, redacted."""
    vendor.reply = answers(406, {"error": f"insufficient credits for {KEY}"})
    with pytest.raises(UpstreamRefused, match=r"insufficient credits for \*\*\*"):
        await made.client.sync(MODEL, b"{}", {}, CONTEXT)
    assert [call.outcome for call in made.calls] == ["refused"]


@pytest.mark.parametrize(
    "reply",
    [
        sends(b"HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: 500\r\n\r\n<html>"),
        answers(200, b"\x1f\x8b", "Content-Encoding: gzip", content_type="image/png"),
        answers(502, b"<html>", content_type="text/html"),
        answers(302, b"", "Location: /elsewhere"),
        drops,
    ],
    ids=["HTML", "gzip", "502", "redirect", "dropped"],
)
async def test_an_answer_that_can_not_be_passed_on(
    opened: Callable[..., Bench], vendor: RawUpstream, reply: Callable[[asyncio.StreamWriter], object]
) -> None:
    """It may have been billed: ambiguous; and it leaks no connection."""
    vendor.reply = reply  # type: ignore[assignment]  # each is one
    made = opened(vendor.url, limits=Limits(connections=1))
    for _ in range(2):
        with pytest.raises(UpstreamAmbiguous):
            await made.client.sync(MODEL, b"{}", {}, CONTEXT)
    assert [call.outcome for call in made.calls] == ["ambiguous"] * 2


@pytest.mark.parametrize("cost", ["NaN", "-1", "1e400", "free", ""])
async def test_an_absurd_cost_is_none(made: Bench, vendor: RawUpstream, cost: str) -> None:
    """The answer is good all the same."""
    vendor.reply = answers(200, b"x", f"x-cost: {cost}", content_type="image/png")
    stream = await made.client.sync(MODEL, b"{}", {}, CONTEXT)
    assert (stream.cost, await read(stream)) == (None, b"x")


async def test_a_key_in_two_chunks_is_masked(made: Bench, vendor: RawUpstream) -> None:
    """A body that quotes our key comes out masked, though it arrives in halves; what came before is not held up."""
    go_on = asyncio.Event()
    body = f'{{"echo":"{KEY}"}}'.encode()
    cut = body.index(b"SG_") + 7

    async def reply(writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD + f"Content-Length: {len(body)}\r\n\r\n".encode() + body[:cut])
        await go_on.wait()
        writer.write(body[cut:])

    vendor.reply = reply
    stream = await made.client.sync(MODEL, b"{}", {}, CONTEXT)
    chunks = stream.chunks()
    assert await anext(chunks) == b'{"echo":"'
    go_on.set()
    rest = b"".join([chunk async for chunk in chunks])
    assert rest == b"*" * len(KEY) + b'"}'
