"""The shell scripts in the chart's pods, run as they are rendered."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from chart.release import Rendered
from redis.asyncio import Redis
from support.gateway import eventually, gateway_on

COMMANDS = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
PASSWORD = "0123abcd"


@asynccontextmanager
async def run(script: str, folder: Path, **variables: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run a script until the block ends."""
    process = await asyncio.create_subprocess_exec(
        *("/bin/sh", "-euc", script),
        cwd=folder,
        env={"PATH": COMMANDS, "HOME": str(folder)} | variables,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
            await process.wait()


async def test_bundled_valkey_keeps_what_it_is_told(rendered: Callable[[str], Rendered], tmp_path: Path) -> None:
    """The bundled server asks for the Secret's password, never evicts, and has each write on disk when it answers."""
    pod = rendered("small").one("StatefulSet")["spec"]["template"]["spec"]
    (script,) = pod["containers"][0]["args"]
    assert "dir /data" in script
    local = script.replace("dir /data", f"dir {tmp_path}\nport 0\nunixsocket {tmp_path}/valkey.sock")
    async with run(local, tmp_path, VALKEY_PASSWORD=PASSWORD):
        await eventually(lambda: asyncio.to_thread((tmp_path / "valkey.sock").exists))
        async with Redis(unix_socket_path=f"{tmp_path}/valkey.sock", password=PASSWORD) as client:
            found = await client.config_get("append*", "maxmemory-policy", "requirepass")
        wanted = {
            "appendonly": "yes",
            "appendfsync": "always",
            "maxmemory-policy": "noeviction",
            "requirepass": PASSWORD,
        }
        assert wanted.items() <= found.items()


async def test_helm_test_quotes(redis_url: str, rendered: Callable[[str], Rendered], tmp_path: Path) -> None:
    """`helm test` makes a key that expires, and shows a quote for it; nothing is held."""
    (script,) = rendered("small").one("Pod")["spec"]["containers"][0]["args"]
    service = "http://gw-segmind-gateway-serve:8080"
    assert service in script
    async with gateway_on(redis_url) as gateway:
        async with run(script.replace(service, gateway.url), tmp_path, GATEWAY_REDIS_URL=redis_url) as process:
            said, _ = await process.communicate()
        assert json.loads(said)["admitted"] is True
        assert await gateway.money() == (0, 0)
