from __future__ import annotations

import asyncio
import json
from collections.abc import Callable

import pytest
from support.ledger import Store, admission, open_store
from typer.testing import Result

from gateway.core.job import JobState, new_job_id
from gateway.store.readiness import ensure_epoch

Gateway = Callable[..., Result]


@pytest.fixture
def jobs(redis_url: str) -> dict[str, str]:
    """Put jobs on record; return the id of each by what became of it."""

    async def make(store: Store, tenant: str, *names: str) -> dict[str, str]:
        caller = await store.caller(tenant)
        requests = {name: admission(caller) for name in names}
        for name, request in requests.items():
            await store.ledger.admit(request)
            if name.startswith("unknown"):
                await store.ledger.doubt(tenant, request.job_id, "reset by the vendor")
            if name == "running":
                await store.ledger.accept(tenant, request.job_id, "vendor-1")
        return {name: request.job_id for name, request in requests.items()}

    async def run() -> dict[str, str]:
        async with open_store(redis_url) as store:
            await ensure_epoch(store.client)
            return await make(store, "team", "unknown", "sending", "running") | await make(store, "b", "unknown, of b")

    return asyncio.run(run())


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--unknown"], {"unknown", "unknown, of b"}),
        (["--unknown", "--tenant", "team"], {"unknown"}),
        (["--state", "unknown"], {"unknown", "unknown, of b"}),
        (["--state", "ACCEPTED"], {"running"}),
        (["--tenant", "team"], {"unknown", "sending", "running"}),
        (["--tenant", "nobody"], set()),
        ([], {"unknown", "sending", "running", "unknown, of b"}),
        (["--limit", "1"], {"unknown, of b"}),
    ],
)
def test_which_jobs_are_listed(gateway: Gateway, jobs: dict[str, str], words: list[str], expected: set[str]) -> None:
    """Jobs of all tenants are listed, those that are wanted alone; as a table and as JSON the same ones."""
    told = json.loads(gateway("jobs", *words, "--json").stdout)
    assert {row["id"] for row in told} == {jobs[name] for name in expected}
    rows = gateway("jobs", *words).stdout.splitlines()[1:]
    assert [row.split()[0] for row in rows] == [row["id"] for row in told]


def test_what_is_told_of_a_job(gateway: Gateway, jobs: dict[str, str]) -> None:
    """An UNKNOWN job is told with the reason, what is held, and how far the search for it got."""
    (told,) = json.loads(gateway("jobs", "--unknown", "--tenant", "team", "--json").stdout)
    shown = {name: told[name] for name in ("tenant", "model", "state", "held", "reason", "looked_up")}
    assert shown == {
        "tenant": "team", "model": "kling-2.6", "state": "UNKNOWN", "held": "1", "reason": "reset by the vendor",
        "looked_up": None,
    }  # fmt: skip


def test_a_job_is_found_by_its_id(gateway: Gateway, jobs: dict[str, str]) -> None:
    """The id that a tenant or a log line names is enough to look a job up, as lines and as JSON."""
    told = json.loads(gateway("jobs", "show", jobs["running"], "--json").stdout)
    assert (told["id"], told["tenant"], told["state"], told["upstream_id"]) == (
        jobs["running"], "team", "ACCEPTED", "vendor-1",
    )  # fmt: skip
    shown = dict(line.split(":", 1) for line in gateway("jobs", "show", jobs["running"]).stdout.splitlines())
    assert (shown["tenant"].strip(), shown["vendor id"].strip()) == ("team", "vendor-1")
    missing = gateway("jobs", "show", new_job_id())
    assert (missing.exit_code, missing.stdout) == (1, "")
    assert "there is no job" in missing.stderr


@pytest.mark.parametrize(
    ("name", "words", "told"),
    [
        ("unknown", ["--charge", "0.75"], (JobState.EXPIRED, "0.75")),
        ("unknown, of b", ["--release", "--reason", "not on the bill"], (JobState.REJECTED, None)),
        ("running", ["--running", "--charge", "0"], (JobState.EXPIRED, "0")),
        ("running", ["--running", "--release"], (JobState.FAILED, None)),
    ],
)
def test_resolve(
    gateway: Gateway, jobs: dict[str, str], name: str, words: list[str], told: tuple[str, str | None]
) -> None:
    """An operator ends a job by what it cost, or at no charge; a second time is refused."""
    done = gateway("jobs", "resolve", jobs[name], *words)
    assert (done.exit_code, done.stdout) == (0, "")
    (row,) = [row for row in json.loads(gateway("jobs", "--json").stdout) if row["id"] == jobs[name]]
    assert (row["state"], row["cost"], row["held"]) == (*told, "0")
    assert "by an operator: " in row["reason"]
    again = gateway("jobs", "resolve", jobs[name], *words)
    assert again.exit_code == 1
    assert "has ended" in again.stderr


@pytest.mark.parametrize(
    ("name", "words", "code"),
    [
        ("unknown", [], 2),
        ("unknown", ["--charge", "1", "--release"], 2),
        ("unknown", ["--charge", "-1"], 2),
        ("unknown", ["--charge", "NaN"], 2),
        ("unknown", ["--release", "--reason", "a\nb"], 2),
        ("sending", ["--release"], 1),
        ("running", ["--release"], 1),
        ("running", ["--charge", "1"], 1),
        ("nobody's", ["--release"], 1),
    ],
)
def test_what_can_not_be_resolved(
    gateway: Gateway, jobs: dict[str, str], name: str, words: list[str], code: int
) -> None:
    """A mistake is one line on standard error and changes nothing."""
    before = gateway("jobs", "--json").stdout
    failed = gateway("jobs", "resolve", jobs.get(name, new_job_id()), *words)
    assert (failed.exit_code, failed.stdout, len(failed.stderr.splitlines())) == (code, "", 1)
    assert gateway("jobs", "--json").stdout == before
