"""``gateway reconcile``: our ledger against the vendor's request history, row by row."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import UTC, date, datetime
from typing import Annotated, Final

import typer

from gateway.cli.output import EXIT_FAILED, moment, note, result_json, table
from gateway.cli.store import DEADLINE_S, tenant_admin, with_store
from gateway.cli.tenants import AsJson
from gateway.cli.usage import day
from gateway.config import Settings
from gateway.core.credits import format_credits
from gateway.core.reconcile import DRIFTS, Line
from gateway.errors import UpstreamError
from gateway.service.reconcile import Reconciler, Reconciliation
from gateway.store.adjustments import RedisAdjustments
from gateway.store.connect import RedisClient
from gateway.store.doubts import RedisDoubts
from gateway.store.ledgers import RedisLedgers
from gateway.store.scripts import Scripts, load_scripts
from gateway.upstream.opening import open_upstream

app = typer.Typer()
EXIT_UNREADABLE: Final = 2
HEADERS = ("WHAT", "VENDOR ID", "MODEL", "CREATED", "TENANT", "JOB", "OURS", "THEIRS")


@app.command("reconcile")
def reconcile(
    first: Annotated[date, typer.Option("--from", parser=day, metavar="DAY", help="First day, UTC.")],
    last: Annotated[date | None, typer.Option("--to", parser=day, metavar="DAY", help="Last day; else today.")] = None,
    *,
    adjust: Annotated[
        bool, typer.Option("--adjust", help="Charge what the vendor billed, by adjusting entries.")
    ] = False,
    adopt: Annotated[
        str | None, typer.Option(metavar="TENANT", help="Charge this tenant for requests that are none of ours.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Write without asking.")] = False,
    as_json: AsJson = False,
) -> None:
    """Compare ledger and vendor; at most 31 days. Ends with 0 if they agree, 1 if not, 2 if that can't be told."""
    until = last or datetime.now(UTC).date()
    found = with_store(lambda client: _run(client, first, until, adopt, adjust=adjust, yes=yes))
    if isinstance(found, str):
        note(f"could not read the vendor's history, so nothing is said of what it holds: {found}")
        raise typer.Exit(EXIT_UNREADABLE)
    if as_json:
        result_json(_json(found))
    else:
        _print(found)
    if not found.agrees:
        raise typer.Exit(EXIT_FAILED)


async def _run(
    client: RedisClient, first: date, last: date, adopt: str | None, *, adjust: bool, yes: bool
) -> Reconciliation | str:
    """Compare, write what was asked for, and compare again; the reason where the history can't be read."""
    if adopt is not None:
        await tenant_admin(client).tenant(adopt)
    scripts, library = Scripts(client, deadline_s=DEADLINE_S), load_scripts()
    doubts = RedisDoubts(client, scripts, library)
    upstream = open_upstream(Settings.from_env(os.environ), lambda _: None)
    reconciler = Reconciler(
        upstream, RedisLedgers(client, scripts, library), doubts, RedisAdjustments(scripts, library, doubts)
    )
    try:
        found = await reconciler.compare(first, last)
        wanted = [line for line in found.lines if _is_wanted(line, adopt, adjust=adjust)]
        if not wanted or not _confirmed(wanted, yes=yes):
            return found
        written = await reconciler.adjust(wanted)
        written += 0 if adopt is None else await reconciler.adopt(wanted, adopt)
        note(f"{written} adjusting entries written")
        return await reconciler.compare(first, last)
    except UpstreamError as exc:
        return str(exc)
    finally:
        await upstream.aclose()


def _is_wanted(line: Line, adopt: str | None, *, adjust: bool) -> bool:
    if line.kind == "only_theirs":
        return adopt is not None and bool(line.theirs)
    return adjust and line.kind in DRIFTS


def _confirmed(lines: Sequence[Line], *, yes: bool) -> bool:
    """Ask before money is moved; without a terminal only --yes will do."""
    if yes:
        return True
    moved = sum((line.theirs or 0) - (line.ours or 0) for line in lines)
    note(f"{len(lines)} adjusting entries, {format_credits(moved)} credits in all")
    return typer.confirm("Write them?", err=True)


def _print(found: Reconciliation) -> None:
    table(HEADERS, [_row(line) for line in found.of(*DRIFTS)])
    counts = ", ".join(f"{count} {kind}" for kind, count in sorted(found.counts().items())) or "no requests"
    ours, theirs = _totals(found)
    note(f"{found.first} to {found.last}: {counts}; ours {ours}, theirs {theirs}, drift {format_credits(found.drift)}")


def _row(line: Line) -> Sequence[str]:
    return (
        line.kind, line.upstream_id, line.model, moment(line.created_ms, ""), line.tenant, line.job_id,
        _amount(line.ours), _amount(line.theirs),
    )  # fmt: skip


def _json(found: Reconciliation) -> dict[str, object]:
    ours, theirs = _totals(found)
    return {
        "from": f"{found.first}",
        "to": f"{found.last}",
        "agrees": found.agrees,
        "counts": dict(found.counts()),
        "ours": ours,
        "theirs": theirs,
        "drift": format_credits(found.drift),
        "rows": [
            {
                "what": line.kind,
                "upstream_id": line.upstream_id,
                "model": line.model,
                "created": moment(line.created_ms, "") or None,
                "tenant": line.tenant or None,
                "job": line.job_id or None,
                "ours": None if line.ours is None else format_credits(line.ours),
                "theirs": None if line.theirs is None else format_credits(line.theirs),
            }
            for line in found.lines
        ],
    }


def _totals(found: Reconciliation) -> tuple[str, str]:
    ours, theirs = (sum(getattr(line, side) or 0 for line in found.lines) for side in ("ours", "theirs"))
    return format_credits(ours), format_credits(theirs)


def _amount(nano: int | None) -> str:
    return "" if nano is None else format_credits(nano)
