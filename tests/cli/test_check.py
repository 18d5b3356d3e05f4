"""`gateway check` on a real store and the sandbox."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from support.ledger import open_store
from support.vendor import KEY
from typer.testing import Result

from gateway.sandbox import SandboxSettings
from gateway.sandbox.server import running
from gateway.store.connect import RedisClient
from gateway.store.readiness import ensure_epoch, note_rewound

Findings = dict[str, tuple[str, str]]
Check = Callable[..., Coroutine[Any, Any, tuple[int, Findings]]]


@pytest.fixture
async def check(gateway: Callable[..., Result], redis_url: str) -> AsyncIterator[Check]:
    """Run ``gateway check --json`` where all is well but for some variables: exit code, level and text by check."""
    async with running(SandboxSettings(api_keys=(KEY,))) as vendor, open_store(redis_url) as store:
        await ensure_epoch(store.client)
        well = {"SEGMIND_API_KEY": KEY, "GATEWAY_UPSTREAM_URL": vendor.url}

        async def run(**env: str) -> tuple[int, Findings]:
            result = await asyncio.to_thread(gateway, "check", "--json", **well | env)
            said = json.loads(result.stdout)
            assert said["ok"] is (result.exit_code == 0)
            return result.exit_code, {f["check"]: (f["level"], f"{f['detail']}; {f['todo']}") for f in said["findings"]}

        yield run


async def test_all_is_well(check: Check) -> None:
    """Settings, store, clock and upstream are each found good, with exit code 0."""
    code, found = await check()
    assert code == 0
    assert {name: level for name, (level, _) in found.items()} == dict.fromkeys(
        ("settings", "redis", "clock", "upstream"), "ok"
    )
    assert "1000 credits left" in found["upstream"][1]


@pytest.mark.parametrize(
    ("env", "code", "finding"),
    [
        ({"GATEWAY_REDSI_URL": "x"}, 0, ("settings", "warn", "means nothing; did you mean GATEWAY_REDIS_URL?")),
        ({"GATEWAY_ADMIN_PORT": "8091"}, 0, ("settings", "warn", "has no effect; this version has no control plane")),
        ({"GATEWAY_PORT": "http"}, 1, ("settings", "fail", "GATEWAY_PORT: ")),
        ({"SEGMIND_API_KEY": "SG_ffffffffffffffff"}, 1, ("upstream", "fail", "is SEGMIND_API_KEY right?")),
        ({"SEGMIND_API_KEY": ""}, 1, ("upstream", "fail", "SEGMIND_API_KEY: set it")),
        ({"GATEWAY_UPSTREAM_URL": "http://127.0.0.1:1"}, 1, ("upstream", "fail", "is GATEWAY_UPSTREAM_URL right")),
        ({"GATEWAY_REDIS_URL": "redis://127.0.0.1:1"}, 1, ("redis", "fail", "is it running")),
        ({"GATEWAY_REDIS_URL": "bogus://x"}, 1, ("settings", "fail", "GATEWAY_REDIS_URL: ")),
    ],
)
async def test_what_is_wrong(check: Check, env: dict[str, str], code: int, finding: tuple[str, str, str]) -> None:
    """Each thing that is wrong is found, with what to do about it; a warning alone does not fail."""
    name, level, text = finding
    ended, found = await check(**env)
    assert (ended, found[name][0]) == (code, level)
    assert text in found[name][1]


async def test_a_store_that_is_no_ledger(check: Check, redis_url: str) -> None:
    """An empty Redis fails the check."""
    async with open_store(redis_url) as store:
        await store.client.flushall()
    code, _ = await check()
    assert code == 1


async def test_an_embedded_store_that_does_not_start(check: Check, tmp_path: Path) -> None:
    """Where the store's own log says why, an operator is sent there."""
    (tmp_path / "appendonlydir").mkdir()
    (tmp_path / "appendonlydir" / "appendonly.aof.manifest").write_text("damaged\n")
    code, found = await check(GATEWAY_REDIS_URL="", GATEWAY_DATA_DIR=str(tmp_path))
    assert (code, found["redis"][0]) == (1, "fail")
    assert f"did not start; {tmp_path}/valkey.log says why" in found["redis"][1]


async def test_lines_for_people(gateway: Callable[..., Result]) -> None:
    """Without --json: a line for each finding, beginning with its level."""
    result = await asyncio.to_thread(gateway, "check", SEGMIND_API_KEY="")
    assert result.exit_code == 1
    assert {line.split()[0] for line in result.stdout.splitlines()} == {"ok", "fail"}


async def test_a_store_that_went_back(gateway: Callable[..., Result], redis: RedisClient) -> None:
    """A ledger that a process saw go back is a warning with what to do, for as long as the store remembers."""
    await note_rewound(redis, "the ledger went back, of one")
    lines = (await asyncio.to_thread(gateway, "check", SEGMIND_API_KEY="")).stdout.splitlines()
    (said,) = [line for line in lines if "went back" in line]
    assert said.startswith("warn  redis")
    assert said.endswith("the ledger went back, of one; run `gateway reconcile`")
