"""`gateway reconcile` beside a running gateway: what agrees, what went around it, what can't be read."""

from __future__ import annotations

import json

import httpx
from support.commands import reconcile
from support.gateway import PROMPT, TENANT, Gateway, eventually
from support.vendor import KEY, KLING
from typer.testing import Result

from gateway.sandbox import Fault


async def test_the_command(gateway: Gateway, redis_url: str) -> None:
    """0 where both sides agree; 1 with the rows where not; what an operator has charged agrees from then on."""
    for _ in range(3):
        await gateway.ended((await gateway.post()).json()["request_id"])
    fine = await reconcile(gateway, redis_url)
    assert (fine.exit_code, len(fine.stdout.splitlines())) == (0, 1)
    assert "3 matched" in fine.stderr

    async with httpx.AsyncClient(base_url=gateway.vendor.url, headers={"x-api-key": KEY}, trust_env=False) as around:
        assert (await around.post(f"/v2/{KLING}", json=PROMPT)).status_code == 200
    gateway.end_all()

    async def seen() -> Result | None:
        found = await reconcile(gateway, redis_url, "--json")
        return found if found.exit_code == 1 else None

    told = json.loads((await eventually(seen)).stdout)
    (strange,) = [row for row in told["rows"] if row["what"] == "only_theirs"]
    assert (told["agrees"], told["drift"], told["counts"]["matched"]) == (False, strange["theirs"], 3)

    refused = await reconcile(gateway, redis_url, "--adopt", TENANT, answer="n\n")
    assert (refused.exit_code, "1 adjusting entries" in refused.stderr) == (1, True)
    spent, _ = await gateway.money()
    assert (await reconcile(gateway, redis_url, "--adopt", "nobody", "--yes")).exit_code == 1
    assert (await gateway.money())[0] == spent
    adopted = await reconcile(gateway, redis_url, "--adopt", TENANT, "--yes")
    assert (adopted.exit_code, "1 adjusting entries written" in adopted.stderr) == (0, True)
    assert (await gateway.money())[0] == gateway.billed_nano() > spent


async def test_a_history_that_can_not_be_read(gateway: Gateway, redis_url: str) -> None:
    """Exit code 2 and a sentence; nothing is called missing."""
    await gateway.ended((await gateway.post()).json()["request_id"])
    gateway.vendor.sandbox.faults.add(Fault(action="respond", status=502, on=("history",)))
    failed = await reconcile(gateway, redis_url, "--adjust", "--yes")
    assert (failed.exit_code, failed.stdout) == (2, "")
    assert "could not read" in failed.stderr
