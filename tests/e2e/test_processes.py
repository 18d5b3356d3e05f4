"""The commands as real processes: what they print, how they end, and that they leave nothing behind."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from support.commands import command, line_with, serve_env, tenant_key
from support.gateway import DEADLINE_S, PROMPT, eventually
from support.vendor import KEY, KLING

from gateway.sandbox import SandboxSettings
from gateway.sandbox.server import Running, running
from gateway.store.embedded import until_ended


async def finished(*words: str, **env: str) -> tuple[int | None, str, str]:
    """Run a command to its end; return exit code, standard output and standard error."""
    async with command(*words, **env) as process:
        output, errors = await asyncio.wait_for(process.communicate(), DEADLINE_S)
        return process.returncode, output.decode(), errors.decode()


@pytest.fixture
async def vendor() -> AsyncIterator[Running]:
    """Run a sandbox by the real clock."""
    async with running(SandboxSettings(api_keys=(KEY,), time_scale=600)) as handle:
        yield handle


def left_in(directory: Path) -> list[Path]:
    """List what is left in a directory."""
    return list(directory.iterdir())


async def test_sigkill(vendor: Running, tmp_path: Path) -> None:
    """SIGKILL leaves no Valkey behind; the next start goes on with the data: the job, its vendor id and its hold."""
    key = await tenant_key(tmp_path)
    async with command("serve", **serve_env(vendor, tmp_path)) as process:
        url = await line_with(process, r'"gateway.started","url":"([^"]+)"')
        async with httpx.AsyncClient(base_url=url, headers={"x-api-key": key}, trust_env=False) as http:
            job_id = (await http.post(f"/v2/{KLING}", json=PROMPT)).json()["request_id"]
        process.kill()
        await process.wait()
    await until_ended(tmp_path)
    async with command("serve", **serve_env(vendor, tmp_path)) as process:
        url = await line_with(process, r'"gateway.started","url":"([^"]+)"')
        async with httpx.AsyncClient(base_url=url, headers={"x-api-key": key}, trust_env=False) as http:
            said = await http.get(f"/v2/requests/{job_id}/status")
        assert (said.status_code, said.json()["status"]) == (200, "QUEUED")
        assert said.headers["x-credits-held"] == "0.9415"
        assert said.headers["x-upstream-request-id"] == vendor.sandbox.accepted[0]["request_id"]
        process.terminate()
        assert await asyncio.wait_for(process.wait(), DEADLINE_S) == 0
    assert len(vendor.sandbox.accepted) == 1


async def _answers(http: httpx.AsyncClient, url: str, status: int) -> bool:
    return (await http.get(url)).status_code == status


async def _reached(vendor: Running, count: int) -> bool:
    return len(vendor.sandbox.calls) >= count


async def test_a_command_first(vendor: Running, tmp_path: Path) -> None:
    """A command that comes before the first start makes the same store: the start after it is ready."""
    env = serve_env(vendor, tmp_path)
    assert (await finished("tenant", "list", **env))[0] == 0
    async with command("serve", **env) as process, httpx.AsyncClient(trust_env=False) as http:
        ops_port = await line_with(process, r'"ops_port":([0-9]+)')
        assert await eventually(lambda: _answers(http, f"http://127.0.0.1:{ops_port}/readyz", 200))


async def test_demo(tmp_path: Path) -> None:
    """`gateway demo` shows the states, cost, budget and upstream calls of one job, plain in a pipe; leaves nothing."""
    code, output, errors = await finished("demo", TMPDIR=str(tmp_path), HTTP_PROXY="http://127.0.0.1:1")
    assert (code, errors) == (0, "")
    states = re.findall(r"^ +[0-9.]+ s  (\w+)$", output, re.MULTILINE)
    assert states == ["QUEUED", "PROCESSING", "COMPLETED"]
    calls = re.findall(rf"(submit|status|result) +200 ok +[0-9.]+ ms +0.9415 .* {KLING} +(\S+) +(\S+)", output)
    assert [calls[0][0], calls[-1][0]] == ["submit", "result"]
    assert len({(job_id, vendor_id) for _, job_id, vendor_id in calls}) == 1
    cost = re.search(r"cost +([0-9.]+) credits", output)
    before, after = re.findall(r"budget +([0-9.]+) before, ([0-9.]+) after", output)[0]
    assert cost
    assert round(float(before) - float(after), 9) == round(float(cost[1]), 9)
    assert "\x1b" not in output
    assert not left_in(tmp_path)


async def test_demo_interrupted(tmp_path: Path) -> None:
    """Ctrl-C ends the demo, its servers and its store."""
    async with command("demo", TMPDIR=str(tmp_path), PYTHONUNBUFFERED="1") as process:
        await line_with(process, "(QUEUED)")
        process.send_signal(signal.SIGINT)
        assert await asyncio.wait_for(process.wait(), DEADLINE_S) == 130
    assert not left_in(tmp_path)


async def test_demo_without_the_sdk(tmp_path: Path) -> None:
    """Without the `demo` extra, the demo says what to install and ends with 2."""
    (tmp_path / "segmind.py").write_text("raise ModuleNotFoundError('segmind')")
    code, output, errors = await finished("demo", PYTHONPATH=str(tmp_path))
    assert (code, output) == (2, "")
    assert "pip install 'segmind-gateway[demo]'" in errors


async def test_dev(tmp_path: Path) -> None:
    """`gateway dev` prints commands that work as pasted, goes on with its data, and gives way where a port is taken."""
    env = {"GATEWAY_DATA_DIR": str(tmp_path / "data"), "GATEWAY_OPS_PORT": "0"}
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    taken = str(server.sockets[0].getsockname()[1])
    async with server, command("dev", "--time-scale", "600", GATEWAY_PORT=taken, **env) as process:
        assert process.stdout
        key = await line_with(process, r"^  API key +(sgw_demo_\S+)$")
        pasted = [(await process.stdout.readline()).decode() for _ in range(10)]
        shell = await asyncio.create_subprocess_exec(
            "bash", "-eu", stdin=PIPE, stdout=PIPE, env={"PATH": os.environ["PATH"]}
        )
        output, _ = await shell.communicate("".join(line for line in pasted if line.startswith("  ")).encode())
        said = [json.loads(line) for line in output.splitlines()]
        process.send_signal(signal.SIGINT)
        assert await asyncio.wait_for(process.wait(), DEADLINE_S) == 0
        assert process.stderr
        assert f"port {taken} (GATEWAY_PORT) is taken" in (await process.stderr.read()).decode()
    assert [one.get("status") for one in said] == ["QUEUED", "QUEUED", None]
    assert said[2]["credits"] == 49.0585
    await until_ended(tmp_path / "data")
    async with command("dev", GATEWAY_PORT="0", **env) as process:
        url = await line_with(process, r"^  tenant API +(\S+)$")
        async with httpx.AsyncClient(headers={"x-api-key": key}, trust_env=False) as http:
            again = await http.get(f"{url}/v2/requests/{said[0]['request_id']}")
        assert again.status_code != 404
        process.send_signal(signal.SIGINT)
        assert await asyncio.wait_for(process.wait(), DEADLINE_S) == 0


async def test_dev_refuses_a_real_ledger(tmp_path: Path) -> None:
    """`gateway dev` does not touch a data directory that holds jobs of the real vendor."""
    await tenant_key(tmp_path)
    await until_ended(tmp_path)
    code, _, errors = await finished("dev", GATEWAY_DATA_DIR=str(tmp_path))
    assert (code, "holds a ledger that is not a sandbox's" in errors) == (2, True)


async def test_serve_refuses_a_sandboxs_ledger(tmp_path: Path) -> None:
    """`gateway serve` does not ask the real vendor about jobs that ran on a sandbox."""
    (tmp_path / "sandbox").touch()
    code, _, errors = await finished("serve", GATEWAY_DATA_DIR=str(tmp_path), SEGMIND_API_KEY=KEY)
    assert (code, "its jobs ran on a sandbox" in errors) == (2, True)


async def test_sandbox(tmp_path: Path) -> None:
    """`gateway sandbox` announces its URL, keeps its record, and takes knobs while it runs."""
    words = ("sandbox", "--port", "0", "--seed", "7", "--api-key", KEY, "--record", str(tmp_path / "accepted.jsonl"))
    async with command(*words) as process:
        url = await line_with(process, r"Fake Segmind on (\S+),")
        async with httpx.AsyncClient(base_url=url, headers={"x-api-key": KEY}, trust_env=False) as http:
            await http.patch("/_sandbox/knobs", json={"balance": "0"})
            poor = await http.post(f"/v2/{KLING}", json=PROMPT)
            await http.post("/_sandbox/reset")
            assert (poor.status_code, (await http.post(f"/v2/{KLING}", json=PROMPT)).status_code) == (406, 200)
        process.send_signal(signal.SIGINT)
        assert await asyncio.wait_for(process.wait(), DEADLINE_S) == 0
    assert len((tmp_path / "accepted.jsonl").read_text().splitlines()) == 1


async def test_sandbox_mistakes() -> None:
    """A wrong option is told in its own words, with exit code 2."""
    code, _, errors = await finished("sandbox", "--api-key", "x")
    assert (code, errors) == (2, "api_keys: each key is SG_ and 16 lower-case hex digits\n")
