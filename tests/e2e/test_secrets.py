"""Canaries: neither key, nor prompt, nor the company's balance turns up where it has no business."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import httpx
from support.gateway import Gateway, eventually, gateway_on
from support.vendor import KEY, KLING

from gateway.sandbox import Fault

PROMPT_CANARY = "canary-prompt-5b2f"
BALANCE_CANARY = "777.123456"
MISUSED_CANARY = "canary-misused-key-9c1d"


async def exercise(gateway: Gateway) -> list[httpx.Response]:
    """Make calls of every kind, those that fail in every way included; return their answers."""
    sandbox, body = gateway.vendor.sandbox, {"prompt": PROMPT_CANARY}
    submitted = await gateway.post(body=body)
    answers = [submitted, await gateway.post("/v1/faceswap-v2", body)]
    await gateway.ended(submitted.json()["request_id"])
    paths = [submitted.json()["status_url"], submitted.json()["response_url"], "/v1/get-user-credits", "/v1/models"]
    answers += [await gateway.http.get(path) for path in paths]
    faults = [
        *(Fault(action="echo_key", status=status) for status in (400, 401, 403, 406, 429, 500, 502)),
        Fault(action="respond", status=400, body={"error": f"bad prompt {KEY}"}),
        Fault(action="headers", headers={"x-secret": KEY, "set-cookie": f"k={KEY}"}),
        Fault(action="drop"),
    ]
    for fault in faults:
        sandbox.faults.replace([fault])
        answers += [await gateway.post(path, body) for path in (f"/v2/{KLING}", "/v1/faceswap-v2")]
        answers.append(await gateway.post("/upload-asset", {"data_urls": ["data:image/png;base64,AAAA"]}))
    sandbox.faults.replace([])
    for wrong in ({"prompt": [PROMPT_CANARY]}, [PROMPT_CANARY], {"image_url": f"file:///{PROMPT_CANARY}"}):
        answers.append(await gateway.post(body=wrong))
    for key in (MISUSED_CANARY, KEY):
        answers.append(await gateway.post(f"/v2/{key}", body, x_api_key=key))
        answers.append(await gateway.http.get(f"/v2/requests/{key}?x-api-key={key}", headers={"x-api-key": key}))
    return answers


async def test_nothing_leaks(redis_url: str) -> None:
    """No upstream key, tenant key, prompt or mistyped key anywhere; the company's balance in its gauge alone."""
    async with gateway_on(redis_url, balance=Decimal(BALANCE_CANARY)) as gateway:
        answers = await exercise(gateway)
        async with httpx.AsyncClient(base_url=gateway.ops_url, trust_env=False) as ops:
            scraped = (await ops.get("/metrics")).text
    balance = "gateway_upstream_remaining_credits"  # for operators, on the ops port alone
    metrics = "\n".join(line for line in scraped.splitlines() if not line.startswith(balance))
    log = gateway.log.getvalue().decode()
    secret = gateway.key.rpartition("_")[2]
    told = "".join(f"{a.status_code} {a.headers.raw} {a.text}" for a in answers)
    assert len({a.status_code for a in answers}) > 5
    assert "upstream.call" in log
    assert f"{balance} 77" in scraped
    for where, text in (("log", log), ("metrics", metrics), ("answers", told)):
        for canary in (KEY, secret, MISUSED_CANARY, "777.1"):
            assert canary not in text, f"{canary} in the {where}"
    assert PROMPT_CANARY not in log + metrics
    assert all("set-cookie" not in a.headers and "x-secret" not in a.headers for a in answers)


async def test_what_goes_upstream(gateway: Gateway) -> None:
    """The vendor gets the company's key once, the allow-listed headers and the body byte for byte, and nothing else."""
    body = b'{ "prompt":"caf\\u00e9",  "x": 1.50 }'
    headers = {
        "content-type": "application/json",
        "x-initiator": "SDK-PY",
        "user-agent": "segmind-python-sdk/1.3.0",
        "cookie": "a=b",
        "authorization": f"Bearer {gateway.key}",
        "x-forwarded-for": "1.2.3.4",
        "x-gateway-labels": "shot=42",
        "connection": "x-api-key",
        "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    }
    answer = await gateway.http.post(f"/v2/{KLING}", content=body, headers=headers)
    assert answer.status_code == 200
    [call] = gateway.vendor.sandbox.calls
    received = [(name.decode(), value.decode()) for name, value in call.headers]
    allowed = {"content-type", "x-initiator", "user-agent", "traceparent"}
    assert {(name, headers[name]) for name in allowed} | {("x-api-key", KEY)} <= set(received)
    transport = {"host", "accept", "accept-encoding", "content-length", "connection"}
    assert {name for name, _ in received} <= allowed | transport | {"x-api-key"}
    assert [name for name, _ in received].count("x-api-key") == 1
    [job] = gateway.vendor.sandbox.jobs
    assert job.body == body


async def test_one_line_for_each_request_and_upstream_call(gateway: Gateway) -> None:
    """A job's log lines carry tenant, key id, model, both ids, status, latency and cost, one line a call."""
    job_id = (await gateway.post()).json()["request_id"]
    job = await gateway.ended(job_id)
    await gateway.http.get(f"/v2/requests/{job_id}")

    async def written() -> list[dict[str, Any]]:
        lines = [line for line in gateway.lines() if line.get("job_id") == job_id]
        return lines if [line.get("method") for line in lines][-1:] == ["GET"] else []

    lines = await eventually(written)
    calls = [line for line in lines if line["event"] == "upstream.call"]
    assert [line["route"] for line in lines if line["event"] == "http.request"] == ["/v2/{model}", "/v2/requests/{id}"]
    assert [call["operation"] for call in calls] == ["submit", "status", "result"]
    shared = {"tenant": "video-team", "key_id": job.key_id, "model": KLING, "upstream_id": job.upstream_id}
    assert all(shared.items() <= call.items() and call["upstream_status"] == 200 for call in calls)
    assert all({"latency_ms", "attempt", "held", "outcome"} <= set(call) for call in calls)
    assert len({call.get("cost") for call in calls[1:]}) == 1
