from __future__ import annotations

import asyncio
import csv
import json
from collections.abc import Callable

import pytest
from support.ledger import CREDIT, admission, open_store
from typer.testing import Result

from gateway.core.job import JobState
from gateway.core.movements import Settlement
from gateway.store.readiness import ensure_epoch

Gateway = Callable[..., Result]


@pytest.fixture
def used(gateway: Gateway, redis_url: str) -> Gateway:
    """Run the command line on a store with two tenants that used two models."""

    async def run() -> None:
        async with open_store(redis_url) as store:
            await ensure_epoch(store.client)
            for tenant, budgets in (("team", {"month": 2 * CREDIT}), ("b", {})):
                caller = await store.caller(tenant, budgets=budgets)
                for model in ("kling-2.6", "flux-2-pro"):
                    request = admission(caller, model=model)
                    await store.ledger.admit(request)
                charge = Settlement(tenant=tenant, job_id=request.job_id, state=JobState.COMPLETED, cost=CREDIT // 8)
                await store.ledger.settle(charge)

    asyncio.run(run())
    return gateway


def test_usage(used: Gateway) -> None:
    """By tenant, with a total, and each budget with when it runs out."""
    shown = used("usage")
    lines = [line.split() for line in shown.stdout.splitlines()]
    assert lines[0][:4] == ["TENANT", "JOBS", "COMPLETED", "FAILED"]
    assert [line[:3] for line in lines[1:4]] == [["b", "2", "1"], ["team", "2", "1"], ["total", "4", "2"]]
    assert lines[5][:3] == ["TENANT", "WINDOW", "LIMIT"]
    assert [line[:6] for line in lines[6:]] == [["team", "month", "2", "0.125", "1", "0.875"]]


def test_usage_of_one_tenant_by_model_as_json_and_csv(used: Gateway) -> None:
    """JSON and CSV tell the same plain figures."""
    words = ("usage", "--tenant", "team", "--by", "model,month")
    told = json.loads(used(*words, "--json").stdout)
    assert [(row["model"], row["credits"], row["held"]) for row in told["usage"]] == [
        ("flux-2-pro", "0.125", "0"),
        ("kling-2.6", "0", "1"),
    ]
    assert (told["total"]["jobs"], told["budgets"][0]["tenant"]) == (2, "team")
    rows = list(csv.DictReader(used(*words, "--csv").stdout.splitlines()))
    assert [(row["model"], row["credits"], row["held"]) for row in rows] == [
        (row["model"], row["credits"], row["held"]) for row in told["usage"]
    ]


@pytest.mark.parametrize(
    ("words", "code"),
    [(("--by", "colour"), 2), (("--from", "x"), 2), (("--from", "2020-01-01", "--to", "2026-01-01"), 1)],
)
def test_what_can_not_be_asked_for(used: Gateway, words: tuple[str, ...], code: int) -> None:
    """A mistake is told on standard error, and nothing on standard output."""
    failed = used("usage", *words)
    assert (failed.exit_code, failed.stdout) == (code, "")
