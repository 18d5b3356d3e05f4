"""Each fault as a real client sees it on the wire."""

from __future__ import annotations

import asyncio
import json
import zlib
from contextlib import suppress
from typing import Any, Literal

import httpx
import pytest
from support.vendor import KEY, KLING, HandClock

from gateway.sandbox import Fault
from gateway.sandbox.server import Running

BODY = {"prompt": "x"}


async def post(http: httpx.AsyncClient) -> httpx.Response:
    """Submit a Kling job."""
    return await http.post(f"/v2/{KLING}", json=BODY)


@pytest.mark.parametrize(("after", "accepted"), [(False, 0), (True, 1)])
@pytest.mark.parametrize("how", ["reset", "close"])
async def test_drop(
    vendor: Running, http: httpx.AsyncClient, how: Literal["reset", "close"], after: bool, accepted: int
) -> None:
    """The client sees a real reset (or an early close), with the job accepted or not; the next call works."""
    vendor.sandbox.faults.add(Fault(action="drop", on=("submit",), how=how, after=after, times=1))
    with pytest.raises(httpx.ReadError if how == "reset" else httpx.RemoteProtocolError) as caught:
        await post(http)
    if how == "reset":
        causes = []
        error: BaseException | None = caught.value
        while error is not None:
            causes.append(type(error))
            error = error.__cause__ or error.__context__
        assert ConnectionResetError in causes
    assert len(vendor.sandbox.jobs) == accepted
    assert (await post(http)).status_code == 200


@pytest.mark.parametrize(("after", "accepted"), [(False, 0), (True, 1)])
async def test_hang_ends_with_the_client_or_the_server(vendor: Running, after: bool, accepted: int) -> None:
    """A hang answers nothing; neither an impatient client nor one that still waits keeps the server from stopping."""
    vendor.sandbox.faults.add(Fault(action="hang", after=after))
    async with httpx.AsyncClient(base_url=vendor.url, headers={"x-api-key": KEY}, trust_env=False) as http:
        with pytest.raises(httpx.ReadTimeout):
            await http.post(f"/v2/{KLING}", json=BODY, timeout=httpx.Timeout(30, read=1))
        assert len(vendor.sandbox.jobs) == accepted
        waiting = asyncio.create_task(http.get("/v1/get-user-credits", timeout=30))
        while len(vendor.sandbox.calls) < 2:  # noqa: ASYNC110  # the sandbox has no event for "a call arrived"
            await asyncio.sleep(0.01)
        vendor.sandbox.closing.set()
        with pytest.raises(httpx.TransportError):
            await waiting


@pytest.mark.parametrize(
    ("fault", "content_type"),
    [
        (Fault(action="respond", status=429, body={"error": "slow down"}), "application/json"),
        (Fault(action="respond", status=502, body="<h1>Bad Gateway</h1>"), "text/html; charset=utf-8"),
        (Fault(action="respond", status=500, body={"error": "boom"}, after=True), "application/json"),
        (Fault(action="respond", status=302, headers={"location": "http://127.0.0.1:1/"}), "text/html; charset=utf-8"),
    ],
)
async def test_forced_answers(vendor: Running, http: httpx.AsyncClient, fault: Fault, content_type: str) -> None:
    """Any status, body and headers can be forced, before or after a job is accepted."""
    vendor.sandbox.faults.add(fault)
    answer = await post(http)
    assert (answer.status_code, answer.headers["content-type"]) == (fault.status, content_type)
    assert fault.headers.items() <= dict(answer.headers).items()
    assert len(vendor.sandbox.jobs) == (1 if fault.after else 0)


async def test_spoilt_answers(vendor: Running, http: httpx.AsyncClient) -> None:
    """Truncation, missing ids, foreign headers and an echoed key, each for one call only, in the order given."""
    shots: list[Fault] = [
        Fault(action="truncate", times=1),
        Fault(action="no_id", times=1),
        Fault(action="headers", headers={"set-cookie": "a=b", "server": "x"}, times=1),
        Fault(action="echo_key", status=403, times=1),
    ]
    answers: list[httpx.Response] = []
    for shot in shots:
        vendor.sandbox.faults.add(shot)
        with suppress(httpx.RemoteProtocolError):
            answers.append(await post(http))
    no_id, headers, echo = answers
    assert (no_id.status_code, no_id.json()) == (200, {"status": "QUEUED"})
    assert (headers.headers["set-cookie"], headers.headers["server"]) == ("a=b", "x")
    assert (echo.status_code, KEY in echo.json()["error"]) == (403, True)
    assert len(vendor.sandbox.jobs) == 3


@pytest.mark.parametrize("form", ["plain", "gzip", "endless"])
async def test_floods(vendor: Running, http: httpx.AsyncClient, form: Literal["plain", "gzip", "endless"]) -> None:
    """Large, packed and endless bodies stream without filling memory, and stop when the client leaves."""
    size = 3 * 2**20
    vendor.sandbox.faults.add(Fault(action="body", form=form, size_bytes=size, times=1))
    received, wire = 0, bytearray()
    async with http.stream("GET", "/v1/get-user-credits", headers={"accept-encoding": "identity"}) as answer:
        async for chunk in answer.aiter_raw():
            received += len(chunk)
            wire += chunk
            if received > 2 * size:
                break
    match form:
        case "plain":
            assert received == size == int(answer.headers["content-length"])
        case "gzip":
            assert received < size / 100
            assert len(zlib.decompress(wire, wbits=31)) == size
        case _:
            assert received > 2 * size
    assert (await http.get("/v1/get-user-credits")).status_code == 200


@pytest.mark.parametrize(
    ("cost", "shown"), [("missing", None), ("-1", "-1"), ("NaN", "NaN"), ("1e400", "1e400"), ("1.5x", "truth")]
)
async def test_wrong_cost(
    vendor: Running, http: httpx.AsyncClient, clock: HandClock, cost: str, shown: str | None
) -> None:
    """A wrong cost is shown in every answer for the job; only a factor changes what is really billed."""
    average = 0.9415
    vendor.sandbox.faults.add(Fault(action="cost", cost=cost))
    body = (await post(http)).json()
    [job] = vendor.sandbox.jobs
    clock.now = job.ends_at
    for url in (body["status_url"], body["response_url"]):
        raw = json.loads((await http.get(url)).text, parse_float=str, parse_int=str, parse_constant=str)
        assert raw["metrics"].get("cost") == (format(job.cost, "f") if shown == "truth" else shown)
    assert (float(job.cost) >= 1.2 * average) == (cost == "1.5x")


async def test_lying_polls(vendor: Running, http: httpx.AsyncClient, clock: HandClock) -> None:
    """Polls can go backwards or deny a live job, on the chosen kind of route and model only."""
    body = (await post(http)).json()
    clock.now = vendor.sandbox.jobs[0].ends_at
    vendor.sandbox.faults.add(
        Fault(action="regress", on=("status",), times=1),
        Fault(action="not_found", on=("result",), model="kling-*", times=1),
        Fault(action="not_found", model="flux-*"),
    )
    statuses = [(await http.get(body["status_url"])).json()["status"] for _ in range(2)]
    results = [(await http.get(body["response_url"])).status_code for _ in range(2)]
    assert (statuses, results) == (["PROCESSING", "COMPLETED"], [404, 200])


async def test_delay(vendor: Running, http: httpx.AsyncClient) -> None:
    """A delay after acceptance makes the client give up on a job that exists."""
    vendor.sandbox.faults.add(Fault(action="delay", delay_s=30, after=True, times=1))
    with pytest.raises(httpx.ReadTimeout):
        await http.post(f"/v2/{KLING}", json=BODY, timeout=httpx.Timeout(30, read=1))
    assert len(vendor.sandbox.jobs) == 1


async def test_knobs_over_http(vendor: Running, http: httpx.AsyncClient) -> None:
    """Knobs are patched field by field or not at all; the record and the calls are shown; reset forgets."""
    patch: dict[str, Any] = {"failure_rate": 1, "balance": "3.5", "faults": [{"action": "no_id", "times": 2}]}
    shown = (await http.patch("/_sandbox/knobs", json=patch)).json()
    assert (shown["failure_rate"], shown["balance"]) == (1.0, 3.5)
    await post(http)
    left = (await http.patch("/_sandbox/knobs", json={"add_faults": [{"action": "hang", "on": ["sync"]}]})).json()
    assert left["faults"] == [{"action": "no_id", "times": 1}, {"action": "hang", "on": ["sync"]}]
    for wrong in ({"faults": [{"action": "explode"}]}, {"failure_rate": 0, "nonsense": 1}, {"balance": "NaN"}):
        assert (await http.patch("/_sandbox/knobs", json=wrong)).status_code == 400
    assert (await http.get("/_sandbox/knobs")).json() == left
    [accepted] = (await http.get("/_sandbox/accepted")).json()
    facts = (accepted["model"], accepted["body"], accepted["key"], accepted["billed"], accepted["status_polls"])
    assert facts == (KLING, BODY, KEY, "0", 0)
    [call] = (await http.get("/_sandbox/calls")).json()
    assert (call["method"], call["path"]) == ("POST", f"/v2/{KLING}")
    assert ["x-api-key", KEY] in call["headers"]
    fresh = (await http.post("/_sandbox/reset")).json()
    assert (fresh["failure_rate"], fresh["balance"], fresh["faults"]) == (0.0, 1000, [])
    assert (await http.get("/_sandbox/accepted")).json() == []
