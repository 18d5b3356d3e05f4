"""What a failed exchange proves, each case with a real socket."""

from __future__ import annotations

import asyncio
import socket
import ssl
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest
from aiohttp.abc import AbstractResolver, ResolveResult
from support.raw_upstream import RawUpstream, Reply, answers, drops, floods, hangs, resets, sends
from support.upstream_client import CONTEXT, KEY, MODEL, Bench

from gateway.errors import UpstreamAmbiguous, UpstreamInvalidResponse, UpstreamRefused, UpstreamUnsent
from gateway.upstream.transport import Limits, Timeouts

HTML = b"<html>Bad Gateway</html>"
ACCEPTED = {"request_id": "v-1"}
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"

AMBIGUOUS: dict[str, Reply] = {
    "dropped after the request": drops,
    "reset after the request": resets,
    "dropped amid the headers": sends(b"HTTP/1.1 200 OK\r\nContent-Ty", close=True),
    "garbage status line": sends(b"SSH-2.0-OpenSSH_9.2\r\n\r\n", close=True),
    "truncated body": sends(HEAD + b'Content-Length: 500\r\n\r\n{"request_id"', close=True),
    "truncated chunks": sends(HEAD + b'Transfer-Encoding: chunked\r\n\r\n5\r\n{"req', close=True),
    "endless body": floods,
    "HTML 200": answers(200, HTML, content_type="text/html"),
    "HTML 502": answers(502, HTML, content_type="text/html"),
    "JSON 502": answers(502, {"error": "bad gateway"}),
    "JSON 503": answers(503, {"error": "unavailable"}),
    "JSON 504": answers(504, {"error": "timeout"}),
    "HTML 500": answers(500, HTML, content_type="text/html"),
    "truncated 500": sends(b'HTTP/1.1 500 No\r\nContent-Length: 99\r\n\r\n{"error": "no"}', close=True),
    "HTML 408": answers(408, HTML, content_type="text/html"),
    "JSON 408, as of a proxy": answers(408, {"error": "request timeout"}),
    "JSON 499, as of a proxy": answers(499, {"error": "client closed request"}),
    "200 with an empty body": answers(200, b""),
    "a redirect": answers(302, b"", "Location: https://elsewhere.example/"),
    "a redirect that keeps the method": answers(307, b"", "Location: /v2/other"),
    "gzip": answers(200, b"\x1f\x8b\x08\x00 bomb", "Content-Encoding: gzip"),
}
WITHOUT_ID: dict[str, Reply] = {
    "200 without an id": answers(200, {"status": "QUEUED"}),
    "200 with a null id": answers(200, {"request_id": None}),
    "200 with an id unfit for a URL": answers(200, {"request_id": "../../v1/x"}),
}


@pytest.mark.parametrize("reply", [*AMBIGUOUS.values(), *WITHOUT_ID.values()], ids=[*AMBIGUOUS, *WITHOUT_ID])
async def test_after_the_bytes_left_a_submit_is_ambiguous(made: Bench, vendor: RawUpstream, reply: Reply) -> None:
    """Whatever unusable comes back, the outcome is unknown and nothing is sent again."""
    vendor.reply = reply
    with pytest.raises(UpstreamAmbiguous):
        await made.client.submit(MODEL, b"{}", {}, CONTEXT)
    assert len(vendor.requests) == 1
    assert [(call.outcome, call.attempt) for call in made.calls] == [("ambiguous", 1)]


@pytest.mark.parametrize("reply", AMBIGUOUS.values(), ids=AMBIGUOUS)
async def test_an_upload_is_a_write_too(made: Bench, vendor: RawUpstream, reply: Reply) -> None:
    """The same answers leave an upload uncertain."""
    vendor.reply = reply
    with pytest.raises(UpstreamAmbiguous):
        await made.client.upload(b"{}", {}, CONTEXT)
    assert len(vendor.requests) == 1


@pytest.mark.parametrize("operation", ["submit", "sync", "status"])
async def test_silence_is_ambiguous_and_says_that_it_was_a_timeout(
    opened: Callable[..., Bench], vendor: RawUpstream, operation: str
) -> None:
    """A vendor that takes the request and says nothing may have accepted it."""
    vendor.reply = hangs
    made = opened(vendor.url, timeouts=Timeouts(read_s=0.05, sync_read_s=0.05))
    write = made.client.sync if operation == "sync" else made.client.submit
    with pytest.raises(UpstreamAmbiguous) as caught:
        await (made.client.status("v-1", CONTEXT) if operation == "status" else write(MODEL, b"{}", {}, CONTEXT))
    assert caught.value.timed_out
    assert len(vendor.requests) == 1


async def test_a_body_that_drips_is_bounded_by_the_whole_exchange(
    opened: Callable[..., Bench], vendor: RawUpstream
) -> None:
    """Bytes that keep coming, one at a time, don't hold a connection for ever."""

    async def drips(writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD + b"Content-Length: 100000\r\n\r\n")
        while not writer.is_closing():
            writer.write(b" ")
            await asyncio.sleep(0.01)

    vendor.reply = drips
    made = opened(vendor.url, timeouts=Timeouts(read_s=60, total_s=0.2))
    with pytest.raises(UpstreamAmbiguous) as caught:
        await made.client.submit(MODEL, b"{}", {}, CONTEXT)
    assert caught.value.timed_out
    assert caught.value.status == 200


def closed_port() -> int:
    """Find a port where nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Names(AbstractResolver):
    """A resolver that fails so many times, then knows every name as loopback."""

    def __init__(self, failures: int) -> None:
        self._failures = failures

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Answer as the next turn says."""
        if self._failures > 0:
            self._failures -= 1
            raise OSError(socket.EAI_NONAME, "Name or service not known")
        family = family or socket.AF_INET
        return [ResolveResult(hostname=host, host="127.0.0.1", port=port, family=family, proto=0, flags=0)]

    async def close(self) -> None:
        """Hold nothing."""


UNSENT: dict[str, tuple[str, dict[str, object]]] = {
    "refused": ("http://127.0.0.1:{closed}", {}),
    "unknown name": ("http://api.segmind.invalid", {"resolver": Names(failures=99)}),
    "unknown name, looked up by the system": ("http://api.segmind.invalid", {}),
}


@pytest.mark.parametrize(("url", "settings"), UNSENT.values(), ids=UNSENT)
async def test_what_provably_never_left_is_tried_three_times(
    opened: Callable[..., Bench], url: str, settings: dict[str, object]
) -> None:
    """Name look-up and TCP: two growing, jittered pauses, then unsent, and one event an attempt."""
    made = opened(url.format(closed=closed_port()), **settings)
    with pytest.raises(UpstreamUnsent):
        await made.client.submit(MODEL, b"{}", {}, CONTEXT)
    assert made.pauses == [pytest.approx(0.1), pytest.approx(0.2)]
    assert [(call.outcome, call.attempt) for call in made.calls] == [("unsent", 1), ("unsent", 2), ("unsent", 3)]


EXPIRED: Final = Path(__file__).with_name("expired.pem")
GREETED: dict[str, Reply] = {
    "dropped": drops,
    "reset": resets,
    "silent": hangs,
    "no TLS": sends(b"HTTP/1.1 400 No\r\n\r\n"),
}


@pytest.mark.parametrize("greeting", GREETED.values(), ids=GREETED)
async def test_a_failed_handshake_is_unsent(opened: Callable[..., Bench], greeting: Reply) -> None:
    """A server that drops, misunderstands or never answers the TLS greeting has seen nothing of the request."""
    serving = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving.append(asyncio.current_task())  # else one that hangs is collected with its lost connection
        await reader.read(64)
        try:
            await greeting(writer)
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        made = opened(url, timeouts=Timeouts(connect_s=0.2, pool_s=5), verify=ssl.create_default_context())
        with pytest.raises(UpstreamUnsent):
            await made.client.submit(MODEL, b"{}", {}, CONTEXT)
    assert [call.outcome for call in made.calls] == ["unsent"] * 3


@pytest.mark.parametrize("trusted", [EXPIRED, None], ids=["expired", "nobody's"])
async def test_a_certificate_that_is_no_good_is_unsent(opened: Callable[..., Bench], trusted: Path | None) -> None:
    """Behind a certificate that has expired, or that nobody vouches for, nothing is told: three attempts."""
    heard: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.read())
        writer.close()

    identity = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    identity.load_cert_chain(EXPIRED)
    async with await asyncio.start_server(serve, "127.0.0.1", 0, ssl=identity) as server:
        url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        made = opened(url, verify=ssl.create_default_context(cafile=trusted))
        with pytest.raises(UpstreamUnsent):
            await made.client.submit(MODEL, b"{}", {}, CONTEXT)
    assert [(call.outcome, call.attempt) for call in made.calls] == [("unsent", 1), ("unsent", 2), ("unsent", 3)]
    assert heard == []


async def test_a_full_pool_is_unsent(opened: Callable[..., Bench], vendor: RawUpstream) -> None:
    """A call that never got a connection left nothing; the one that holds it is not disturbed."""
    release = asyncio.Event()

    async def waits(writer: asyncio.StreamWriter) -> None:
        await release.wait()
        await answers(200, ACCEPTED)(writer)

    vendor.reply = waits
    made = opened(vendor.url, limits=Limits(connections=1), timeouts=Timeouts(pool_s=0.3))
    first = asyncio.create_task(made.client.submit(MODEL, b"{}", {}, CONTEXT))
    await vendor.arrived.wait()
    with pytest.raises(UpstreamUnsent):
        await made.client.submit(MODEL, b"{}", {}, CONTEXT)
    release.set()
    assert await first == "v-1"
    assert len(vendor.requests) == 1


async def test_an_unsent_write_goes_through_once_the_vendor_can_be_reached(
    opened: Callable[..., Bench], vendor: RawUpstream
) -> None:
    """The second attempt succeeds and the vendor sees one request."""
    made = opened(vendor.url.replace("127.0.0.1", "api.segmind.invalid"), resolver=Names(failures=1))
    assert await made.client.submit(MODEL, b"{}", {}, CONTEXT) == "v-1"
    assert [call.outcome for call in made.calls] == ["unsent", "ok"]
    assert len(vendor.requests) == 1


READS: dict[str, tuple[Reply, type[Exception]]] = {
    "dropped": (drops, UpstreamAmbiguous),
    "truncated": (AMBIGUOUS["truncated body"], UpstreamAmbiguous),
    "HTML 502": (AMBIGUOUS["HTML 502"], UpstreamAmbiguous),
    "a redirect": (AMBIGUOUS["a redirect"], UpstreamInvalidResponse),
    "HTML 200": (AMBIGUOUS["HTML 200"], UpstreamInvalidResponse),
    "HTML 404": (answers(404, HTML, content_type="text/html"), UpstreamInvalidResponse),
    "gzip": (AMBIGUOUS["gzip"], UpstreamInvalidResponse),
    "endless body": (floods, UpstreamInvalidResponse),
    "an unknown status": (answers(200, {"status": "PONDERING"}), UpstreamInvalidResponse),
    "a 422 that is not FAILED": (answers(422, {"error": "what?"}), UpstreamRefused),
    "429": (answers(429, {"error": "slow down"}), UpstreamRefused),
    "JSON 500": (answers(500, {"error": "oops"}), UpstreamRefused),
}


@pytest.mark.parametrize(("reply", "expected"), READS.values(), ids=READS.keys())
@pytest.mark.parametrize("operation", ["status", "result"])
async def test_a_read_that_says_nothing_of_the_job(
    made: Bench, vendor: RawUpstream, reply: Reply, expected: type[Exception], operation: str
) -> None:
    """No unusable answer passes for a word on the job, least of all for its absence."""
    vendor.reply = reply
    with pytest.raises(expected):
        await getattr(made.client, operation)("v-1", CONTEXT)
    assert len(made.calls) == 1


async def test_no_exception_holds_the_key(made: Bench, vendor: RawUpstream) -> None:
    """The exceptions of aiohttp hold the request's headers; ours come without them, cause and context included."""
    vendor.reply = AMBIGUOUS["garbage status line"]
    with pytest.raises(UpstreamAmbiguous) as caught:
        await made.client.submit(MODEL, b'{"prompt": "hush"}', {}, CONTEXT)
    assert (caught.value.__cause__, caught.value.__context__) == (None, None)
    assert KEY not in "".join(traceback.format_exception(caught.value)) + repr(caught.value)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 406, 410, 413, 415, 422, 429])
@pytest.mark.parametrize("body", [b'{"error": "no"}', HTML, b""], ids=["JSON", "HTML", "empty"])
async def test_definite_refusals(made: Bench, vendor: RawUpstream, status: int, body: bytes) -> None:
    """These statuses refuse by themselves; the vendor's words come along, HTML never does."""
    vendor.reply = answers(status, body)
    with pytest.raises(UpstreamRefused) as caught:
        await made.client.submit(MODEL, b"{}", {}, CONTEXT)
    assert caught.value.status == status
    assert caught.value.detail == "no" if body.startswith(b"{") else "<" not in caught.value.detail
    assert caught.value.retry_after_s == (5 if status == 429 else None)
    assert [call.outcome for call in made.calls] == ["refused"]


@pytest.mark.parametrize("status", [402, 409, 451, 500])
async def test_other_refusals_need_the_envelope(made: Bench, vendor: RawUpstream, status: int) -> None:
    """Any other 4xx, and a 500, refuses in the vendor's own envelope."""
    vendor.reply = answers(status, {"error": "code", "error_description": "in words"})
    with pytest.raises(UpstreamRefused, match="code: in words"):
        await made.client.submit(MODEL, b"{}", {}, CONTEXT)


async def test_a_refusal_whose_body_breaks_off_still_refuses(made: Bench, vendor: RawUpstream) -> None:
    """The status was whole; the words are lost."""
    vendor.reply = sends(b"HTTP/1.1 401 No\r\nContent-Length: 500\r\n\r\n{", close=True)
    with pytest.raises(UpstreamRefused, match="Unauthorized"):
        await made.client.submit(MODEL, b"{}", {}, CONTEXT)
