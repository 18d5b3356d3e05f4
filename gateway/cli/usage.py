"""``gateway usage``: what each tenant used and spent, and when its budgets run out."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime
from typing import Annotated, Any, cast

import typer

from gateway.cli.ledger import OneTenant, check_tenant
from gateway.cli.output import failures, result, result_json, table
from gateway.cli.store import DEADLINE_S, with_store
from gateway.cli.tenants import AsJson
from gateway.core.usage import DIMENSIONS, Dimension
from gateway.errors import ConfigError
from gateway.service.usage import UsageQuery, UsageReport, UsageService
from gateway.service.usage_shown import as_csv, budget, figures, reasons, rows
from gateway.store.connect import RedisClient
from gateway.store.epoch import EpochGuard
from gateway.store.scripts import Scripts, load_scripts
from gateway.store.usage import RedisUsage

app = typer.Typer()
BUDGET_HEADERS = ("TENANT", "WINDOW", "LIMIT", "SPENT", "HELD", "REMAINING", "RESETS", "RUNS OUT")


def day(text: str) -> date:
    """Read an option like ``2026-02-28``."""
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter("should be a day like 2026-02-28") from None


@app.command("usage")
def usage(
    first: Annotated[date | None, typer.Option("--from", parser=day, metavar="DAY", help="First day, UTC.")] = None,
    last: Annotated[date | None, typer.Option("--to", parser=day, metavar="DAY", help="Last day, UTC.")] = None,
    by: Annotated[str, typer.Option(metavar="NAMES", help=f"Some of {','.join(DIMENSIONS)}.")] = "tenant",
    *,
    tenant: OneTenant = None,
    as_json: AsJson = False,
    csv: Annotated[bool, typer.Option("--csv", help="CSV on standard output.")] = False,
) -> None:
    """Show usage, by default of each tenant this month so far, and when each budget runs out at the present pace."""
    with failures():
        last = last or datetime.now(UTC).date()
        query = UsageQuery(first or last.replace(day=1), last, _by(by))
    report = with_store(lambda client: _report(client, query, tenant))
    if csv:
        result(as_csv(report).replace("\r\n", "\n").removesuffix("\n"))
    elif as_json:
        result_json(_json(report))
    else:
        _print(report)


def _by(text: str) -> tuple[Dimension, ...]:
    words = [word.strip() for word in text.split(",")]
    if not set(words) <= set(DIMENSIONS) or len(set(words)) < len(words):
        raise ConfigError(f"--by: takes some of {', '.join(DIMENSIONS)}, each once")
    return cast("tuple[Dimension, ...]", tuple(words))


async def _report(client: RedisClient, query: UsageQuery, tenant: str | None) -> UsageReport:
    await check_tenant(client, tenant)
    store = RedisUsage(client, Scripts(client, deadline_s=DEADLINE_S), load_scripts(), EpochGuard(client))
    return await UsageService(store).report(query, tenant)


def _json(report: UsageReport) -> dict[str, Any]:
    query = report.query
    return {
        "from": query.first.isoformat(),
        "to": query.last.isoformat(),
        "by": query.by,
        "usage": [{**values, **figures(usage), **reasons(usage)} for values, usage in rows(report)],
        "total": {**figures(report.total), **reasons(report.total)},
        "budgets": [
            {"tenant": tenant, **budget(forecast)}
            for tenant, forecasts in report.budgets.items()
            for forecast in forecasts
        ],
    }


def _print(report: UsageReport) -> None:
    names = [*report.query.by, *figures(report.total)]
    lines = [_cells([*values.values(), *figures(usage).values()]) for values, usage in rows(report)]
    total = _cells([*([""] * len(report.query.by)), *figures(report.total).values()])
    table([name.upper().replace("_S", " S") for name in names], [*lines, ("total", *total[1:])])
    budgets = [
        (tenant, *_cells([*budget(forecast).values()], absent="-"))
        for tenant, forecasts in report.budgets.items()
        for forecast in forecasts
    ]
    if budgets:
        result("")
        table(BUDGET_HEADERS, budgets)


def _cells(values: Sequence[object], absent: str = "") -> list[str]:
    return [absent if value is None else str(value) for value in values]
