"""Running jobs: the vendor forgets them, or the company's key changes under them."""

from __future__ import annotations

import io
from pathlib import Path

from support.gateway import eventually, gateway_on, settings_for
from support.vendor import KEY, KLING

from gateway.cli.serve import serving
from gateway.core.job import JobState
from gateway.core.tenant import Secret
from gateway.sandbox import Fault

NEW = "SG_00000000000000bb"


async def test_r19_a_denied_job_is_not_given_up_at_the_first_word(redis_url: str) -> None:
    """In the first minute 404s change nothing: the job goes on, is charged what it cost, and has its result."""
    async with gateway_on(redis_url) as gateway:
        gateway.vendor.sandbox.faults.add(Fault(action="not_found", on=("status",), times=2))
        job = await gateway.ended((await gateway.post()).json()["request_id"])
        assert (job.state, job.has_result, job.missing_ms) == (JobState.COMPLETED, True, None)
        assert await gateway.money() == (gateway.billed_nano(), 0)


async def test_r29_the_key_is_rotated_while_jobs_run(redis_url: str, tmp_path: Path) -> None:
    """New jobs go with the new key; one that runs is polled with its own, and without that one with the new one."""
    path = tmp_path / "key"
    path.write_text(KEY)
    async with gateway_on(redis_url, api_keys=(KEY, NEW), segmind_api_key=None, segmind_api_key_file=path) as gateway:
        sandbox = gateway.vendor.sandbox
        sandbox.faults.add(Fault(action="outcome", outcome="PROCESSING", times=1))
        running = (await gateway.post()).json()["request_id"]
        (tmp_path / "new").write_text(f"{NEW}\n{KEY}\n")
        (tmp_path / "new").replace(path)
        await gateway.ended((await gateway.post()).json()["request_id"])

        def keys_of(method: str, upstream_id: str) -> list[str]:
            calls = [call for call in sandbox.calls if call.method == method and upstream_id in call.path]
            return [value.decode() for call in calls for name, value in call.headers if name.lower() == b"x-api-key"]

        first, second = (str(job["request_id"]) for job in gateway.accepted())
        assert keys_of("POST", KLING) == [KEY, NEW]
        assert set(keys_of("GET", second)) == {NEW}

        async def polled() -> bool:
            return bool(keys_of("GET", first))

        await eventually(polled)
        assert set(keys_of("GET", first)) == {KEY}

        async with serving(settings_for(redis_url, gateway.vendor.url, segmind_api_key=Secret(NEW)), io.BytesIO()):
            gateway.end_all()
            job = await gateway.ended(running)
        assert job.state is JobState.COMPLETED
        assert await gateway.alerts("upstream.auth_failed") == 0
