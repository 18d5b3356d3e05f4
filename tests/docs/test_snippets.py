from __future__ import annotations

import asyncio
import os
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from docs.snippets import ROOT, blocks, script
from support.gateway import gateway_on
from support.vendor import KEY

from gateway.core.policy import Policy
from gateway.sandbox import Fault

PAGES = [str(path.relative_to(ROOT)) for name in ("*.md", "docs/*.md", "helm/*.md") for path in sorted(ROOT.glob(name))]
LOST = Fault(action="drop", on=("submit",), times=2)
NOBODY = "http://127.0.0.1:9/"
SHOWN = re.compile(r"\$ make ([a-z-]+)")
TARGETS = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)


@pytest.mark.parametrize("page", [page for page in PAGES if any(block.script() for block in blocks(page))])
async def test_every_snippet_of_the_page_runs(redis_url: str, page: str, tmp_path: Path) -> None:
    """Each shell and Python block of the page, pasted in order, ends well against a gateway on the sandbox."""
    options: dict[str, Any] = {"rules": Policy(unknown_after_s=86_400), "webhook_url": NOBODY}
    async with gateway_on(redis_url, **options) as gateway:
        done = (await gateway.ended((await gateway.post()).json()["request_id"])).id
        gateway.vendor.sandbox.faults.add(LOST)
        unknown = [(await gateway.post(body={"prompt": word})).json()["request_id"] for word in ("one", "two")]
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
                "GATEWAY": gateway.url,
                "KEY": gateway.key,
                "DONE": done,
                "JOB": unknown[0],
                "OTHER_JOB": unknown[1],
                "GATEWAY_REDIS_URL": redis_url,
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


@pytest.mark.parametrize("page", PAGES)
def test_consoles_show_make_targets_only(page: str) -> None:
    """What is shown with a prompt, and so not run here, is `make` with a target that exists: CI runs those."""
    shown = [line for block in blocks(page) if block.language == "console" for line in block.text.splitlines()]
    assert [line for line in shown if not (match := SHOWN.match(line)) or match[1] not in TARGETS] == []
