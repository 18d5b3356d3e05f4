from __future__ import annotations

import io
from pathlib import Path

import httpx
import pytest
from redis.asyncio import Redis
from support.gateway import DEADLINE_S, PROMPT, TIME_SCALE, settings_for
from support.ledger import audited
from support.vendor import KEY, KLING
from upgrade.kept import BASE, FOLDER, read, restore

from gateway.cli.serve import serving
from gateway.sandbox import SandboxSettings
from gateway.sandbox.server import running

VERSIONS = sorted(FOLDER.glob("*.json"))


@pytest.mark.parametrize("version", VERSIONS, ids=lambda path: path.stem)
async def test_data_of_an_older_version_is_read_and_goes_on(redis_url: str, version: Path) -> None:
    """Its keys, jobs, results, idempotency keys and ledger are good: all reads as then, and new jobs can be added."""
    kept = read(version)
    async with (
        Redis.from_url(redis_url) as client,
        running(SandboxSettings(api_keys=(KEY,), time_scale=TIME_SCALE)) as vendor,
    ):
        await restore(kept, client)
        # No tracker: it would end the job of unknown outcome, of which this sandbox has never heard.
        async with serving(settings_for(redis_url, vendor.url, role="api"), io.BytesIO()) as served:
            http = httpx.AsyncClient(
                base_url=served.url, headers={"x-api-key": kept.key}, trust_env=False, timeout=DEADLINE_S
            )
            async with http:
                found = {path: await http.get(path) for path in kept.answers}
                told = {
                    path: (answer.status_code, answer.text.replace(served.url, BASE)) for path, answer in found.items()
                }
                again = await http.post(f"/v2/{KLING}", json=PROMPT, headers={"idempotency-key": kept.idempotency_key})
                fresh = await http.post(f"/v2/{KLING}", json=PROMPT)
        assert told == {path: tuple(answer) for path, answer in kept.answers.items()}
        assert (again.json()["request_id"], again.headers["idempotent-replayed"]) == (kept.replayed, "true")
        assert (fresh.status_code, len(vendor.sandbox.accepted)) == (200, 1)
        assert await audited(client) == []
