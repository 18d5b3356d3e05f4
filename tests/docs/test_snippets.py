from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import pytest
from docs.snippets import script
from support.gateway import gateway_on
from support.vendor import KEY

PAGES = ("README.md", "docs/api.md", "docs/configuration.md")


@pytest.mark.parametrize("page", PAGES)
async def test_every_snippet_of_the_page_runs(redis_url: str, page: str, tmp_path: Path) -> None:
    """Each shell and Python block of the page, pasted in order, ends well against a gateway on the sandbox."""
    async with gateway_on(redis_url) as gateway:
        stand_ins = {
            "http://127.0.0.1:8080": gateway.url,
            "sgw_demo_...": gateway.key,
            "SG_...": KEY,
            "redis://redis:6379/0": redis_url,
        }
        process = await asyncio.create_subprocess_exec(
            *("bash", "-c", script(page, stand_ins)),
            cwd=tmp_path,
            env={
                "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
                "HOME": str(tmp_path),
                "NO_PROXY": "*",
                "GATEWAY_PORT": "0",
                "GATEWAY_OPS_PORT": "0",
                "GATEWAY_UPSTREAM_URL": gateway.vendor.url,
                "GATEWAY_HISTORY_URL": gateway.vendor.url,
                "GATEWAY_STORAGE_URL": gateway.vendor.url,
            },
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        try:
            said, _ = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
    assert process.returncode == 0, said.decode()
