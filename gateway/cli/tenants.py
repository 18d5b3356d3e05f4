"""``gateway tenant`` and ``gateway key``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated

import typer

from gateway.cli.output import failures, fields, moment, note, result, result_json, table
from gateway.cli.store import administer
from gateway.core.credits import format_credits
from gateway.core.durations import parse_duration_s
from gateway.errors import ConfigError
from gateway.service.plan import TenantRecord, show_tenant
from gateway.service.tenants import ApiKey, NewKey, TenantAdmin

tenant_app = typer.Typer(no_args_is_help=True, help="Tenants: what they may do, and whether they may do anything.")
key_app = typer.Typer(no_args_is_help=True, help="API keys of tenants.")

NAME_MAX = 128
KEY_HEADERS = ("ID", "NAME", "STATE", "CREATED", "EXPIRES", "LAST USED")


def duration(text: str) -> int:
    """Read an option like ``90d``, seconds."""
    try:
        return parse_duration_s(text)
    except ValueError as exc:
        raise typer.BadParameter(str(exc)) from None


Tenant = Annotated[str, typer.Argument(metavar="TENANT", help="Id of the tenant.")]
AsJson = Annotated[bool, typer.Option("--json", help="JSON on standard output.")]
Expires = Annotated[
    int | None, typer.Option("--expires", parser=duration, metavar="DURATION", help="Life of the key, e.g. 90d.")
]


@tenant_app.command("list")
def list_tenants(as_json: AsJson = False) -> None:
    """List all tenants."""
    records = administer(lambda admin: admin.tenants())
    if as_json:
        result_json([_tenant_json(record) for record in records])
        return
    rows = [(record.policy.id, record.policy.name, _state(record), _budgets(record)) for record in records]
    table(("ID", "NAME", "STATE", "BUDGETS"), rows)


@tenant_app.command("show")
def show(tenant: Tenant, as_json: AsJson = False) -> None:
    """Show a tenant's policy and keys."""

    async def read(admin: TenantAdmin) -> tuple[TenantRecord, Sequence[ApiKey]]:
        return await admin.tenant(tenant), await admin.keys(tenant)

    record, keys = administer(read)
    if as_json:
        result_json({**_tenant_json(record), "keys": keys})
        return
    fields({"id": record.policy.id, "state": _state(record), **show_tenant(record.policy)})
    result("")
    _print_keys(keys)


@tenant_app.command("suspend")
def suspend(tenant: Tenant) -> None:
    """Refuse all calls of a tenant from now on; its running jobs go on."""
    administer(lambda admin: admin.suspend(tenant))
    note(f"tenant {tenant} is suspended")


@tenant_app.command("resume")
def resume(tenant: Tenant) -> None:
    """Undo `suspend`."""
    administer(lambda admin: admin.resume(tenant))
    note(f"tenant {tenant} is no longer suspended")


@key_app.command("create")
def create_key(
    tenant: Tenant,
    name: Annotated[str, typer.Option(help="What the key is for.")] = "",
    expires: Expires = None,
) -> None:
    """Make an API key and print it, alone, on standard output. It is shown this once."""
    with failures():
        _check_key(name, expires)
    _print_new(administer(lambda admin: admin.create_key(tenant, name=name, ttl_s=expires)))


@key_app.command("list")
def list_keys(tenant: Tenant, as_json: AsJson = False) -> None:
    """List the API keys of a tenant, oldest first."""
    keys = administer(lambda admin: admin.keys(tenant))
    if as_json:
        result_json(keys)
    else:
        _print_keys(keys)


@key_app.command("rotate")
def rotate_key(
    tenant: Tenant,
    key_id: Annotated[
        str | None, typer.Argument(metavar="KEY_ID", help="The key to replace, if not the only one.")
    ] = None,
    overlap: Annotated[
        int, typer.Option(parser=duration, metavar="DURATION", help="How long the old key stays valid.")
    ] = "24h",  # type: ignore[assignment]  # typer parses the default as it would the option
    expires: Expires = None,
) -> None:
    """Make a key in the place of another one and print it, alone, on standard output."""
    with failures():
        _check_key("", expires)
    _print_new(administer(lambda admin: admin.rotate_key(tenant, key_id, overlap_s=overlap, ttl_s=expires)))


@key_app.command("revoke")
def revoke_key(tenant: Tenant, key_id: Annotated[str, typer.Argument(metavar="KEY_ID", help="Id of the key.")]) -> None:
    """Refuse an API key from now on; the tenant's running jobs go on."""
    key = administer(lambda admin: admin.revoke_key(tenant, key_id))
    note(f"key {key.id} of {tenant} was revoked at {moment(key.revoked_ms)}")


def _check_key(name: str, expires_s: int | None) -> None:
    if len(name) > NAME_MAX or not name.isprintable():
        raise ConfigError(f"--name: at most {NAME_MAX} printable characters")
    if expires_s == 0:
        raise ConfigError("--expires: must be at least 1s")


def _print_new(new: NewKey) -> None:
    note(f"key {new.key.id} of {new.key.tenant}, expires: {moment(new.key.expires_ms)}; it is shown this once")
    result(new.text.reveal())


def _print_keys(keys: Sequence[ApiKey]) -> None:
    rows = [
        (key.id, key.name, key.state, moment(key.created_ms), moment(key.expires_ms), moment(key.used_ms))
        for key in keys
    ]
    table(KEY_HEADERS, rows)


def _state(record: TenantRecord) -> str:
    return "removed" if record.removed else "suspended" if record.suspended else "active"


def _budgets(record: TenantRecord) -> str:
    shown = show_tenant(record.policy)
    return ", ".join(f"{value} a {name[8:]}" for name, value in shown.items() if name.startswith("budgets.")) or "none"


def _tenant_json(record: TenantRecord) -> dict[str, object]:
    """Tell a tenant in the shape of ``gateway.yaml``: numbers and lists, credits as plain decimals, seconds."""
    policy = record.policy
    return {
        "id": policy.id,
        "state": _state(record),
        "policy": {
            "name": policy.name,
            "models": policy.models,
            "rate_limits": {name: asdict(getattr(policy, name)) for name in ("submit", "read")},
            "concurrent_jobs": policy.concurrent_jobs,
            "budgets": {window: format_credits(limit) for window, limit in policy.budgets.items()},
            "prices": {model: format_credits(price) for model, price in sorted(policy.prices.items())},
            "alerts": policy.alerts,
            "require_idempotency_key": policy.require_idempotency_key,
            "webhooks": {"url": policy.webhook_url, "allowed_hosts": policy.webhook_hosts},
        },
    }
