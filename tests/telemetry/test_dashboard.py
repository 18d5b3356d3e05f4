from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.gateway import TENANT, Gateway, eventually, gateway_on
from support.ledger import CREDIT
from support.prometheus import ROOT, prometheus_on
from support.receiver import host_of, receiving

from gateway.core.tenant import TenantPolicy
from gateway.sandbox import Fault

DASHBOARD = json.loads((ROOT / "helm" / "dashboards" / "gateway.json").read_text("utf-8"))
CHOSEN = {"$namespace": ".*", "$tenant": TENANT, "$model": "kling.*", "$__rate_interval": "4s", "$__range": "1m"}
WITHIN_S = 60


def targets() -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every query of the dashboard with its panel's title."""
    for panel in DASHBOARD["panels"]:
        for target in panel.get("targets", ()):
            yield panel["title"], target


def expression(query: str) -> str:
    """Put values in the place of variables, as Grafana would."""
    for name, value in CHOSEN.items():
        query = query.replace(name, value)
    assert "$" not in query
    return query


@asynccontextmanager
async def traffic(gateway: Gateway, hook: str) -> AsyncIterator[None]:
    """Keep jobs of every kind coming while the block runs: good, failed, refused, doubtful and too dear ones."""

    async def run() -> None:
        board = gateway.vendor.sandbox.faults
        while True:
            await gateway.post(x_webhook_url=hook)
            board.add(Fault(action="respond", status=502, body="no", on=("submit",), times=1))
            await gateway.post()
            board.add(Fault(action="cost", cost="3x", on=("submit",), times=1))
            answer = await gateway.post()
            if answer.is_success:
                await gateway.http.get(answer.json()["status_url"])
            await gateway.post(body={"prompt": 1})
            await asyncio.sleep(0.05)

    task = asyncio.create_task(run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_every_query_of_the_dashboard_returns_data(redis_url: str, tmp_path: Path) -> None:
    """A real Prometheus that scrapes a real gateway has an answer with a value to each panel and each variable."""
    options: dict[str, Any] = {
        "webhook_allow_private": True,
        "budgets": {"month": 10**6 * CREDIT},
        "balance": Decimal(10**6),
    }
    async with receiving() as receiver, gateway_on(redis_url, **options) as gateway:
        policy = TenantPolicy(TENANT, budgets={"month": 10**6 * CREDIT}, webhook_hosts=(host_of(receiver),))
        await gateway.store.tenants.put(policy)
        address = gateway.ops_url.removeprefix("http://")
        async with (
            traffic(gateway, f"{receiver.url}/hook"),
            prometheus_on(tmp_path, [address], interval="250ms") as prometheus,
        ):
            missing = list(targets())

            async def answered() -> bool:
                missing[:] = [found for found in missing if not await _has_data(prometheus, found[1]["expr"])]
                return not missing

            try:
                await eventually(answered, WITHIN_S)
            except TimeoutError:
                pytest.fail(f"no data: {[(title, expression(target['expr'])) for title, target in missing]}")
            for variable in ("tenant", "model"):
                values = (await prometheus.get(f"/api/v1/label/{variable}/values")).json()["data"]
                assert set(values) & {TENANT, "kling-2.6-standard-motion-control"}
            groups = (await prometheus.get("/api/v1/rules")).json()["data"]["groups"]
            assert [rule["name"] for group in groups for rule in group["rules"] if rule["health"] != "ok"] == []


def test_panels_do_not_overlap() -> None:
    """Every panel has a place of its own and a title of its own."""
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert max(x for x, _ in cells) < 24
        assert not cells & taken, panel["title"]
        taken |= cells


def test_every_query_follows_the_choice_of_tenant_and_model() -> None:
    """A query about a metric with a tenant or a model is narrowed down to those that were chosen."""
    page = (ROOT / "docs" / "telemetry.md").read_text("utf-8")
    rows = [line.split("|") for line in page.splitlines() if line.startswith("| `gateway_")]
    labels = {row[1].strip().strip("`"): row[3] for row in rows}
    for title, target in targets():
        for metric in (name for name in labels if name in target["expr"]):
            for label in ("tenant", "model"):
                assert f"`{label}`" not in labels[metric] or f'{label}=~"${label}"' in target["expr"], title


async def _has_data(prometheus: httpx.AsyncClient, query: str) -> bool:
    answer = (await prometheus.post("/api/v1/query", data={"query": expression(query)})).json()
    assert answer["status"] == "success", answer
    return any(series["value"][1] != "NaN" for series in answer["data"]["result"])
