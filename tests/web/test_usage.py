from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, date, datetime
from typing import Any

import pytest
from web.fakes import READ, Services, build, client_of

from gateway.core.credits import NANO
from gateway.core.movements import Denied
from gateway.core.quota import Window
from gateway.core.usage import Forecast, Usage, bucket_of
from gateway.service.usage import UsageQuery, UsageReport

QUERY = UsageQuery(date(2026, 2, 1), date(2026, 2, 20), ("day", "model"))
USED = Usage(
    Counter(
        {
            "jobs": 3,
            "completed": 1,
            "rejected": 1,
            "spent": 941_512_346,
            "held": NANO,
            f"took_{bucket_of(425_000)}": 1,
            "refused_rate_limited": 2,
            "rejected_model_retired": 1,
        }
    )
)
REPORT = UsageReport(
    QUERY,
    {("2026-02-03", "kling-2.6"): USED},
    USED,
    {"team": [Forecast(Window("month", 5 * NANO, NANO, 0), datetime(2026, 3, 1, tzinfo=UTC), None)]},
    READ,
)


async def test_usage_is_told_with_exact_amounts() -> None:
    """Figures by group, the total, and when budgets run out; credits are exact JSON numbers."""
    async with client_of(build(Services(used=REPORT))) as client:
        answer = await client.get("/v2/usage")
    said = json.loads(answer.text, parse_float=str)
    (row,) = said["usage"]
    assert {name: row[name] for name in ("day", "model", "jobs", "running", "credits", "held", "refused")} == {
        "day": "2026-02-03", "model": "kling-2.6", "jobs": 3, "running": 1, "credits": "0.941512346", "held": 1,
        "refused": 2,
    }  # fmt: skip
    assert abs(float(row["p50_s"]) - 425) < 425 / 16
    assert (row["refused_by_code"], row["rejected_by_code"]) == ({"rate_limited": 2}, {"model_retired": 1})
    assert said["total"]["credits"] == "0.941512346"
    assert said["budgets"] == [
        {
            "window": "month",
            "limit": 5,
            "spent": 1,
            "held": 0,
            "remaining": 4,
            "resets_at": "2026-03-01T00:00:00Z",
            "runs_out_at": None,
        }
    ]
    assert "ratelimit" in answer.headers


async def test_csv_by_accept() -> None:
    """A spreadsheet gets the same figures, a line a group."""
    async with client_of(build(Services(used=REPORT))) as client:
        answer = await client.get("/v2/usage", headers={"accept": "text/csv"})
    assert answer.headers["content-type"].startswith("text/csv")
    header, line = answer.text.splitlines()
    told = dict(zip(header.split(","), line.split(","), strict=True))
    assert (told["day"], told["credits"], told["refused_by_code"]) == ("2026-02-03", "0.941512346", "rate_limited=2")


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", QUERY),
        ("?from=2026-01-05&to=2026-01-06", UsageQuery(date(2026, 1, 5), date(2026, 1, 6), ("day", "model"))),
        ("?to=2025-12-31", UsageQuery(date(2025, 12, 1), date(2025, 12, 31), ("day", "model"))),
        ("?group_by=key,month", UsageQuery(QUERY.first, QUERY.last, ("key", "month"))),
    ],
)
async def test_what_is_asked_for(query: str, expected: UsageQuery) -> None:
    """By default this month so far, by day and model."""
    services = Services()
    async with client_of(build(services)) as client:
        assert (await client.get(f"/v2/usage{query}")).status_code == 200
    assert services.seen == [expected]


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("?from=yesterday", "from"),
        ("?from=2026-02-02&to=2026-02-01", "from"),
        ("?from=2020-01-01", "from"),
        ("?to=2026-02-30", "to"),
        ("?group_by=tenant", "group_by"),
        ("?group_by=day,day", "group_by"),
        ("?by=day", "by"),
        ("?from=", "from"),
        ("?to=20260201", "to"),
        ("?group_by=", "group_by"),
        ("?from=2026-02-01&from=2026-02-01", "from"),
    ],
)
async def test_what_can_not_be_asked_for(query: str, field: str) -> None:
    """A mistake is a 400 that names the parameter, and nothing is read."""
    services = Services()
    async with client_of(build(services)) as client:
        answer = await client.get(f"/v2/usage{query}")
    assert (answer.status_code, answer.json()["field"]) == (400, field)
    assert services.seen == []


async def test_a_refused_caller() -> None:
    """A key that is not good is 401; a used-up read limit 429."""
    denials: list[Any] = [Denied("unauthenticated"), Denied("rate_limited", retry_after_s=3, rate=READ)]
    for denial, status in zip(denials, (401, 429), strict=True):
        async with client_of(build(Services(used=denial))) as client:
            assert (await client.get("/v2/usage")).status_code == status
