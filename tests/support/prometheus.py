"""Real Prometheus: its checker, and a server on loopback that ends with the test."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
import yaml
from support.gateway import eventually
from support.valkey import ends_with_us

ROOT = Path(__file__).resolve().parents[2]
RULES = ROOT / "helm" / "rules" / "gateway.yaml"
TIMEOUT_S = 60


def binary(name: str) -> str:
    """Return ``promtool`` or ``prometheus``: what `make tools` unpacked, else the system's; skip without either."""
    local = ROOT / ".tools" / "bin" / name
    found = str(local) if local.exists() else shutil.which(name)
    if found is None:
        pytest.skip(f"there is no {name}: `make tools` takes it from Debian's package, elsewhere install Prometheus")
    return found


def promtool(*arguments: str | Path, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run promtool and return what it printed; never raises for its exit status."""
    command = [binary("promtool"), *map(str, arguments)]
    return subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)


@asynccontextmanager
async def prometheus_on(directory: Path, targets: Sequence[str], *, interval: str) -> AsyncIterator[httpx.AsyncClient]:
    """Scrape some ops ports by the shipped rules until the block ends; yields a client of the server."""
    config = {
        "global": {"scrape_interval": interval, "scrape_timeout": interval, "evaluation_interval": interval},
        "rule_files": [str(RULES)],
        "scrape_configs": [{"job_name": "gateway", "static_configs": [{"targets": list(targets)}]}],
    }
    (directory / "prometheus.yml").write_text(yaml.safe_dump(config), "utf-8")
    log = directory / "prometheus.log"
    words = [
        binary("prometheus"),
        f"--config.file={directory / 'prometheus.yml'}",
        f"--storage.tsdb.path={directory / 'tsdb'}",
        "--web.listen-address=127.0.0.1:0",
        "--log.format=json",
    ]
    with ends_with_us(words, log):
        address = await eventually(lambda: asyncio.to_thread(_listening, log))
        async with httpx.AsyncClient(base_url=f"http://{address}", trust_env=False, timeout=TIMEOUT_S) as client:
            await eventually(lambda: _ready(client))  # it listens before it answers queries
            yield client


async def _ready(client: httpx.AsyncClient) -> bool:
    return (await client.get("/-/ready")).is_success


def _listening(log: Path) -> str | None:
    lines = [json.loads(line) for line in log.read_text("utf-8").splitlines() if line.endswith("}")]
    return next((str(line["address"]) for line in lines if line.get("msg") == "Listening on"), None)
