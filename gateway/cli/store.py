"""The store as the commands use it: Redis as the settings name it, or the embedded one."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from typing import TypeVar

from gateway.cli.output import failures
from gateway.config import Settings
from gateway.service.tenants import TenantAdmin
from gateway.store.connect import RedisClient
from gateway.store.opening import Patience, open_store
from gateway.store.scripts import Scripts, load_scripts
from gateway.store.tenants import RedisTenants

# An operator waits longer than admission may.
PATIENCE = Patience(connect_s=2.0, read_s=5.0, connections=8)
DEADLINE_S = 8.0
SANDBOX_MARK = "sandbox"
"""File in a data directory whose ledger is of jobs that ran on a sandbox."""

T = TypeVar("T")


def tenant_admin(client: RedisClient) -> TenantAdmin:
    """Compose the administration of tenants on a connection."""
    scripts = Scripts(client, deadline_s=DEADLINE_S)
    return TenantAdmin(RedisTenants(client, scripts, load_scripts()))


def with_store(work: Callable[[RedisClient], Awaitable[T]]) -> T:
    """Run a command's work on the store that the environment names; failures end the process with their code."""

    async def run() -> T:
        async with open_store(Settings.from_env(os.environ), PATIENCE) as client:
            return await work(client)

    with failures():
        return asyncio.run(run())


def administer(work: Callable[[TenantAdmin], Awaitable[T]]) -> T:
    """Do as `with_store`, for work on tenants."""
    return with_store(lambda client: work(tenant_admin(client)))
