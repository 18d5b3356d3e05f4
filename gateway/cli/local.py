"""A whole gateway in one process, for trials: embedded store, sandbox upstream, data plane, a tenant with a key."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from gateway.catalogue import ModelOverride, load_catalogue
from gateway.cli.serve import Serving, serving
from gateway.cli.store import DEADLINE_S, PATIENCE, SANDBOX_MARK
from gateway.config import Settings
from gateway.core.credits import NANO
from gateway.core.policy import Policy
from gateway.core.tenant import Secret, TenantPolicy
from gateway.errors import ConfigError, StoreNotReady
from gateway.sandbox.server import running
from gateway.sandbox.settings import SandboxSettings
from gateway.service.spec import DeclaredRules
from gateway.service.tenants import NewKey, TenantAdmin
from gateway.store.connect import RedisClient
from gateway.store.embedded import is_new
from gateway.store.opening import open_store
from gateway.store.readiness import ensure_epoch
from gateway.store.scripts import Scripts, load_scripts
from gateway.store.tenants import RedisTenants

MODEL: Final = "kling-2.6-standard-motion-control"
TENANT: Final = TenantPolicy(id="demo", name="Demo tenant", budgets={"month": 50 * NANO})
EXAMPLE: Final = {
    "prompt": "cat and dog are dancing.",
    "image_url": "https://segmind-resources.s3.amazonaws.com/input/character.png",
    "video_url": "https://segmind-resources.s3.amazonaws.com/input/motion.mp4",
    "character_orientation": "video",
}
"""Parameters of `MODEL`; the sandbox fetches none of the URLs."""

READY_TIMEOUT_S = 10.0
_COMPANY_KEY = "SG_5a4db0c5e9000001"
_SEED = 3  # its first job costs less than was held
_POLL_S = 0.02


@dataclass(frozen=True, slots=True)
class LocalGateway:
    """Reach what `local_gateway` runs."""

    serving: Serving
    sandbox_url: str
    key: NewKey


@asynccontextmanager
async def local_gateway(settings: Settings, stream: BinaryIO, *, time_scale: float) -> AsyncIterator[LocalGateway]:
    """Run a gateway against a sandbox while the block runs.

    Args:
        settings: Of them, the data directory, host, ports and log level; Redis and the upstream are its own.
        stream: Takes the log lines.
        time_scale: How many times faster than the vendor jobs run.

    Raises:
        ConfigError: A port is taken, or the data directory holds a ledger of real jobs.
        StoreError: The store can't be used.
    """
    _mark(settings.data_dir)
    embedded = settings.model_copy(update={"redis_url": None})
    sandbox = SandboxSettings(api_keys=(_COMPANY_KEY,), seed=_SEED, time_scale=time_scale)
    async with running(sandbox) as vendor, open_store(embedded, PATIENCE) as client:
        key = await _provide(client, time_scale)
        ours = settings.model_copy(
            update={
                "redis_url": None,
                "role": "all",
                "upstream_url": vendor.url,
                "storage_url": vendor.url,
                "history_url": vendor.url,
                "segmind_api_key": Secret(_COMPANY_KEY),
                "segmind_api_key_file": None,
            }
        )
        async with serving(ours, stream) as served:
            await _ready(served)
            yield LocalGateway(served, vendor.url, key)


def free_or_any(host: str, port: int) -> int:
    """Return ``port``, or 0 (any free one) where it is taken."""
    try:
        socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET).close()
    except OSError:
        return 0
    return port


def _mark(data_dir: Path) -> None:
    """Mark a new data directory as a sandbox's; refuse one that is not.

    A tracker that asks the sandbox about jobs of the real vendor would find none of them, and write them off.
    """
    mark = data_dir / SANDBOX_MARK
    if mark.exists():
        return
    if not is_new(data_dir):
        raise ConfigError(
            f"GATEWAY_DATA_DIR: {data_dir} holds a ledger that is not a sandbox's; name another directory"
        )
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        mark.write_text("The ledger in this directory is of jobs that ran on a sandbox.\n", encoding="utf-8")
    except OSError as exc:
        raise ConfigError(f"GATEWAY_DATA_DIR: {data_dir}: {exc.strerror}") from exc


async def _provide(client: RedisClient, time_scale: float) -> NewKey:
    """See to the tenant, a fresh key, and latencies as fast as the sandbox; what an operator applied stays."""
    await ensure_epoch(client)
    store = RedisTenants(client, Scripts(client, deadline_s=DEADLINE_S), load_scripts())
    if await store.rules() is None:
        await store.put_rules(_rules(time_scale))
    record = await store.tenant(TENANT.id)
    if record is None or record.removed:
        await store.put(TENANT)
    return await TenantAdmin(store).create_key(TENANT.id, name="gateway dev")


def _rules(time_scale: float) -> DeclaredRules:
    scaled = (
        ModelOverride(model.slug, expected_latency_s=max(1, round(model.expected_latency_s / time_scale)))
        for model in load_catalogue().models()
    )
    return DeclaredRules(Policy(), tuple(scaled))


async def _ready(served: Serving) -> None:
    try:
        async with asyncio.timeout(READY_TIMEOUT_S):
            while served.readiness.reasons:  # noqa: ASYNC110  # set from a thread-safe value that wakes nobody
                await asyncio.sleep(_POLL_S)
    except TimeoutError:
        raise StoreNotReady("; ".join(served.readiness.reasons.values())) from None
