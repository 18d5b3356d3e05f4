"""Logs and metrics of a real gateway: they agree, stay bounded, and hold parameters only where that was asked for."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

import httpx
from support.gateway import Gateway, eventually, gateway_on
from support.scrape import Series, parsed, total
from support.vendor import KLING

from gateway.core.tenant import RateLimit
from gateway.sandbox import Fault

PROMPT = "canary-prompt-77aa"


async def scraped(gateway: Gateway) -> Series:
    """Return every sample of the ops port."""
    async with httpx.AsyncClient(base_url=gateway.ops_url, trust_env=False) as ops:
        return parsed((await ops.get("/metrics")).text)


async def mixed_run(gateway: Gateway) -> None:
    """Make calls that end in every way, and wait until every job has ended."""
    board = gateway.vendor.sandbox.faults
    submitted = [await gateway.post(idempotency_key=f"key-{number % 3}") for number in range(4)]
    await gateway.post("/v1/faceswap-v2")
    await gateway.post("/upload-asset", {"data_urls": ["data:image/png;base64,AAAA"]})
    await gateway.post("/v2/no-such-model", {"a": 1})
    await gateway.post(x_api_key="sgw_video-team_k1_wrong")
    board.replace([Fault(action="outcome", outcome="FAILED", on=("submit",), times=1)])
    submitted.append(await gateway.post())
    for status in (400, 401, 429):
        board.replace([Fault(action="respond", status=status, body={"error": "no"}, times=1)])
        await gateway.post()
    for path in ("/status", "", "/unknown"):
        await gateway.http.get(f"/v2/requests/{submitted[0].json()['request_id']}{path}")
    for answer in submitted:
        await gateway.ended(answer.json()["request_id"])


def _agree(lines: list[dict[str, Any]], series: Series) -> bool:
    """Tell whether lines and series count the same things; the last poll may still be on its way to either."""
    requests = Counter(
        (line["route"], str(line["status"]), line.get("tenant", ""), line.get("code", ""))
        for line in lines
        if line["event"] == "http.request"
    )
    calls = Counter((line["operation"], line["outcome"]) for line in lines if line["event"] == "upstream.call")
    ended = Counter((line["tenant"], line["state"]) for line in lines if line["event"] == "job.ended")
    alerts = Counter(line["event"] for line in lines if "detail" in line)
    return (
        _counted(series, "gateway_http_requests_total", "route", "status", "tenant", "code") == requests
        and _counted(series, "gateway_upstream_calls_total", "operation", "outcome") == calls
        and _counted(series, "gateway_jobs_ended_total", "tenant", "state") == ended
        and {name for (name,) in _counted(series, "gateway_alerts_total", "event")} == set(alerts)
    )


def _counted(series: Series, metric: str, *labels: str) -> Counter[tuple[str, ...]]:
    found: Counter[tuple[str, ...]] = Counter()
    for (name, has), value in series.items():
        if name == metric and value:
            found[tuple(dict(has)[label] for label in labels)] += int(value)
    return found


async def test_lines_and_metrics_of_a_mixed_run_agree(gateway: Gateway) -> None:
    """Requests, calls, ended jobs and alerts, by every label that a line has too, are counted as they are logged."""
    await mixed_run(gateway)

    async def agreed() -> bool:
        series = await scraped(gateway)
        return _agree(gateway.lines(), series)

    await eventually(agreed)
    lines = gateway.lines()
    states = {line["state"] for line in lines if line["event"] == "job.ended"}
    assert states == {"COMPLETED", "FAILED", "REJECTED"}
    assert len({line["status"] for line in lines if line["event"] == "http.request"}) >= 5
    (refused,) = [line["detail"] for line in lines if line["event"] == "upstream.auth_failed"]
    assert "SEGMIND_API_KEY_FILE" in refused  # what to do, and below with which key
    assert re.search(r"\(key [a-z0-9-]+\)", refused)


async def test_redis_latency_and_readiness_are_shown(gateway: Gateway) -> None:
    """Admissions are among the timed calls, none has failed, and the process says that it is ready."""

    async def timed() -> bool:
        await gateway.post()
        series = await scraped(gateway)
        return total(series, "gateway_redis_call_duration_seconds_count", operation="admit") > 0

    await eventually(timed)
    series = await scraped(gateway)
    assert total(series, "gateway_redis_failures_total") == 0
    assert total(series, "gateway_ready") == 1
    assert total(series, "gateway_unready") == 0


async def test_made_up_models_share_their_series(redis_url: str) -> None:
    """Requests for models that nobody has add no series after the first one, whatever their names."""
    async with gateway_on(redis_url, submit=RateLimit(limit=100_000, period_s=1, burst=100_000)) as gateway:

        async def names(numbers: range) -> set[object]:
            for number in numbers:
                await gateway.post(f"/v2/made-up-{number}", {"a": number})
            series = await scraped(gateway)
            return {key for key in series if "made-up" in str(key) or dict(key[1]).get("model") == "other"}

        first = await names(range(1))
        assert first
        assert await names(range(1, 200)) == first


async def test_parameters_are_logged_where_it_was_asked_for(redis_url: str) -> None:
    """With GATEWAY_LOG_PARAMS the line of a submit has the body as it came, cut to 8 KiB; other lines do not."""
    async with gateway_on(redis_url, log_params=True) as gateway:
        job = await gateway.ended((await gateway.post(body={"prompt": PROMPT})).json()["request_id"])
        await gateway.post("/v1/faceswap-v2", {"prompt": PROMPT + "x" * 9000})
        await gateway.http.get(f"/v2/requests/{job.id}")
        await gateway.post(body={"prompt": PROMPT}, x_api_key="sgw_video-team_k1_wrong")

        async def written() -> list[dict[str, Any]] | None:
            requests = [line for line in gateway.lines() if line["event"] == "http.request"]
            return requests if len(requests) == 4 else None

        submit, sync, read, refused = await eventually(written)
        assert submit["params"] == f'{{"prompt":"{PROMPT}"}}'
        assert submit["job_id"] == job.id
        assert len(sync["params"]) == 8192
        assert "params" not in read
        assert "params" not in refused
        assert [line for line in gateway.lines() if PROMPT in str(line)] == [submit, sync]


async def test_parameters_are_not_logged_by_default(gateway: Gateway) -> None:
    """Without the setting no line holds a parameter, not even of a request that is refused for one."""
    await gateway.post(body={"prompt": PROMPT})
    await gateway.post(f"/v2/{KLING}", {"prompt": [PROMPT]})

    async def written() -> bool:
        return [line["event"] for line in gateway.lines()].count("http.request") == 2

    await eventually(written)
    assert PROMPT not in gateway.log.getvalue().decode()
