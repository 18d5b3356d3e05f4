"""``gateway apply``."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Final

import typer

from gateway.catalogue import load_catalogue
from gateway.cli.output import failures, note, result, result_json
from gateway.cli.store import tenant_admin, with_store
from gateway.errors import ConfigError
from gateway.service.plan import Change, FieldChange, Plan
from gateway.service.spec import GatewaySpec, load_spec
from gateway.store.connect import RedisClient
from gateway.store.readiness import ensure_epoch

app = typer.Typer()

SIGNS: Final = {"add": "+", "restore": "+", "change": "~", "remove": "-"}
STDIN: Final = Path("-")


@app.command("apply")
def apply(
    file: Annotated[
        Path, typer.Option("--file", "-f", metavar="FILE", help="The gateway.yaml; - reads standard input.")
    ],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only print the difference.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="The difference as JSON.")] = False,
) -> None:
    """Make tenants, models and policy what a file declares, and print what changes.

    A tenant that is no longer in the file is refused from then on; its keys, jobs and ledger stay.
    """
    with failures():
        spec = _read(file)
    plan = with_store(lambda client: _apply(client, spec, dry_run=dry_run))
    if as_json:
        result_json({"applied": not dry_run, "changes": plan.changes})
        return
    for line in _lines(plan):
        result(line)
    if dry_run and plan.changes:
        note("nothing was written: --dry-run")


async def _apply(client: RedisClient, spec: GatewaySpec, *, dry_run: bool) -> Plan:
    admin = tenant_admin(client)
    if dry_run:
        return await admin.plan(spec)
    await ensure_epoch(client)
    return await admin.apply(spec)


def _read(file: Path) -> GatewaySpec:
    try:
        text = sys.stdin.read() if file == STDIN else file.read_text(encoding="utf-8")
    except OSError as exc:
        raise ConfigError(f"{file}: {exc.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{file}: not UTF-8") from None
    return load_spec(text, load_catalogue(), name="standard input" if file == STDIN else str(file))


def _lines(plan: Plan) -> Iterator[str]:
    if not plan.changes:
        yield "no changes"
    for change in plan.changes:
        yield _headline(change)
        yield from (f"    {_field(field)}" for field in change.fields)


def _headline(change: Change) -> str:
    subject = change.name if change.kind == "policy" else f"{change.kind} {change.name}"
    remark = {"restore": " (was removed)", "remove": " (refused from now on; keys, jobs and ledger stay)"}
    return f"{SIGNS[change.action]} {subject}{remark.get(change.action, '') if change.kind == 'tenant' else ''}"


def _field(field: FieldChange) -> str:
    if field.before is None:
        return f"+ {field.field}: {field.after}"
    if field.after is None:
        return f"- {field.field}: {field.before}"
    return f"~ {field.field}: {field.before} -> {field.after}"
