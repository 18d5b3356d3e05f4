from __future__ import annotations

from dataclasses import replace

import httpx
import pytest
from web.fakes import COMPLETED, JOB, JOB_ID, KEY, QUOTA, VENDOR_ID, Services, build, client_of

from gateway.core.credits import MAX_NANO
from gateway.core.job import Job, JobState
from gateway.core.movements import Admitted, Denied, StoredResult
from gateway.errors import InvalidRequest, Refused, StoreUnavailable
from gateway.service.outcomes import JobRequest, Rejected, Submitted, Uncertain

Outcome = Submitted | Denied | Rejected | Uncertain | Exception
BASE = "http://gw.test:8080"
STATUS = f"/v2/requests/{JOB_ID}/status"
BODY = b'{"prompt": "cat and dog are dancing."}'
JSON = {"content-type": "application/json"}
TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


async def test_submit_answers_as_segmind_does(client: httpx.AsyncClient) -> None:
    """A submit answers our id and our URLs, and where limits and money stand."""
    answer = await client.post("/v2/kling-2.6", content=BODY, headers=JSON)
    assert answer.status_code == 200
    assert answer.json() == {
        "request_id": JOB_ID,
        "status": "QUEUED",
        "poll_url": f"{BASE}/v1/requests/{JOB_ID}",
        "status_url": f"{BASE}{STATUS}",
        "response_url": f"{BASE}/v2/requests/{JOB_ID}",
    }
    expected = {
        "content-type": "application/json",
        "cache-control": "no-store",
        "x-upstream-request-id": VENDOR_ID,
        "ratelimit-policy": '"submit";q=60;w=60, "jobs";q=5;qu="concurrent-requests"',
        "ratelimit": '"submit";r=12;t=30',
        "x-credits-held": "0.9415",
        "x-credits-remaining": "49",
    }
    assert {name: answer.headers[name] for name in expected} == expected
    assert "idempotent-replayed" not in answer.headers


async def test_a_submit_hands_over_all_that_was_read(client: httpx.AsyncClient, services: Services) -> None:
    """The service gets the body byte for byte, its parameters, and only checked headers."""
    sent = JSON | {
        "idempotency-key": '"order-1"',
        "x-gateway-labels": "team=video",
        "x-webhook-url": "https://hooks.example.com/",
        "traceparent": TRACE,
        "x-request-id": "of-the-caller",
        "cookie": "a=b",
        "user-agent": "sdk/1",
    }
    answer = await client.post("/v2/kling-2.6", content=BODY, headers=sent)
    (request,) = services.seen
    assert isinstance(request, JobRequest)
    assert (request.model, request.body, request.params) == (
        "kling-2.6",
        BODY,
        {"prompt": "cat and dog are dancing."},
    )
    assert (request.idempotency_key, request.labels, request.traceparent) == ("order-1", {"team": "video"}, TRACE)
    assert request.webhook_url == "https://hooks.example.com/"
    assert request.request_id == answer.headers["x-request-id"] != "of-the-caller"
    assert request.headers == JSON | {"accept": "*/*", "user-agent": "sdk/1", "traceparent": TRACE}
    assert services.requests[0].trace_id == TRACE[3:35]


@pytest.mark.parametrize("path", ["/workflows/v2/my-flow", "/workflows/my-flow"])
async def test_a_workflow_is_a_job(client: httpx.AsyncClient, services: Services, path: str) -> None:
    """A workflow is submitted like a model, under its own kind of name."""
    assert (await client.post(path, json={})).json()["request_id"] == JOB_ID
    assert services.seen[0].model == "workflows/my-flow"


async def test_a_replay_says_so(client: httpx.AsyncClient, services: Services) -> None:
    """A replay gives the same answer and is marked; a job that has ended holds nothing."""
    services.outcome = Submitted(COMPLETED, QUOTA, replayed=True)
    answer = await client.post("/v2/kling-2.6", content=BODY, headers=JSON)
    assert (answer.status_code, answer.json()["status"]) == (200, "QUEUED")
    assert answer.headers["idempotent-replayed"] == "true"
    assert "x-credits-held" not in answer.headers
    assert services.requests[0].idempotent


async def test_no_budget_shows_no_balance(client: httpx.AsyncClient, services: Services) -> None:
    """A tenant without a budget is told no remaining credits."""
    services.outcome = Submitted(JOB, replace(QUOTA, remaining=MAX_NANO))
    answer = await client.post("/v2/kling-2.6", content=BODY, headers=JSON)
    assert "x-credits-remaining" not in answer.headers


@pytest.mark.parametrize(
    ("outcome", "status", "code"),
    [
        (Denied("budget_exhausted", QUOTA), 406, "budget_exhausted"),
        (Denied("model_not_allowed", QUOTA), 403, "model_not_allowed"),
        (Denied("idempotency_key_required", QUOTA), 400, "idempotency_key_required"),
        (Denied("idempotency_mismatch", QUOTA), 422, "idempotency_mismatch"),
        (Denied("idempotency_in_progress", QUOTA, job_id=JOB_ID), 409, "idempotency_in_progress"),
        (Denied("concurrency_limited", QUOTA), 429, "concurrency_limited"),
        (Denied("tenant_suspended"), 403, "tenant_suspended"),
        (Rejected("upstream_auth", "our key", "upstream", 30, JOB, QUOTA), 503, "upstream_auth"),
        (Uncertain(JOB, QUOTA), 504, "outcome_unknown"),
        (InvalidRequest("prompt is required", field="prompt"), 400, "invalid_request"),
        (StoreUnavailable("down"), 503, "store_unavailable"),
        (Refused("overloaded", "too much"), 503, "overloaded"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_a_submit_that_ends_otherwise(
    client: httpx.AsyncClient, services: Services, outcome: Outcome, status: int, code: str
) -> None:
    """Each way a submit can end has its status and code, in the answer and in the event."""
    services.outcome = outcome
    answer = await client.post("/v2/kling-2.6", content=BODY, headers=JSON)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.headers["content-type"] == "application/problem+json"
    assert [(e.status, e.code, e.model) for e in services.requests] == [(status, code, "kling-2.6")]
    if isinstance(outcome, InvalidRequest):
        assert answer.json()["field"] == "prompt"


@pytest.mark.parametrize(
    ("job", "status", "body"),
    [
        (JOB, 200, {"status": "QUEUED", "request_id": JOB_ID, "status_url": f"{BASE}{STATUS}",
                    "response_url": f"{BASE}/v2/requests/{JOB_ID}", "metrics": {}}),
        (COMPLETED, 200, {"status": "COMPLETED", "request_id": JOB_ID,
                          "metrics": {"cost": 0.941512346}}),
        (replace(JOB, state=JobState.FAILED, error='a "bad" \ud800', finished_ms=1_300), 422,
         {"status": "FAILED", "request_id": JOB_ID, "error": 'a "bad" ?', "metrics": {"total_time": 0.3}}),
        (replace(JOB, state=JobState.EXPIRED), 422,
         {"status": "FAILED", "request_id": JOB_ID, "error": "the vendor no longer knows this job", "metrics": {}}),
    ],
    ids=["running", "completed", "failed", "expired"],
)  # fmt: skip
async def test_status(
    client: httpx.AsyncClient, services: Services, job: Job, status: int, body: dict[str, object]
) -> None:
    """A status reads as Segmind's, with its age and the read limit; a job that is not done reads so as a result."""
    services.jobs[JOB_ID] = job
    answer = await client.get(STATUS)
    assert (answer.status_code, answer.json()) == (status, body)
    assert (answer.headers["age"], answer.headers["ratelimit"]) == ("7", '"read";r=11;t=1')
    assert answer.headers["ratelimit-policy"] == '"read";q=60;w=60'
    assert ("x-credits-held" in answer.headers) == (job.state is JobState.ACCEPTED)
    if job.state is not JobState.COMPLETED:
        for path in (f"/v2/requests/{JOB_ID}", f"/v1/requests/{JOB_ID}", f"/workflows/request/{JOB_ID}"):
            result = await client.get(path)
            assert (result.status_code, result.content) == (status, answer.content)


async def test_the_cost_is_written_exactly(client: httpx.AsyncClient, services: Services) -> None:
    """A cost leaves as the decimal it is, not as the nearest float."""
    services.jobs[JOB_ID] = replace(COMPLETED, cost=8_999_999_123_456_789)
    assert b'"cost":8999999.123456789}' in (await client.get(STATUS)).content


async def test_a_result_is_the_stored_body(client: httpx.AsyncClient, services: Services) -> None:
    """A result is served byte for byte with its own content type; one that is gone is a 410."""
    services.jobs[JOB_ID] = COMPLETED
    services.result = StoredResult(body=b'{"output" : "https://x"}', content_type="application/json; charset=utf-8")
    answer = await client.get(f"/v2/requests/{JOB_ID}")
    assert (answer.status_code, answer.content) == (200, services.result.body)
    assert answer.headers["content-type"] == "application/json; charset=utf-8"
    services.result = None
    gone = await client.get(f"/v2/requests/{JOB_ID}")
    assert (gone.status_code, gone.json()["code"]) == (410, "result_expired")


async def test_a_public_url_is_used_instead_of_the_host(services: Services) -> None:
    """With a public URL, the Host header names nothing, and forwarded headers never do."""
    async with client_of(build(services, public_url="https://gw.example.com")) as client:
        body = (await client.get(STATUS, headers={"host": "evil\\"})).json()
    assert body["status_url"] == f"https://gw.example.com{STATUS}"
    forwarded = {"x-forwarded-host": "evil.test", "x-forwarded-proto": "https", "forwarded": "host=evil.test"}
    async with client_of(build(services)) as client:
        assert (await client.get(STATUS, headers=forwarded)).json()["status_url"] == f"{BASE}{STATUS}"
        assert (await client.post("/v2/kling-2.6", json={}, headers={"host": "evil.test/x"})).status_code == 400


async def test_quote_says_whether_and_what(client: httpx.AsyncClient, services: Services) -> None:
    """A quote answers 200 with the hold, or with the reason why not and when."""
    services.quoted = Admitted(JOB, QUOTA)
    admitted = await client.post("/v2/kling-2.6/quote", json={})
    assert admitted.json() == {
        "model": "kling-2.6", "admitted": True, "replayed": False, "hold": 0.9415, "remaining": 49,
    }  # fmt: skip
    services.quoted = Denied("rate_limited", QUOTA, retry_after_s=2.1)
    refused = await client.post("/workflows/v2/flow/quote", json={})
    assert (refused.status_code, refused.json()) == (200, {
        "model": "workflows/flow", "admitted": False, "code": "rate_limited", "detail": "too many requests",
        "limited_by": "tenant", "retry_after": 3,
    })  # fmt: skip
    services.quoted = Rejected("upstream_credits_exhausted", "no credits left", "upstream", 30, quota=QUOTA)
    held_back = await client.post("/v2/kling-2.6/quote", json={})
    assert (held_back.status_code, held_back.json()) == (200, {
        "model": "kling-2.6", "admitted": False, "code": "upstream_credits_exhausted", "detail": "no credits left",
        "limited_by": "upstream", "retry_after": 30,
    })  # fmt: skip
    services.quoted = Denied("unauthenticated")
    assert (await client.post("/v2/kling-2.6/quote", json={})).status_code == 401


FOREIGN = "01900000-0000-7000-8000-0000000000ff"


@pytest.mark.parametrize("tail", ["", "/status"])
async def test_absent_jobs_are_all_alike(client: httpx.AsyncClient, services: Services, tail: str) -> None:
    """Foreign, vendor, random and malformed ids get the same bytes and headers, at the same cost of one read."""
    answers = [
        await client.get(f"/v2/requests/{job_id}{tail}")
        for job_id in (FOREIGN, VENDOR_ID, JOB_ID.upper(), "x", "..%2f..", "%00", "a" * 300, "{" + JOB_ID + "}")
    ]
    assert {answer.status_code for answer in answers} == {404}
    assert len({answer.content for answer in answers}) == 1
    headers = [{k: v for k, v in answer.headers.items() if k != "x-request-id"} for answer in answers]
    assert all(each == headers[0] for each in headers)
    assert len(services.seen) == len(answers)
    looked_up = {job_id for _, job_id, _ in services.seen}
    assert looked_up == {FOREIGN, "00000000-0000-7000-8000-000000000000"}


MALFORMED = [
    {},
    {"x-api-key": ""},
    {"x-api-key": "SG_0123456789abcdef"},
    {"x-api-key": KEY[:-1]},
    {"x-api-key": KEY + "\n"},
    {"x-api-key": "k" * 10_000},
    {"x-api-key": KEY.replace("video", "vid\u00e9o")},
    {"authorization": "Bearer"},
    {"authorization": f"Basic {KEY}"},
    {"authorization": KEY},
]


@pytest.mark.parametrize("path", [STATUS, f"/v2/requests/{JOB_ID}", "/v1/get-user-credits", "/v1/models"])
async def test_no_valid_key_is_always_the_same_401(services: Services, path: str) -> None:
    """No, malformed, endless, non-ASCII and unknown keys, and one in the query, get the same 401 bytes."""
    async with client_of(build(services)) as client:
        del client.headers["x-api-key"]
        tries = [httpx.Headers(headers, encoding="latin-1") for headers in MALFORMED]
        answers = [await client.get(path, headers=headers) for headers in tries]
        answers.append(await client.get(path, params={"x-api-key": KEY, "api_key": KEY}))
        assert services.seen == []
        services.denial = Denied("unauthenticated")
        answers.append(await client.get(path, headers={"x-api-key": KEY}))
        answers.append(await client.get(path, headers={"authorization": f"bearer {KEY}"}))
    assert {answer.status_code for answer in answers} == {401}
    assert len({answer.content for answer in answers}) == 1
    assert len({tuple((k, v) for k, v in a.headers.items() if k != "x-request-id") for a in answers}) == 1
    assert {(event.tenant, event.key_id) for event in services.requests} == {("", "")}


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ([("authorization", f"Bearer {KEY}")], 200),
        ([("x-api-key", KEY), ("authorization", f"Bearer {KEY}")], 200),
        ([("x-api-key", KEY), ("authorization", "Basic abc")], 200),
        ([("x-api-key", KEY), ("authorization", f"Bearer {KEY[:-1]}0")], 400),
        ([("x-api-key", KEY), ("x-api-key", KEY)], 400),
        ([("authorization", f"Bearer {KEY}")] * 2, 400),
    ],
)
async def test_one_caller_one_key(services: Services, headers: list[tuple[str, str]], status: int) -> None:
    """A key counts from either header; two of them are refused unless they are the same key in both."""
    async with client_of(build(services)) as client:
        del client.headers["x-api-key"]
        assert (await client.get(STATUS, headers=headers)).status_code == status


@pytest.mark.parametrize(
    ("denial", "status"),
    [(Denied("rate_limited", retry_after_s=0.5), 429), (StoreUnavailable("down"), 503)],
)
async def test_a_read_that_is_refused(
    client: httpx.AsyncClient, services: Services, denial: Denied | Exception, status: int
) -> None:
    """A read over its limit is a 429, one without a store a 503; both say when to come back."""
    services.denial = denial
    answer = await client.get(STATUS)
    assert answer.status_code == status
    assert int(answer.headers["retry-after"]) >= 1
