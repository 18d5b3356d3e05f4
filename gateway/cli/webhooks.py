"""``gateway webhooks``: what is owed to receivers, and the secrets that sign it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated, TypeVar

import typer

from gateway.cli.output import moment, note, result, result_json, table
from gateway.cli.store import DEADLINE_S, tenant_admin, with_store
from gateway.cli.tenants import AsJson, Tenant, duration
from gateway.core.webhook import Delivery
from gateway.service.webhooks import WebhookAdmin
from gateway.store import keys
from gateway.store.connect import RedisClient
from gateway.store.due import RedisDue
from gateway.store.scripts import Scripts, load_scripts
from gateway.store.webhooks import RedisDeliveries

T = TypeVar("T")
HEADERS = ("JOB", "EVENT", "STATE", "ATTEMPTS", "LAST", "NEXT", "URL")
NONE_YET = "-"

app = typer.Typer(no_args_is_help=True, help="Webhooks: what is owed to receivers, and the secrets that sign it.")


@app.command("list")
def list_deliveries(
    tenant: Tenant,
    job: Annotated[str | None, typer.Option(metavar="JOB_ID", help="Only this job's, delivered or not.")] = None,
    as_json: AsJson = False,
) -> None:
    """List the deliveries of a tenant that are pending, failed, or not made because its endpoint is disabled."""

    async def read(admin: WebhookAdmin) -> tuple[Sequence[Delivery], str | None]:
        found = [await admin.delivery(tenant, job)] if job is not None else await admin.unsettled(tenant)
        return found, await admin.disabled(tenant)

    deliveries, disabled = _administer(read)
    if as_json:
        result_json({"disabled": disabled, "deliveries": deliveries})
        return
    if disabled is not None:
        note(f"{disabled} answered 410 and is disabled; `gateway webhooks enable {tenant}` ends that")
    table(HEADERS, [_row(delivery) for delivery in deliveries])


@app.command("retry")
def retry(
    tenant: Tenant,
    job: Annotated[str | None, typer.Argument(metavar="JOB_ID", help="Only this job's, delivered or not.")] = None,
) -> None:
    """Send at once whatever was not delivered, from the first attempt on; or one job's webhook once more."""
    count = _administer(lambda admin: admin.retry(tenant, job))
    note(f"deliveries of {tenant} that are due now: {count}")


@app.command("secret")
def secret(
    tenant: Tenant,
    rotate: Annotated[bool, typer.Option("--rotate", help="Make a new one.")] = False,
    overlap: Annotated[
        int, typer.Option(parser=duration, metavar="DURATION", help="How long the old one signs too.")
    ] = "24h",  # type: ignore[assignment]  # typer parses the default as it would the option
) -> None:
    """Print the secret that a tenant's webhooks are signed with, alone, on standard output."""
    found = _administer(lambda admin: admin.rotate(tenant, overlap_s=overlap) if rotate else admin.secret(tenant))
    if rotate:
        note(f"the old secret of {tenant} signs too for {overlap} s")
    result(found.reveal())


@app.command("enable")
def enable(tenant: Tenant) -> None:
    """Send to a tenant's endpoint again that was disabled because it answered 410."""
    if _administer(lambda admin: admin.enable(tenant)):
        note(f"webhooks of {tenant} are sent again; `gateway webhooks retry {tenant}` sends those that were not")
    else:
        note(f"the endpoint of {tenant} was not disabled")


def _administer(work: Callable[[WebhookAdmin], Awaitable[T]]) -> T:
    return with_store(lambda client: work(_admin(client)))


def _admin(client: RedisClient) -> WebhookAdmin:
    scripts, library = Scripts(client, deadline_s=DEADLINE_S), load_scripts()
    due = RedisDue(scripts, library, keys.hooks, keys.HOOK_SHARDS)
    return WebhookAdmin(tenant_admin(client), RedisDeliveries(client, scripts, library), due)


def _row(delivery: Delivery) -> tuple[str, ...]:
    last = delivery.log[-1] if delivery.log else None
    said = NONE_YET if last is None else f"{moment(last.at_ms)} {last.status or last.outcome}"
    return (
        delivery.job_id,
        delivery.type,
        delivery.state,
        str(delivery.attempts),
        said,
        moment(delivery.due_ms, NONE_YET),
        delivery.url,
    )
