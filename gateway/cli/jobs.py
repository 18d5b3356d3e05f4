"""``gateway jobs``: what became of all tenants' jobs, and ending those that the gateway can't end by itself."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated, TypeVar

import typer

from gateway.cli.output import failures, fields, moment, note, result_json, table
from gateway.cli.store import DEADLINE_S, with_store
from gateway.cli.tenants import AsJson
from gateway.core.adoption import Doubt
from gateway.core.credits import format_credits, parse_credits
from gateway.core.job import Job, JobState
from gateway.core.policy import Policy
from gateway.errors import ConfigError
from gateway.service.resolve import JobAdmin
from gateway.store.connect import RedisClient
from gateway.store.doubts import RedisDoubts
from gateway.store.epoch import EpochGuard
from gateway.store.ledger import RedisLedger
from gateway.store.scripts import Scripts, load_scripts
from gateway.store.survey import RedisSurvey
from gateway.store.tenants import RedisTenants

T = TypeVar("T")
HEADERS = ("JOB", "TENANT", "MODEL", "STATE", "CREATED", "HELD", "COST", "VENDOR ID", "REASON")
UNKNOWN_HEADERS = ("JOB", "TENANT", "MODEL", "CREATED", "HELD", "LOOKED UP", "HISTORY READABLE SINCE", "REASON")
REASON_MAX = 500

app = typer.Typer(help="Jobs of all tenants.")


@app.callback(invoke_without_command=True)
def list_jobs(
    context: typer.Context,
    *,
    unknown: Annotated[bool, typer.Option("--unknown", help="All whose outcome is unknown.")] = False,
    tenant: Annotated[str | None, typer.Option(metavar="TENANT", help="Only this tenant's.")] = None,
    state: Annotated[JobState | None, typer.Option(help="Only those in this state.", case_sensitive=False)] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many, newest first.")] = 50,
    as_json: AsJson = False,
) -> None:
    """List jobs, newest first; with --unknown, oldest first."""
    if context.invoked_subcommand is not None:
        return
    if unknown or state is JobState.UNKNOWN:
        _list_unknown(tenant, as_json=as_json)
        return
    jobs = _administer(lambda admin: admin.newest(limit=limit, state=state, tenant=tenant))
    if as_json:
        result_json([_job_json(job) for job in jobs])
    else:
        table(HEADERS, [_row(job) for job in jobs])


@app.command("show")
def show(
    job_id: Annotated[str, typer.Argument(metavar="JOB_ID", help="As tenants and log lines name it.")],
    *,
    as_json: AsJson = False,
) -> None:
    """Show one job, whichever tenant's it is."""
    job = _administer(lambda admin: admin.find(job_id))
    if as_json:
        result_json(_job_json(job))
    else:
        fields(dict(zip(map(str.lower, HEADERS), _row(job), strict=True)) | {"key": job.key_id} | _labels(job))


@app.command("resolve")
def resolve(
    job_id: Annotated[str, typer.Argument(metavar="JOB_ID", help="A job that is UNKNOWN, or runs for ever.")],
    *,
    charge: Annotated[str | None, typer.Option(metavar="CREDITS", help="What it cost.")] = None,
    release: Annotated[bool, typer.Option("--release", help="It cost nothing.")] = False,
    running: Annotated[bool, typer.Option("--running", help="Also a job that runs, and will be billed.")] = False,
    reason: Annotated[str, typer.Option(help="Why; the tenant reads it.")] = "resolved by hand",
) -> None:
    """End a job whose outcome you have found out at the vendor: charge it, or release its hold. It can't be undone."""
    with failures():
        cost = _cost(charge, release=release)
        if len(reason) > REASON_MAX or not reason.isprintable():
            raise ConfigError(f"--reason: at most {REASON_MAX} printable characters")
    if cost is None:
        job = _administer(lambda admin: admin.release(job_id, reason, running=running))
        note(f"job {job.id} of {job.tenant} is {job.state}; {format_credits(job.hold)} credits are no longer held")
    else:
        job = _administer(lambda admin: admin.charge(job_id, cost, reason, running=running))
        note(f"job {job.id} of {job.tenant} is {job.state}; it was charged {format_credits(cost)} credits")


def _cost(charge: str | None, *, release: bool) -> int | None:
    if release == (charge is not None):
        raise ConfigError("say either --charge CREDITS or --release")
    try:
        return None if charge is None else parse_credits(charge)
    except ValueError as exc:
        raise ConfigError(f"--charge: {exc}") from None


def _list_unknown(tenant: str | None, *, as_json: bool) -> None:
    doubts = [d for d in _administer(lambda admin: admin.unknown()) if tenant in {None, d.job.tenant}]
    if as_json:
        result_json([_doubt_json(doubt) for doubt in doubts])
    else:
        table(UNKNOWN_HEADERS, [_unknown_row(doubt) for doubt in doubts])


def _administer(work: Callable[[JobAdmin], Awaitable[T]]) -> T:
    async def run(client: RedisClient) -> T:
        scripts, library = Scripts(client, deadline_s=DEADLINE_S), load_scripts()
        declared = await RedisTenants(client, scripts, library).rules()
        policy = Policy() if declared is None else declared.policy
        ledger = RedisLedger(scripts, library, lambda: policy, EpochGuard(client))
        doubts = RedisDoubts(client, scripts, library)
        return await work(JobAdmin(RedisSurvey(client, scripts, library), doubts, ledger))

    return with_store(run)


def _row(job: Job) -> Sequence[str]:
    cost = "" if job.cost is None else format_credits(job.cost)
    return (
        job.id, job.tenant, job.model, job.state, moment(job.created_ms), _held(job), cost,
        job.upstream_id or "", job.error or "",
    )  # fmt: skip


def _labels(job: Job) -> dict[str, str]:
    return {f"label {name}": value for name, value in job.labels.items()}


def _held(job: Job) -> str:
    """Write what is still held: nothing for a job that has ended."""
    return format_credits(0 if job.state.terminal else job.hold)


def _unknown_row(doubt: Doubt) -> Sequence[str]:
    job = doubt.job
    return (
        job.id, job.tenant, job.model, moment(job.created_ms), format_credits(job.hold), moment(doubt.looked_ms),
        moment(doubt.readable_ms, "not readable" if doubt.looked_ms is not None else ""), job.error or "",
    )  # fmt: skip


def _job_json(job: Job) -> dict[str, object]:
    return {
        "id": job.id,
        "tenant": job.tenant,
        "key": job.key_id,
        "model": job.model,
        "state": job.state,
        "status": job.status,
        "created": moment(job.created_ms),
        "finished": None if job.finished_ms is None else moment(job.finished_ms),
        "held": _held(job),
        "cost": None if job.cost is None else format_credits(job.cost),
        "upstream_id": job.upstream_id,
        "upstream_key": job.upstream_key,
        "reason": job.error or None,
        "labels": dict(job.labels),
    }


def _doubt_json(doubt: Doubt) -> dict[str, object]:
    return {
        **_job_json(doubt.job),
        "looked_up": None if doubt.looked_ms is None else moment(doubt.looked_ms),
        "history_readable_since": None if doubt.readable_ms is None else moment(doubt.readable_ms),
    }
