"""``gateway ledger``: the ledger audited, and exported for finance."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable
from typing import Annotated, Literal

import typer

from gateway.cli.output import EXIT_FAILED, note, result, result_json, table
from gateway.cli.store import DEADLINE_S, tenant_admin, with_store
from gateway.cli.tenants import AsJson
from gateway.core.policy import Policy
from gateway.service.audit import Auditor, Verdict
from gateway.service.export import COLUMNS, Exported, Exporter
from gateway.store.connect import RedisClient
from gateway.store.ledgers import RedisLedgers
from gateway.store.scripts import Scripts, load_scripts
from gateway.store.tenants import RedisTenants

app = typer.Typer(no_args_is_help=True, help="The ledger: every movement of every tenant's credits.")
Form = Literal["csv", "ndjson"]
HEADERS = ("TENANT", "WHAT", "LEDGER", "FOUND")

OneTenant = Annotated[str | None, typer.Option("--tenant", metavar="TENANT", help="Only this tenant's.")]


@app.command("verify")
def verify(tenant: OneTenant = None, as_json: AsJson = False) -> None:
    """Replay the ledger and compare every counter, slot and job with it. Ends with 1 where anything differs."""
    verdict = with_store(lambda client: _verify(client, tenant))
    if as_json:
        result_json(verdict)
    else:
        if verdict.differences:
            table(HEADERS, [(d.tenant, d.what, d.ledger, d.found) for d in verdict.differences])
        said = f"{len(verdict.differences)} differences" if verdict.differences else "everything agrees"
        note(f"{verdict.entries} entries of {verdict.tenants} tenants replayed: {said}")
    if verdict.differences:
        raise typer.Exit(EXIT_FAILED)


@app.command("export")
def export(
    form: Annotated[Form, typer.Option("--format", help="csv, or ndjson: a JSON object a line.")] = "csv",
    after: Annotated[str | None, typer.Option(metavar="ID", help="Go on after this id of an earlier export.")] = None,
    tenant: OneTenant = None,
) -> None:
    """Write every ledger entry to standard output, oldest first; the next export goes on after the last line's id."""
    with_store(lambda client: _export(client, _writer(form, header=after is None), tenant, after))


async def check_tenant(client: RedisClient, tenant: str | None) -> None:
    """Raise `Refused` where there is no such tenant: of one that is mistyped everything would agree."""
    if tenant is not None:
        await tenant_admin(client).tenant(tenant)


async def _export(
    client: RedisClient, write: Callable[[Exported], None], tenant: str | None, after: str | None
) -> None:
    await check_tenant(client, tenant)
    ledgers = RedisLedgers(client, Scripts(client, deadline_s=DEADLINE_S), load_scripts())
    async for row in Exporter(ledgers).rows(tenant=tenant, after=after):
        write(row)


def _writer(form: Form, *, header: bool) -> Callable[[Exported], None]:
    if form == "ndjson":
        return lambda row: result(json.dumps(row))
    table_writer = csv.DictWriter(sys.stdout, COLUMNS, lineterminator="\n")
    if header:
        table_writer.writeheader()
    return lambda row: table_writer.writerow({**row, "labels": _labels(row["labels"])})


def _labels(labels: object) -> str:
    return ",".join(f"{name}={value}" for name, value in labels.items()) if isinstance(labels, dict) else ""


async def _verify(client: RedisClient, tenant: str | None) -> Verdict:
    await check_tenant(client, tenant)
    scripts, library = Scripts(client, deadline_s=DEADLINE_S), load_scripts()
    declared = await RedisTenants(client, scripts, library).rules()
    policy = Policy() if declared is None else declared.policy
    return await Auditor(RedisLedgers(client, scripts, library), lambda: policy.job_ttl_s).verify(tenant)
