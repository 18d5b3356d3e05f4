"""``gateway ledger``: the ledger audited."""

from __future__ import annotations

from typing import Annotated

import typer

from gateway.cli.output import EXIT_FAILED, note, result_json, table
from gateway.cli.store import DEADLINE_S, with_store
from gateway.cli.tenants import AsJson
from gateway.core.policy import Policy
from gateway.service.audit import Auditor, Verdict
from gateway.store.connect import RedisClient
from gateway.store.ledgers import RedisLedgers
from gateway.store.scripts import Scripts, load_scripts
from gateway.store.tenants import RedisTenants

app = typer.Typer(no_args_is_help=True, help="The ledger: every movement of every tenant's credits.")
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


async def _verify(client: RedisClient, tenant: str | None) -> Verdict:
    scripts, library = Scripts(client, deadline_s=DEADLINE_S), load_scripts()
    declared = await RedisTenants(client, scripts, library).rules()
    policy = Policy() if declared is None else declared.policy
    return await Auditor(RedisLedgers(client, scripts, library), lambda: policy.job_ttl_s).verify(tenant)
