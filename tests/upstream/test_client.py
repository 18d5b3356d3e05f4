from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from support.raw_upstream import RawUpstream, answers, drops
from support.upstream_client import CONTEXT, KEY, MODEL, TRACE, Bench

from gateway.core.tenant import Secret
from gateway.core.vendor import CallContext, VendorState
from gateway.errors import InvalidRequest, UpstreamAmbiguous, UpstreamInvalidResponse, UpstreamRefused
from gateway.upstream.auth import KeyRing
from gateway.upstream.transport import Limits
from gateway.upstream.wire import Balance

OTHER = "SG_ffeeddccbbaa9988"
BODY = b'{ "prompt" : "caf\xc3\xa9", "n": 1.10 }'


async def test_a_submit_as_it_goes_over_the_wire(made: Bench, vendor: RawUpstream) -> None:
    """The body byte for byte, our key, the allow-list, nothing compressed; and the vendor's id comes back."""
    headers = {
        "content-type": "application/json",
        "user-agent": "segmind-sdk/1.3",
        "cookie": "a=b",
        "x-api-key": "sgw_x",
    }
    assert await made.client.submit(MODEL, BODY, headers, CONTEXT) == "v-1"
    (request,) = vendor.requests
    assert request.line == f"POST /v2/{MODEL} HTTP/1.1"
    assert request.body == BODY
    assert request.headers == {
        "host": vendor.url.removeprefix("http://"),
        "accept": "*/*",
        "accept-encoding": "identity",
        "connection": "keep-alive",
        "content-length": str(len(BODY)),
        "content-type": "application/json",
        "traceparent": CONTEXT.traceparent,
        "user-agent": "segmind-sdk/1.3",
        "x-api-key": KEY,
    }


@pytest.mark.parametrize("size", [0, 262_144, 262_145, 3_000_000])
async def test_a_body_of_any_size_has_its_length(made: Bench, vendor: RawUpstream, size: int) -> None:
    """Large bodies are written in slices, never in chunks: the vendor sees the same request."""
    await made.client.upload(b"x" * size, {}, CONTEXT)
    (request,) = vendor.requests
    assert request.line == "POST /upload-asset HTTP/1.1"
    assert request.body == b"x" * size
    assert "transfer-encoding" not in request.headers


@pytest.mark.parametrize("model", ["..", "a%2Fb", "http://evil/", "a?b"])
async def test_a_bad_slug_sends_nothing(made: Bench, vendor: RawUpstream, model: str) -> None:
    """It is the caller's mistake, and neither a connection nor an event comes of it."""
    for call in (made.client.submit, made.client.sync):
        with pytest.raises(InvalidRequest):
            await call(model, b"{}", {}, CONTEXT)
    assert (vendor.connections, made.events) == (0, [])


async def test_the_event_of_a_submit(made: Bench) -> None:
    """One event with everything that a line and a metric need."""
    await made.client.submit(MODEL, BODY, {}, CONTEXT)
    (call,) = made.calls
    assert (call.operation, call.outcome, call.upstream_status, call.attempt) == ("submit", "ok", 200, 1)
    assert (call.tenant, call.key_id, call.model, call.job_id) == ("video-team", "a1b2c3d4", MODEL, "job-1")
    assert (call.upstream_id, call.request_id, call.trace_id, call.held) == ("v-1", "req-1", TRACE, 941_500_000)
    assert call.latency_ms >= 0


async def test_an_error_that_echoes_the_key_and_the_prompt(made: Bench, vendor: RawUpstream) -> None:
    """The caller gets the words without the key; the event has neither."""
    vendor.reply = answers(400, {"error": f"bad prompt 'a secret wish' for {KEY}"})
    with pytest.raises(UpstreamRefused) as caught:
        await made.client.submit(MODEL, b'{"prompt": "a secret wish"}', {}, CONTEXT)
    assert caught.value.detail == f"bad prompt 'a secret wish' for {'*' * len(KEY)}"
    assert KEY not in repr(caught.value)
    assert "wish" not in repr(made.calls)
    assert KEY not in repr(made.calls)


async def test_a_result_that_echoes_the_key(made: Bench, vendor: RawUpstream) -> None:
    """It is masked in its place; every other byte stays."""
    body = json.dumps({"status": "COMPLETED", "output": KEY}).encode()
    vendor.reply = answers(200, body)
    assert (await made.client.result("v-1", CONTEXT)).body == body.replace(KEY.encode(), b"*" * len(KEY))


async def test_cookies_are_not_kept(made: Bench, vendor: RawUpstream) -> None:
    """What the vendor sets for one tenant's call never goes with another's."""
    vendor.reply = answers(200, {"request_id": "v-1"}, "Set-Cookie: session=tenant-a; Path=/")
    for _ in range(2):
        await made.client.submit(MODEL, b"{}", {}, CONTEXT)
    assert ["cookie" in request.headers for request in vendor.requests] == [False, False]
    assert vendor.connections == 1


async def test_the_environments_proxies_are_not_used(
    opened: Callable[..., Bench], vendor: RawUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The key leaves only towards the configured origin."""
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    assert await opened(vendor.url).client.submit(MODEL, b"{}", {}, CONTEXT) == "v-1"


async def test_status_and_result(made: Bench, vendor: RawUpstream) -> None:
    """Each has its path; a result comes with its body as received and its cost in the event."""
    body = b'{"status": "COMPLETED", "metrics": {"cost": 0.9415}}'
    vendor.reply = answers(200, body)
    assert await made.client.status("v-1", CONTEXT) == VendorState("COMPLETED", cost=941_500_000)
    assert await made.client.result("v-1", CONTEXT) == VendorState("COMPLETED", cost=941_500_000, body=body)
    assert [request.line for request in vendor.requests] == [
        "GET /v2/requests/v-1/status HTTP/1.1",
        "GET /v2/requests/v-1 HTTP/1.1",
    ]
    assert [(call.operation, call.cost, call.upstream_id) for call in made.calls] == [
        ("status", 941_500_000, "v-1"),
        ("result", 941_500_000, "v-1"),
    ]


@pytest.mark.parametrize(
    ("status", "body", "word"), [(404, {"error": "Request v-1 not found"}, None), (422, {"status": "FAILED"}, "FAILED")]
)
async def test_words_that_come_with_an_error_status(
    made: Bench, vendor: RawUpstream, status: int, body: dict[str, object], word: str | None
) -> None:
    """An unknown job and a FAILED one are answers, not failures of the call."""
    vendor.reply = answers(status, body)
    assert (await made.client.status("v-1", CONTEXT)).status == word
    assert [(call.outcome, call.upstream_status) for call in made.calls] == [("ok", status)]


async def test_answers_are_capped(opened: Callable[..., Bench], vendor: RawUpstream) -> None:
    """A body of the allowed size is read; one byte more is not, whether it is announced or not."""
    body = b'{"status": "QUEUED"}'
    made = opened(vendor.url, limits=Limits(result_bytes=len(body), answer_bytes=len(body) - 1))
    vendor.reply = answers(200, body)
    assert (await made.client.result("v-1", CONTEXT)).status == "QUEUED"
    with pytest.raises(UpstreamInvalidResponse):
        await made.client.status("v-1", CONTEXT)


async def test_the_accounts_balance(made: Bench, vendor: RawUpstream) -> None:
    """What the company has left."""
    vendor.reply = answers(200, {"credits": 2, "free-credits": 0})
    assert await made.client.balance(CallContext()) == Balance(2_000_000_000, 0)
    assert vendor.requests[0].line == "GET /v1/get-user-credits HTTP/1.1"
    assert [call.operation for call in made.calls] == ["credits"]


@pytest.mark.parametrize(("refused", "statuses"), [(401, ["refused", "ok"]), (403, ["refused", "ok"])])
async def test_a_job_is_polled_with_its_own_key_then_with_the_current_one(
    opened: Callable[..., Bench], vendor: RawUpstream, refused: int, statuses: list[str]
) -> None:
    """A key that is no longer good gives way to the new one."""
    made = opened(vendor.url, keys=KeyRing({"old": Secret(OTHER), "default": Secret(KEY)}))
    context = CallContext(upstream_key="old")

    async def reply(writer: object) -> None:
        good = vendor.requests[-1].headers["x-api-key"] == KEY
        answer = answers(200, {"status": "PROCESSING"}) if good else answers(refused, {"error": "no"})
        await answer(writer)  # type: ignore[arg-type]  # a stream writer

    vendor.reply = reply
    assert (await made.client.status("v-1", context)).status == "PROCESSING"
    assert [request.headers["x-api-key"] for request in vendor.requests] == [OTHER, KEY]
    assert [call.outcome for call in made.calls] == statuses
    assert [call.attempt for call in made.calls] == [1, 2]


@pytest.mark.parametrize(
    ("asked", "keys", "own"),
    [
        ("old", {"old": OTHER, "default": KEY}, False),  # refused
        ("gone", {"default": KEY}, False),
        ("same", {"same": KEY, "default": KEY}, True),
        ("default", {"default": KEY}, True),
    ],
)
async def test_a_history_tells_whose_key_it_was_read_with(
    opened: Callable[..., Bench], vendor: RawUpstream, asked: str, keys: dict[str, str], own: bool
) -> None:
    """One that another key than that of the job had to read says so: it may be another account's."""
    made = opened(vendor.url, keys=KeyRing({name: Secret(key) for name, key in keys.items()}))

    async def reply(writer: object) -> None:
        request = vendor.requests[-1]
        rows = [{"request_id": "v-1", "model_name": MODEL}] if "page=1&" in request.line else []
        good = request.headers["x-api-key"] == KEY
        await (answers(200, {"rows": rows}) if good else answers(401, {"error": "no"}))(writer)  # type: ignore[arg-type]  # a stream writer

    vendor.reply = reply
    found = await made.client.history(MODEL, since_ms=1, now_ms=2, upstream_key=asked)
    assert (len(found.rows), found.own_key) == (1, own)


async def test_a_rotated_key_takes_effect_at_once(
    opened: Callable[..., Bench], vendor: RawUpstream, tmp_path: Path
) -> None:
    """New submits go out with the new key; running jobs are still polled with the one that sent them."""
    path = tmp_path / "key"
    path.write_text(OTHER)
    made = opened(vendor.url, keys=KeyRing({}, path=path))
    old = made.client.current_key()
    await made.client.submit(MODEL, b"{}", {}, CONTEXT)
    (tmp_path / "fresh").write_text(KEY)
    (tmp_path / "fresh").replace(path)
    await made.client.submit(MODEL, b"{}", {}, CONTEXT)
    vendor.reply = answers(200, {"status": "QUEUED"})
    await made.client.status("v-1", CallContext(upstream_key=old))
    assert [request.headers["x-api-key"] for request in vendor.requests] == [OTHER, KEY, OTHER]
    assert made.client.current_key() != old


async def test_a_read_whose_connection_broke_is_made_again_within_the_budget(made: Bench, vendor: RawUpstream) -> None:
    """A tenth of the reads may be tried again, once, where the connection broke; not after an answer of the vendor."""
    vendor.reply = answers(200, {"status": "QUEUED"})
    for _ in range(11):
        await made.client.status("v-1", CONTEXT)
    # On a connection that was used before, aiohttp itself reads again, once.
    replies = [drops, drops, answers(200, {"status": "PROCESSING"})]

    async def reply(writer: asyncio.StreamWriter) -> None:
        await replies.pop(0)(writer)

    vendor.reply = reply
    assert (await made.client.status("v-1", CONTEXT)).status == "PROCESSING"
    assert [(call.outcome, call.attempt) for call in made.calls[-2:]] == [("ambiguous", 1), ("ok", 2)]
    for failing in (drops, answers(503, {"error": "down"})):
        vendor.reply = failing
        with pytest.raises(UpstreamAmbiguous):
            await made.client.status("v-1", CONTEXT)
        assert made.calls[-1].attempt == 1


async def test_the_balance_is_learned_from_answers(opened: Callable[..., Bench], vendor: RawUpstream) -> None:
    """What is left on the account is taken from the body's metrics or the header; the caller does not get it."""
    learned: list[int] = []
    made = opened(vendor.url, learn_balance=learned.append)
    body = {"status": "COMPLETED", "metrics": {"cost": 1, "remaining_credits": 12.5}}
    vendor.reply = answers(200, body)
    await made.client.result("v-1", CONTEXT)
    vendor.reply = answers(200, b"image", "x-cost: 0.1", "x-remaining-credits: 12.4", content_type="image/png")
    stream = await made.client.sync(MODEL, b"{}", {}, CONTEXT)
    assert "x-remaining-credits" not in stream.headers
    await stream.aclose()
    assert learned == [12_500_000_000, 12_400_000_000]
