from __future__ import annotations

import asyncio
import csv
import json
from collections.abc import Callable

import pytest
from support.ledger import admission, open_store
from typer.testing import Result

from gateway.store import keys
from gateway.store.readiness import ensure_epoch

Gateway = Callable[..., Result]


@pytest.fixture
def applied(gateway: Gateway, redis_url: str) -> Gateway:
    """Run the command line on a store with two tenants and a job of each."""

    async def run() -> None:
        async with open_store(redis_url) as store:
            await ensure_epoch(store.client)
            for tenant in ("team", "b"):
                await store.ledger.admit(admission(await store.caller(tenant)))

    asyncio.run(run())
    return gateway


def tamper(url: str) -> None:
    """Change a counter of one tenant by hand."""

    async def run() -> None:
        async with open_store(url) as store:
            await store.client.hincrby(keys.budget("b"), "total:spent", 1)

    asyncio.run(run())


def test_verify(applied: Gateway, redis_url: str) -> None:
    """A ledger that agrees is exit code 0; what differs is listed with both figures, and is exit code 1."""
    fine = applied("ledger", "verify")
    assert (fine.exit_code, fine.stdout) == (0, "")
    assert "2 entries of 2 tenants replayed: everything agrees" in fine.stderr
    tamper(redis_url)
    off = applied("ledger", "verify")
    assert (off.exit_code, off.stdout.splitlines()[1].split()) == (1, ["b", "total:spent", "0", "1"])
    told = applied("ledger", "verify", "--json")
    assert told.exit_code == 1
    assert json.loads(told.stdout) == {
        "tenants": 2, "entries": 2,
        "differences": [{"tenant": "b", "what": "total:spent", "ledger": "0", "found": "1"}],
    }  # fmt: skip
    assert applied("ledger", "verify", "--tenant", "team").exit_code == 0


def test_export(applied: Gateway) -> None:
    """CSV with a header and NDJSON hold the same rows; with --after only those that are new, without a header."""
    lines = applied("ledger", "export").stdout.splitlines()
    rows = list(csv.DictReader(lines))
    assert [(row["tenant"], row["kind"], row["holding"], row["charged"]) for row in rows] == [
        ("team", "hold", "1", "0"),
        ("b", "hold", "1", "0"),
    ]
    told = [json.loads(line) for line in applied("ledger", "export", "--format", "ndjson").stdout.splitlines()]
    assert [row["id"] for row in told] == [row["id"] for row in rows]
    assert applied("ledger", "export", "--after", rows[0]["id"]).stdout.splitlines() == lines[2:]
    assert [
        row["tenant"] for row in csv.DictReader(applied("ledger", "export", "--tenant", "b").stdout.splitlines())
    ] == ["b"]
    assert applied("ledger", "export", "--after", "yesterday").exit_code == 1


@pytest.mark.parametrize("command", ["ledger verify", "ledger export", "usage"])
def test_a_tenant_that_is_not_there_is_a_mistake(applied: Gateway, command: str) -> None:
    """Nothing is told of a mistyped tenant, least of all that everything agrees."""
    said = applied(*command.split(), "--tenant", "teem")
    assert (said.exit_code, said.stderr.strip()) == (1, "there is no tenant 'teem'")
    assert "agrees" not in said.stdout
