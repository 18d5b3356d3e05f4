"""The sandbox as a process of its own, and its oracle."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from support.vendor import KEY, KLING

from gateway.sandbox import Fault, SandboxSettings
from gateway.sandbox.server import running

PROGRAM = f"from gateway.sandbox import SandboxSettings, server; server.serve(SandboxSettings(api_keys=('{KEY}',)))"


def test_serve_announces_its_port_and_resets_connections() -> None:
    """`serve` prints the URL of the free port it took, resets and hangs (uvloop), ends on SIGTERM, logs nothing."""
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout
            assert process.stderr
            url = process.stdout.readline().split()[-1]
            with httpx.Client(base_url=url, headers={"x-api-key": KEY}, trust_env=False) as http:
                faults = [{"action": "drop", "times": 1, "after": True}, {"action": "hang", "on": ["credits"]}]
                http.patch("/_sandbox/knobs", json={"faults": faults}).raise_for_status()
                with pytest.raises(httpx.ReadError, match="reset by peer"):
                    http.post(f"/v2/{KLING}", json={"prompt": "x"})
                assert len(http.get("/_sandbox/accepted").json()) == 1
                with pytest.raises(httpx.ReadTimeout):
                    http.get("/v1/get-user-credits", timeout=0.2)
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=10) in {0, -signal.SIGTERM}
            assert not process.stderr.read()
        finally:
            process.kill()


async def test_oracle_has_the_job_even_if_the_answer_is_lost(tmp_path: Path) -> None:
    """Each accepted POST is one line of the record, answered or not; refused ones leave none."""
    record = tmp_path / "accepted.jsonl"
    async with (
        running(SandboxSettings(api_keys=(KEY,), record_path=record)) as vendor,
        httpx.AsyncClient(base_url=vendor.url, headers={"x-api-key": KEY}, trust_env=False) as http,
    ):
        assert (await http.post(f"/v2/{KLING}", content="{}")).status_code == 406
        vendor.sandbox.faults.add(Fault(action="drop", after=True))
        for prompt in ("two", 3):
            with pytest.raises(httpx.ReadError):
                await http.post(f"/v2/{KLING}", json={"prompt": prompt})
    lines = [json.loads(line) for line in record.read_text().splitlines()]
    assert [line["body"]["prompt"] for line in lines] == ["two", 3]
    assert [line["billed"] == line["cost"] for line in lines] == [True, False]
    assert all(line["key"] == KEY and line["model"] == KLING and line["submitted_at"] for line in lines)
