"""The vendor's answers, as its page describes them."""

from __future__ import annotations

import asyncio
import math
from decimal import Decimal
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from support.vendor import KEY, KLING, HandClock

from gateway.sandbox import Sandbox, SandboxSettings
from gateway.sandbox.models import MODELS
from gateway.sandbox.server import Running
from gateway.sandbox.state import Knobs

HISTORY = "/inference-request/request-history"


async def submit(http: httpx.AsyncClient, slug: str = KLING, **params: object) -> dict[str, Any]:
    """Submit a job that must be accepted."""
    answer = await http.post(f"/v2/{slug}", json={"prompt": "x"} | params)
    assert answer.status_code == 200
    body: dict[str, Any] = answer.json()
    return body


def path(url: str) -> str:
    """Return the path of an absolute URL."""
    return urlsplit(url).path


async def test_life_of_a_job(vendor: Running, http: httpx.AsyncClient, clock: HandClock) -> None:
    """QUEUED, PROCESSING, COMPLETED by the clock; no output before the end nor in the status; 404 after the hour."""
    body = await submit(http)
    assert set(body) == {"request_id", "status", "poll_url", "status_url", "response_url"}
    assert all(body[name].startswith(vendor.url) for name in ("poll_url", "status_url", "response_url"))
    [job] = vendor.sandbox.jobs
    seen = []
    for moment in (job.submitted_at, job.submitted_at + job.queue_s + 1):
        clock.now = moment
        status, result = await http.get(body["status_url"]), await http.get(body["response_url"])
        assert (status.status_code, status.json()) == (result.status_code, result.json())
        assert set(status.json()) == {"status", "request_id", "status_url", "response_url", "metrics"}
        seen.append(status.json()["status"])
    assert seen == ["QUEUED", "PROCESSING"]
    clock.now = job.ends_at
    done, full = (await http.get(body["status_url"])).json(), (await http.get(body["response_url"])).json()
    assert set(done) == {"status", "request_id", "metrics"}
    assert set(done["metrics"]) == {"cost", "remaining_credits", "inference_time", "queue_time", "total_time"}
    assert full["output"] == full["video"]["url"]
    assert (await http.get(body["poll_url"])).json() == full
    clock.now = job.expires_at
    gone = await http.get(body["status_url"])
    assert (gone.status_code, gone.json()) == (404, {"error": f"Request {job.request_id} not found"})
    assert (await http.get(full["output"])).status_code == 200
    assert (job.status_polls, job.result_polls) == (3, 4)


async def test_failed_is_422_and_free(vendor: Running, http: httpx.AsyncClient, clock: HandClock) -> None:
    """FAILED is a 422 on both v2 GETs, a 200 on the older poll; timings only, and nothing is billed."""
    body = await submit(http, keep_original_sound="maybe")
    clock.now += 0.3
    answers = [await http.get(path(body[name])) for name in ("status_url", "response_url", "poll_url")]
    assert [answer.status_code for answer in answers] == [422, 422, 200]
    for answer in answers:
        assert set(answer.json()) == {"status", "error", "metrics"}
        assert set(answer.json()["metrics"]) == {"inference_time", "queue_time", "total_time"}
    assert vendor.sandbox.account.remaining(clock.now) == 1000


async def test_each_post_is_a_new_billed_job(vendor: Running, http: httpx.AsyncClient, clock: HandClock) -> None:
    """There is no idempotency: the same POST twice is two jobs, billed when each completes and not before."""
    first, second = await submit(http), await submit(http)
    assert first["request_id"] != second["request_id"]
    assert (await http.get("/v1/get-user-credits")).json()["credits"] == 1000
    clock.now += 700
    cost = sum((job.cost for job in vendor.sandbox.jobs), Decimal(0))
    shown = (await http.get("/v1/get-user-credits")).text
    assert shown == f'{{"credits":{1000 - cost},"free-credits":0.0}}'


@pytest.mark.parametrize(
    ("slug", "content", "expected"),
    [
        (KLING, "[1]", (400, "object")),
        (KLING, "{", (400, "valid JSON")),
        (KLING, "{}", (400, "prompt")),
        (KLING, "", (406, "Content-Type")),
        ("no-such-model", "{}", (404, "not found")),
        ("sandbox-forbidden", "{}", (403, "access")),
        ("sandbox-retired", "{}", (410, "retired")),
    ],
)
async def test_refusals(
    http: httpx.AsyncClient, vendor: Running, slug: str, content: str, expected: tuple[int, str]
) -> None:
    """Each refusal has its status and the `error` envelope, and nothing is accepted."""
    headers = {"content-type": "application/json" if content else "text/plain"}
    status, error = expected
    for version in ("v1", "v2"):
        answer = await http.post(f"/{version}/{slug}", content=content, headers=headers)
        assert answer.status_code == status
        assert error in answer.json()["error"]
    assert not vendor.sandbox.jobs


@pytest.mark.parametrize(
    "headers", [{}, {"x-api-key": "SG_ffffffffffffffff"}, {"authorization": f"Bearer {KEY}"}, {"x-api-key": ""}]
)
async def test_unauthorized(vendor: Running, headers: dict[str, str]) -> None:
    """No key, a wrong key and a bearer token get the longer 401."""
    async with httpx.AsyncClient(base_url=vendor.url, headers=headers, trust_env=False) as http:
        answer = await http.post(f"/v2/{KLING}", json={"prompt": "x"})
    assert answer.status_code == 401
    assert set(answer.json()) == {"error", "error_description", "status_code"}


async def test_other_406s(vendor: Running, http: httpx.AsyncClient, clock: HandClock) -> None:
    """Insufficient credits and a team's limit share 406 with the content type, told apart by the message."""
    vendor.sandbox.account.set_balance(Decimal("0.5"), clock.now)
    poor = await http.post(f"/v2/{KLING}", json={"prompt": "x"})
    vendor.sandbox.account.set_balance(Decimal(5), clock.now)
    vendor.sandbox.knobs = Knobs(team_limit_reached=True)
    capped = await http.post(f"/v2/{KLING}", json={"prompt": "x"})
    assert [(poor.status_code, "credits" in poor.text), (capped.status_code, "spend limit" in capped.text)] == [
        (406, True),
        (406, True),
    ]


async def test_rate_limit(vendor: Running, http: httpx.AsyncClient, clock: HandClock) -> None:
    """A 429 carries the reset time and no Retry-After; polls don't count; the next minute is free again."""
    vendor.sandbox.knobs.rate_limit_rpm = 1
    body = await submit(http)
    refused = await http.post(f"/v2/{KLING}", json={"prompt": "x"})
    assert refused.status_code == 429
    assert "retry-after" not in refused.headers
    assert refused.headers["x-rate-limit-reset-at-utc"] == "2026-09-21T14:14:00.000Z"
    assert (await http.get(path(body["status_url"]))).status_code == 200
    clock.now += 60
    await submit(http)


async def test_wrong_verb_is_html(http: httpx.AsyncClient) -> None:
    """A wrong verb gets a 405 in HTML, an unknown path a 404 in JSON."""
    wrong = await http.get(f"/v2/{KLING}")
    assert (wrong.status_code, wrong.headers["content-type"]) == (405, "text/html; charset=utf-8")
    assert (await http.get("/nowhere")).json() == {"error": "Not Found"}


async def test_history(vendor: Running, http: httpx.AsyncClient, clock: HandClock) -> None:
    """History shows what was billed: one row per output, PENDING before the end, filters, pages, one by id."""
    flux = await submit(http, "flux-2-pro", num_images=3)
    bad = await submit(http, character_orientation="up")
    clock.now += 60
    running_job = await submit(http)
    listing = (await http.get(HISTORY)).json()
    assert (listing["total"], listing["data"][0]["request_id"]) == (5, running_job["request_id"])
    rows: dict[str, dict[str, Any]] = {row["request_id"]: row for row in listing["data"]}
    assert rows[running_job["request_id"]]["model_status"] == "PENDING"
    assert (rows[bad["request_id"]]["credits_deduction"], rows[bad["request_id"]]["model_status"]) == (0.0, "FAILED")
    assert "character_orientation" in rows[bad["request_id"]]["error"]
    done = rows[flux["request_id"]]
    assert done["request_body"] == {"prompt": "x", "num_images": 3}
    assert done["credits_deduction"] == float(vendor.sandbox.jobs[0].cost)
    picked = (
        await http.get(HISTORY, params={"model_name": "flux", "status": "COMPLETED", "per_page": 2, "page": 2})
    ).json()
    assert [(row["request_id"]) for row in picked["data"]] == [flux["request_id"]]
    assert (await http.get(f"{HISTORY}/{flux['request_id']}")).json()["request_id"] == flux["request_id"]
    vendor.sandbox.knobs.history_delay_s = 61
    assert (await http.get(HISTORY)).json()["total"] == 0
    clock.now += 3 * 86400
    assert (await http.get(HISTORY, params={"from_date": "2026-09-22"})).json()["total"] == 0
    assert (await http.get(HISTORY, params={"from_date": "2026-09-21", "to_date": "2026-09-21"})).json()["total"] == 5
    too_long = await http.get(HISTORY, params={"from_date": "2026-08-01", "to_date": "2026-09-21"})
    assert too_long.status_code == 400


async def test_memory_is_bounded() -> None:
    """The oldest jobs are forgotten beyond the settings' bound, uploads beyond their total size."""
    sandbox = Sandbox(SandboxSettings(kept_jobs=2), HandClock())
    jobs = [await sandbox.accept(MODELS[KLING], {}, body=b"{}", key=KEY, faults=()) for _ in range(4)]
    assert list(sandbox.jobs) == jobs[2:]
    for number in range(5):
        sandbox.keep_asset(str(number), "image/png", bytes(10 * 2**20))
    assert [sandbox.asset(str(number)) is None for number in range(5)] == [True, True, False, False, False]


async def test_mock_inference_sleeps(vendor: Running, http: httpx.AsyncClient) -> None:
    """`mock-inference` lasts as long as asked."""
    await submit(http, "mock-inference", sleep=42)
    assert math.isclose(vendor.sandbox.jobs[0].total_s, 42)


async def test_sync_of_a_failing_job_is_500(vendor: Running, http: httpx.AsyncClient) -> None:
    """A bad parameter on the sync route is a 500 in the envelope, and is not billed."""
    answer = await http.post("/v1/mock-inference", json={"sleep": "long"})
    assert (answer.status_code, "sleep" in answer.json()["error"]) == (500, True)
    await asyncio.sleep(0)
    assert vendor.sandbox.jobs[0].billed == 0
