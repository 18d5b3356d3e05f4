from __future__ import annotations

from dataclasses import replace

import httpx
import pytest
from web.fakes import COMPLETED, JOB, JOB_ID, READ, Services

from gateway.core.job import JobState
from gateway.core.listing import JobPage, JobQuery
from gateway.core.movements import Denied

BASE = "http://gw.test:8080"


async def test_a_page(client: httpx.AsyncClient, services: Services) -> None:
    """A page tells of each job what its owner may know, amounts as they are, and where the next one begins."""
    failed = replace(JOB, state=JobState.REJECTED, error="no", created_ms=0, finished_ms=1, labels={"team": "a"})
    services.listed = JobPage((JOB, COMPLETED, failed), READ, JOB_ID)
    answer = await client.get("/v2/requests")
    common = {
        "request_id": JOB_ID,
        "model": "kling-2.6",
        "created_at": "1970-01-01T00:00:01.000Z",
        "labels": {},
        "status_url": f"{BASE}/v2/requests/{JOB_ID}/status",
        "response_url": f"{BASE}/v2/requests/{JOB_ID}",
    }
    assert answer.json() == {
        "requests": [
            common | {"status": "QUEUED", "held": 0.9415},
            common | {"status": "COMPLETED", "cost": 0.941512346, "finished_at": "1970-01-01T00:07:06.250Z"},
            common
            | {"status": "FAILED", "created_at": "1970-01-01T00:00:00.000Z", "finished_at": "1970-01-01T00:00:00.001Z"}
            | {"error": "no", "labels": {"team": "a"}},
        ],
        "next_cursor": JOB_ID,
    }
    assert (answer.headers["ratelimit"], answer.headers["cache-control"]) == ('"read";r=11;t=1', "no-store")
    assert [(e.route, e.status, e.tenant) for e in services.requests] == [("/v2/requests", 200, "video-team")]


async def test_the_last_page(client: httpx.AsyncClient) -> None:
    """A page without more after it has no cursor."""
    assert (await client.get("/v2/requests")).json() == {"requests": [], "next_cursor": None}


@pytest.mark.parametrize(
    ("query", "asked"),
    [
        ("", JobQuery()),
        ("status=&model=&since=&cursor=&limit=", JobQuery()),
        ("status=QUEUED,PROCESSING&limit=200", JobQuery(statuses=frozenset({"QUEUED", "PROCESSING"}), limit=200)),
        ("model=workflows%2Fmy-flow&limit=1", JobQuery(model="workflows/my-flow", limit=1)),
        (f"cursor={JOB_ID}", JobQuery(cursor=JOB_ID)),
        ("since=2026-02-02", JobQuery(since_ms=1_769_990_400_000)),
        ("since=2026-02-02T01:00:00.5%2B01:00", JobQuery(since_ms=1_769_990_400_500)),
        ("since=2026-02-02T01:00:00+01:00", JobQuery(since_ms=1_769_990_400_000)),
        ("since=1960-01-01T00:00:00Z", JobQuery()),
    ],
)
async def test_what_is_asked_for(client: httpx.AsyncClient, services: Services, query: str, asked: JobQuery) -> None:
    """Filters reach the store as they were meant; one without a value is none."""
    assert (await client.get(f"/v2/requests?{query}")).status_code == 200
    assert [seen for _, seen in services.seen] == [asked]


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("status=DONE", "status"),
        ("status=QUEUED,", "status"),
        ("model=..", "model"),
        ("since=yesterday", "since"),
        ("since=2026-02-30", "since"),
        ("cursor=abc", "cursor"),
        ("limit=0", "limit"),
        ("limit=201", "limit"),
        ("limit=%C2%B2", "limit"),
        ("limit=-1", "limit"),
        ("limit=5&limit=6", "limit"),
        ("order=asc", "order"),
        (f"{'a' * 5000}=1", "a" * 64),
    ],
)
async def test_what_makes_no_sense(client: httpx.AsyncClient, services: Services, query: str, field: str) -> None:
    """A parameter that is unknown, malformed or given twice is a 400 that names it, before anything is read."""
    answer = await client.get(f"/v2/requests?{query}")
    assert (answer.status_code, answer.json()["code"], answer.json()["field"]) == (400, "invalid_request", field)
    assert services.seen == []


async def test_it_is_no_model(client: httpx.AsyncClient, services: Services) -> None:
    """The list's path takes no submit: there is no model of that name."""
    answer = await client.post("/v2/requests", json={})
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD")
    assert services.seen == []


@pytest.mark.parametrize(
    ("denial", "status"),
    [(Denied("unauthenticated"), 401), (Denied("tenant_suspended"), 403), (Denied("rate_limited", rate=READ), 429)],
)
async def test_who_may_not_list(client: httpx.AsyncClient, services: Services, denial: Denied, status: int) -> None:
    """A list is refused like any other read."""
    services.denial = denial
    assert (await client.get("/v2/requests")).status_code == status
    assert (await client.get("/v2/requests", headers={"x-api-key": "no"})).status_code == 401
