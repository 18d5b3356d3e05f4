"""A process that lives but hangs: the supervisor of several replaces it; of one, /healthz tells who watches over it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import httpx
import pytest
import structlog
from structlog.testing import LogCapture
from support.fleet import Fleet, fleet_on, runs
from support.gateway import DEADLINE_S, eventually, gateway_on

from gateway.cli.board import Board
from gateway.cli.listening import listen
from gateway.cli.workers import Supervisor
from gateway.config import Settings

LOOKS = 3
"""Instead of 30. What is too hasty on a busy machine ends a worker that is well, which is replaced all the same."""


@pytest.fixture
async def fleet(redis_url: str, tmp_path: Path) -> AsyncIterator[Fleet]:
    """Give a store and a vendor for processes of the test's own."""
    async with fleet_on(redis_url, tmp_path, time_scale=600.0) as ready:
        yield ready


async def test_a_worker_that_hangs_is_killed_and_replaced(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """A worker that is stopped is killed after some silence, told of, counted, and replaced by one that serves."""
    for name, value in fleet.env.items():
        monkeypatch.setenv(name, value)
    board, log, output, settings = Board(1), LogCapture(), list[str](), Settings.from_env(fleet.env)
    listener, url = listen(settings)
    logger = structlog.wrap_logger(None, [log], structlog.make_filtering_bound_logger("info"))
    supervisor = Supervisor(settings, listener, board, logger, looks=LOOKS)

    async def workers(count: int) -> list[int]:
        output.append(capfd.readouterr().out)
        lines = [json.loads(line) for line in "".join(output).splitlines() if line.endswith("}")]
        pids = [line["pid"] for line in lines if line["event"] == "worker.started"]
        return pids if len(pids) >= count else []

    supervising = asyncio.create_task(supervisor.run(lambda: None))
    try:
        (hung,) = await eventually(lambda: workers(1))
        os.kill(hung, signal.SIGSTOP)
        await eventually(lambda: workers(2))
        assert not runs(hung)
        assert {"worker": 0, "pid": hung, "event": "worker.hung", "log_level": "error"} in log.entries
        assert b"gateway_worker_deaths_total 0.0" not in await asyncio.to_thread(board.render)
        assert (await fleet.http.get(f"{url}/v1/models")).status_code == 200
    finally:
        supervisor.stop()
        code = await asyncio.wait_for(supervising, DEADLINE_S)
    assert code == 0


async def test_health_fails_while_the_loop_hangs(redis_url: str) -> None:
    """While nothing else runs in a gateway's event loop /healthz says so, and the process is well again afterwards."""
    async with gateway_on(redis_url, looks=LOOKS) as gateway:
        health = f"{gateway.ops_url}/healthz"
        assert (await gateway.http.get(health)).status_code == 200
        with closing(httpx.Client(trust_env=False, timeout=DEADLINE_S)) as blocking:
            while (answer := blocking.get(health)).status_code == 200:
                pass
        assert (answer.status_code, answer.json()) == (503, {"status": "hung"})
        await eventually(lambda: _is_well(gateway.http, health))


async def _is_well(http: httpx.AsyncClient, health: str) -> bool:
    return (await http.get(health)).status_code == httpx.codes.OK
